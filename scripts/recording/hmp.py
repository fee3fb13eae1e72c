"""The human monitor's commands: help and availability from the running program.

The argument letters, which no QEMU shows, come from schemas/overlays/hmp-arguments.json.
"""

from __future__ import annotations

import json
import re
from typing import Any

from fakeqemu.profile import store
from recording.parts import NONE
from recording.qemu import Gone, Qemu

_TABLES = (("commands", ""), ("info", "info "))


def record_hmp(binary: str, version: str) -> dict[str, Any]:
    """Both tables of one program, each entry with its argument letters, and the log items."""
    overlay = json.loads((store.schemas_dir() / "overlays" / "hmp-arguments.json").read_text())
    letters = {**overlay["common"], **overlay.get(version, {})}
    with Qemu(binary, *NONE, "-preconfig", monitor=True) as qemu:
        _until_prompt(qemu)
        before = {prefix: _run(qemu, f"help {prefix}".strip()) for _, prefix in _TABLES}
    with Qemu(binary, *NONE) as qemu:
        listings = {prefix: qemu.hmp(f"help {prefix}".strip()) for _, prefix in _TABLES}
        log = qemu.hmp("help log")
    tables: dict[str, Any] = {
        key: _entries(listings[prefix], prefix, before[prefix], letters) for key, prefix in _TABLES
    }
    return {**tables, "log": log.replace("\r\n", "\n")}


def _entries(
    listing: str, prefix: str, before: str, letters: dict[str, str]
) -> list[dict[str, Any]]:
    rest = listing.replace("\r\n", "\n")
    names = _heads(rest, prefix, letters)
    early = set(_heads(before, prefix, letters))
    entries = []
    for name, following in zip(names, [*names[1:], ""], strict=True):
        found = following and re.search("^" + re.escape(prefix + following) + " ", rest[1:], re.M)
        end = found.start() + 1 if found else len(rest)
        entries.append(
            {
                "name": name,
                "args": letters[prefix + name],
                "preconfig": name in early,
                "help": rest[:end].removeprefix(prefix),
            }
        )
        rest = rest[end:]
    return entries


def _heads(text: str, prefix: str, letters: dict[str, str]) -> list[str]:
    """The commands that a listing of help starts lines with."""
    names = [line.removeprefix(prefix).split(" ")[0] for line in text.split("\n")]
    return [name for name in names if prefix + name in letters]


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
