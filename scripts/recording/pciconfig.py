"""PCI configuration space of boards and devices, as it is before any firmware has run.

Part `pci-config`: {"machines": {type: {"bare": SPACE, "full": SPACE}}, "devices": {type: FUNCTION}}
with SPACE = {"1f.0": FUNCTION} and FUNCTION = [contents, writable bits], both 256 bytes in
hexadecimal. What is writable is found by writing ones and zeros; registers whose writing has
effects are left as they are found.
"""

from __future__ import annotations

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from fakeqemu.profile import Profile
from recording.devices import HELPERS, surroundings

_SIZE = 256
_TIMEOUT = 60.0
_SLOT = 0x10


class Ports:
    """A stopped machine whose I/O ports are ours, until `close`."""

    def __init__(self, binary: str, *argv: str) -> None:
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        chardev = ["-chardev", f"socket,id=recorder,fd={fd}"]
        server = ["-object", "qtest,id=recorder,chardev=recorder,log=none"]
        self._process = subprocess.Popen(
            [binary, *argv, "-display", "none", *chardev, *server],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[fd],
        )
        theirs.close()
        ours.settimeout(_TIMEOUT)
        self._socket = ours
        self._lines = ours.makefile("r", encoding="utf-8")

    def close(self) -> None:
        """End the machine."""
        self._process.kill()
        self._process.wait()
        self._lines.close()
        self._socket.close()

    def ask(self, lines: list[str]) -> list[str]:
        """Answers to `lines`. Raises EOFError when there is no such machine."""
        try:
            self._socket.sendall("".join(f"{line}\n" for line in lines).encode())
            answers = [self._lines.readline().strip() for _ in lines]
        except OSError:
            raise EOFError from None
        if not all(answers):
            raise EOFError
        return answers

    def registers(self, number: int, write: int | None = None) -> list[int]:
        """The 64 registers of device-function `number`, after writing `write` to each."""
        out: list[int] = []
        for register in range(0, _SIZE, 4):
            select = f"outl 0xcf8 {0x80000000 | number << 8 | register:#x}"
            if write is None:
                answers = self.ask([select, "inl 0xcfc"])
                out.append(int(answers[1].split()[1], 16))
            else:
                answers = self.ask([select, "inl 0xcfc", f"outl 0xcfc {write:#x}", "inl 0xcfc"])
                before = answers[1].split()[1]
                out.append(int(answers[3].split()[1], 16))
                self.ask([f"outl 0xcfc {before}"])
        return out

    def functions(self) -> list[int]:
        """Device-functions that answer on the first bus."""
        asked: list[str] = []
        for number in range(256):
            asked += [f"outl 0xcf8 {0x80000000 | number << 8:#x}", "inl 0xcfc"]
        answers = self.ask(asked)[1::2]
        return [n for n, answer in enumerate(answers) if answer != "OK 0xffffffff"]

    def function(self, number: int) -> list[str]:
        """Contents and writable bits of one."""
        found = self.registers(number)
        ones, zeros = self.registers(number, 0xFFFFFFFF), self.registers(number, 0)
        writable = [one & ~zero for one, zero in zip(ones, zeros, strict=True)]
        return [_text(found), _text(writable)]


def _text(registers: list[int]) -> str:
    return b"".join(value.to_bytes(4, "little") for value in registers).hex()


def record_pci_config(binary: str, profile: Profile) -> dict[str, Any]:
    """Boards and devices."""
    boards = [m.name for m in profile.machines if m.name not in ("none", "x-remote")]
    devices = [
        name for name in profile.part("devices") if profile.part("devices").get(name).get("pci")
    ]
    with ThreadPoolExecutor(2) as pool:
        spaces = list(pool.map(lambda name: _board(binary, name), boards))
        functions = list(pool.map(lambda name: _device(binary, name, profile), devices))
    return {
        "pci-config": {
            "machines": {n: s for n, s in zip(boards, spaces, strict=True) if s["bare"]},
            "devices": {n: f for n, f in zip(devices, functions, strict=True) if f},
        }
    }


def _board(binary: str, name: str) -> dict[str, Any]:
    start = ["-machine", name, "-accel", "tcg", "-S", "-m", "64"]
    return {"bare": _space(binary, *start, "-nodefaults"), "full": _space(binary, *start)}


def _space(binary: str, *argv: str) -> dict[str, list[str]]:
    try:
        with closing(Ports(binary, *argv)) as ports:
            return {f"{n >> 3:x}.{n & 7:x}": ports.function(n) for n in ports.functions()}
    except EOFError:
        return {}


def _device(binary: str, name: str, profile: Profile) -> list[str] | None:
    about = profile.part("devices").get(name)
    options = about["options"]
    more: list[str] = []
    for option in options:
        more += HELPERS.get(option, ([], ""))[0]
    texts = [f"{key}={value}" for key, value in options.items() if key not in ("addr", "bus")]
    device = ",".join([name, f"addr={_SLOT:x}", *texts])
    base = surroundings(name, about["class"])
    try:
        with closing(Ports(binary, *base, *more, "-device", device)) as ports:
            return ports.function(_SLOT << 3)
    except EOFError:
        return None
