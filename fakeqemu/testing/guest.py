"""A guest in a tester's words: {"memory": "64G", "dirty-rate": "2G/s"}.

Only what a migration has to carry is described; see `migration.workload`.
"""

from __future__ import annotations

import re
from typing import Any

from fakeqemu.testing.nearest import UnknownNameError

#: a tester's word -> member of Workload, and whether it is an amount ("64G", "2G/s")
WORDS: dict[str, tuple[str, bool]] = {
    "memory": ("ram", True),
    "dirty-rate": ("dirty_rate", True),
    "working-set": ("working_set", True),
    "link": ("link", True),
    "bandwidth": ("link", True),
    "zero-permille": ("zero_permille", False),
    "device-state": ("device_bytes", True),
    "vcpus": ("vcpus", False),
}
_UNITS = {"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


def workload_members(guest: dict[str, Any] | None) -> dict[str, int]:
    """Members of `Workload`. Raises UnknownNameError, ValueError.

    A guest that says how fast it writes and not how far writes to all of its memory.
    """
    members: dict[str, int] = {}
    for word, value in (guest or {}).items():
        if word not in WORDS:
            raise UnknownNameError("property of a guest", word, WORDS)
        member, is_amount = WORDS[word]
        members[member] = amount(value) if is_amount else int(value)
    if "dirty_rate" in members and "working_set" not in members and "ram" in members:
        members["working_set"] = members["ram"]
    return members


def amount(value: int | str) -> int:
    """Bytes, or bytes a second: 4096, "64G", "2 GiB/s". Raises ValueError."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"([\d.]+)\s*([BKMGTP]?)(?:i?B)?(?:/s)?", value.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"no amount: {value!r} (such as '64G' or '2G/s')")
    return int(float(match[1]) * (1 << _UNITS[match[2].upper()]))
