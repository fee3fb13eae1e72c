"""What one machine sends when it migrates, and its blockers.

Members as in part `migratability` (see `migration`): `unmigratable`, `blockers`, `cpr-blockers`,
`ram`.
"""

from __future__ import annotations

import re
from typing import Any

from fakeqemu.recorder.qemu import Qemu

_PATH = re.compile(r"(?:non-migratable device: )?(?:.*/)?([^/]+)")
_DEVICE = "non-migratable device: "
_MEMORY = re.compile(r"Memory region .* is not compatible with CPR\.")
_BLOCK = re.compile(r"\s*(\S+)\s+\d+ [KMG]iB" + 3 * r"\s+(0x[0-9a-f]+)")
#: memory of the object that devices are given
_HELPER = "m0"


def what_is_sent(qemu: Qemu) -> dict[str, list[Any]]:
    """All members, empty ones too."""
    reasons = _reasons(qemu)
    seen: dict[str, list[Any]] = {
        "unmigratable": [_name(r) for r in reasons if r.startswith(_DEVICE)],
        "blockers": [r for r in reasons if not r.startswith(_DEVICE)],
        "cpr-blockers": [],
        "ram": _blocks(qemu.hmp("info ramblock")),
    }
    if "return" in qemu.ask("migrate-set-parameters", {"mode": "cpr-transfer"}):
        more = [r for r in _reasons(qemu) if r not in reasons]
        seen["cpr-blockers"] = [r for r in more if not _MEMORY.match(r)]
    return seen


def _reasons(qemu: Qemu) -> list[str]:
    reasons: list[str] = qemu.value("query-migrate").get("blocked-reasons", [])
    return reasons


def _name(reason: str) -> str:
    match = _PATH.fullmatch(reason)
    assert match is not None
    return match[1]


def _blocks(text: str) -> list[Any]:
    """The RAM blocks of `info ramblock` in the order in which they were made."""
    found: list[tuple[int, list[Any]]] = []
    for line in text.splitlines():
        match = _BLOCK.match(line)
        if match is None:
            continue
        path, slash, name = match[1].rpartition("/")
        if not slash or not re.match(r"[0-9a-f]{4}:", path):
            path, name = "", match[1]
        if name != _HELPER:
            offset, used, reserved = (int(match[n], 16) for n in (2, 3, 4))
            found.append((offset, [name, path, used, reserved]))
    # addresses are given out in order of creation
    return [block for _, block in sorted(found)]
