"""The human monitor's commands, and what the gdb server says of registers.

The argument letters, which no QEMU shows, come from schemas/overlays/hmp-arguments.json.
"""

from __future__ import annotations

import re
import socket
from typing import Any

from fakeqemu.profile import store
from fakeqemu.profile.inferred import nearest
from fakeqemu.recorder.qemu import TIMEOUT, Emulator, Gone, Qemu

_TARGET = "target.xml"
_PIECE = 0x400
_TABLES = (("commands", ""), ("info", "info "))


def record_hmp(emulator: Emulator) -> dict[str, Any]:
    """Both tables of one program, each entry with its argument letters, and the log items.

    `inferred`: commands that are described for no version, whose letters follow from their help.
    """
    with Qemu(emulator, *emulator.none, "-preconfig", monitor=True) as qemu:
        _until_prompt(qemu)
        before = {prefix: _run(qemu, f"help {prefix}".strip()) for _, prefix in _TABLES}
    with Qemu(emulator, *emulator.none) as qemu:
        listings = {prefix: qemu.hmp(f"help {prefix}".strip()) for _, prefix in _TABLES}
        log = qemu.hmp("help log")
    letters = Letters(emulator.version)
    tables: dict[str, Any] = {
        key: _entries(listings[prefix], prefix, before[prefix], letters) for key, prefix in _TABLES
    }
    inferred = {"inferred": sorted(letters.inferred)} if letters.inferred else {}
    return {**tables, "log": log.replace("\r\n", "\n"), **inferred}


class Letters:
    """The argument letters of a version's commands."""

    def __init__(self, version: tuple[int, int]) -> None:
        overlay = store.read_overlay_data("hmp-arguments")
        versions = nearest([name for name in overlay if name[:1].isdigit()], version)
        name = ".".join(map(str, version))
        self._exact: dict[str, str] = overlay.get(name, {})
        self._common: dict[str, str] = overlay["common"]
        #: of a version that is not described: all that there are, the nearest version's first
        self._others: list[dict[str, str]] = (
            [] if name in overlay else [overlay[each] for each in versions]
        )
        #: commands of no version that is described
        self.inferred: set[str] = set()

    def knows(self, command: str) -> bool:
        """Whether some version's letters are described."""
        return any(command in each for each in (self._exact, self._common, *self._others))

    def of(self, command: str, signature: str) -> str:
        """The letters of a command whose help names its parameters so."""
        if command in self._exact:
            return self._exact[command]
        known = [each[command] for each in (self._common, *self._others) if command in each]
        if not self._others and known:
            return known[0]
        flags = set(_FLAG.findall(signature))
        fitting = [text for text in known if {f"-{f}" for f in _OPTION.findall(text)} == flags]
        if known:
            return (fitting or known)[0]
        self.inferred.add(command)
        return letters_of(signature)


#: a switch in a command's help, and among its letters
_FLAG = re.compile(r"(?<![\w-])-[a-zA-Z](?!\w)")
_OPTION = re.compile(r":-(\w)")
_PARAMETER = re.compile(r"\[?(?:-([a-zA-Z])(?!\w)|([\w-]+))[^\s\[]*")


def letters_of(signature: str) -> str:
    """Letters that fit the parameters of a command's help: strings, and switches."""
    found = []
    for match in _PARAMETER.finditer(signature):
        switch, name = match.groups()
        if switch:
            found.append(f"{switch}:-{switch}")
        else:
            found.append(f"{name}:s{'?' if match[0].startswith('[') else ''}")
    return ",".join(found)


def _entries(listing: str, prefix: str, before: str, letters: Letters) -> list[dict[str, Any]]:
    rest = listing.replace("\r\n", "\n")
    names = _heads(rest, prefix, letters)
    early = set(_heads(before, prefix, letters))
    entries = []
    for name, following in zip(names, [*names[1:], ""], strict=True):
        found = following and re.search("^" + re.escape(prefix + following) + " ", rest[1:], re.M)
        end = found.start() + 1 if found else len(rest)
        about = rest[:end].removeprefix(prefix)
        signature = about.partition(" -- ")[0].partition(" ")[2]
        entries.append(
            {
                "name": name,
                "args": letters.of(prefix + name, signature),
                "preconfig": name in early,
                "help": about,
            }
        )
        rest = rest[end:]
    return entries


def _heads(text: str, prefix: str, letters: Letters) -> list[str]:
    """The commands that a listing of help starts lines with."""
    found = []
    for line in text.replace("\r", "").split("\n"):
        name = line.removeprefix(prefix).split(" ")[0]
        # help goes on in further lines, which may begin with a command's name
        if letters.knows(prefix + name) or (
            line.startswith(prefix) and " -- " in line and re.fullmatch(r"[\w|-]+", name)
        ):
            found.append(name)
    return found


def _run(qemu: Qemu, line: str) -> str:
    qemu.monitor.sendall(line.encode() + b"\n")
    return _until_prompt(qemu)


def _until_prompt(qemu: Qemu) -> str:
    """What the human monitor prints until it is ready for the next line."""
    text = ""
    while not text.endswith("\n(qemu) "):
        piece = qemu.monitor.recv(65536)
        if not piece:
            raise Gone([])
        text += piece.decode("latin-1").replace("\r", "")
    return text


def record_gdb_features(emulator: Emulator) -> dict[str, str]:
    """File name -> content: `target.xml` and what it includes."""
    with Qemu(emulator, *emulator.machine(emulator.board.name, "-nodefaults")) as qemu:
        qemu.hmp("gdbserver tcp:127.0.0.1:0")
        names = {each["label"]: each["filename"] for each in qemu.value("query-chardev")}
        port = re.search(r"tcp:127\.0\.0\.1:(\d+)", names["gdb"])
        if port is None:
            raise RuntimeError(f"no port in {names['gdb']!r}")
        with socket.create_connection(("127.0.0.1", int(port[1])), TIMEOUT) as client:
            found = {_TARGET: _read(client, _TARGET)}
            for name in re.findall(r'include href="([^"]+)"', found[_TARGET]):
                found[name] = _read(client, name)
    return found


def _read(client: socket.socket, name: str) -> str:
    """One file, asked for piece by piece."""
    content = b""
    while True:
        asked = f"qXfer:features:read:{name}:{len(content):x},{_PIECE:x}".encode()
        client.sendall(b"+$%b#%02x" % (asked, sum(asked) & 0xFF))
        answer = b""
        while not re.search(rb"#[0-9a-f]{2}$", answer):
            data = client.recv(65536)
            if not data:
                raise RuntimeError(f"the server closed the connection over {name}")
            answer += data
        data = answer[answer.index(b"$") + 1 : -3]
        content += re.sub(rb"}(.)", lambda hit: bytes([hit[1][0] ^ 0x20]), data[1:])
        if data[:1] != b"m":
            return content.decode("latin-1")
