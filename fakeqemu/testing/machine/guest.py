"""A guest in a tester's words: {"memory": "64G", "dirty-rate": "2G/s", "unplug": "acknowledge"}.

What a migration has to carry (see `migration.workload`), how the guest reacts to what the host
asks, and what it does by itself (see `model.guest`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fakeqemu.model.guest.guest import CHOICES
from fakeqemu.model.guest.verbs import VERBS
from fakeqemu.testing.names import UnknownNameError

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
_AMOUNT = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]*)?|\.[0-9]+)\s*([BKMGTP]?)(?:i?B)?(?:/s)?", re.IGNORECASE
)
_UNITS = {"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


def workload_members(guest: dict[str, Any] | None) -> dict[str, int]:
    """Members of `Workload` among the words. Raises UnknownNameError, ValueError.

    A guest that says how fast it writes and not how far writes to all of its memory; without its
    memory's size a rate, and without a rate the extent of its writes, would have no effect.
    """
    members: dict[str, int] = {}
    for word, value in (guest or {}).items():
        if word in CHOICES:
            continue
        if word not in WORDS:
            raise UnknownNameError("property of a guest", word, {**WORDS, **CHOICES})
        member, is_amount = WORDS[word]
        members[member] = amount(value) if is_amount else _count(word, value)
    if "dirty_rate" in members and "ram" not in members:
        raise ValueError("dirty-rate has no effect without memory: say how much there is")
    if "working_set" in members and "dirty_rate" not in members:
        raise ValueError("working-set has no effect without dirty-rate: say how fast it writes")
    if "dirty_rate" in members and "working_set" not in members:
        members["working_set"] = members["ram"]
    return members


def amount(value: int | str) -> int:
    """Bytes, or bytes a second: 4096, "64G", "2 GiB/s". Raises ValueError."""
    if isinstance(value, int):
        return value
    match = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"no amount: {value!r} (such as '64G' or '2G/s')")
    return int(float(match[1]) * (1 << _UNITS[match[2].upper()]))


def _count(word: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{word} takes a whole number, not {value!r}")
    return value


def manners_of(guest: Mapping[str, Any] | None) -> dict[str, Any]:
    """How the guest reacts, among the words. Raises ValueError."""
    manners = {word: value for word, value in (guest or {}).items() if word in CHOICES}
    for word, value in manners.items():
        choices = CHOICES[word]
        if choices is not None and value not in choices:
            raise ValueError(f"{word} is one of {', '.join(choices)}, not {value!r}")
    return manners


def check_guest(guest: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The words as the verbs that bring them about, with their arguments. Raises ValueError."""
    found: dict[str, dict[str, Any]] = {}
    if members := workload_members(guest):
        found["workload"] = {"members": members}
    if manners := manners_of(guest):
        found["guest"] = {"verb": "behave", "parameters": manners}
    return found


def check_verb(verb: Any, parameters: Mapping[str, Any]) -> None:
    """Whether a guest has the verb, and the verb these parameters. Raises UnknownNameError."""
    if verb not in VERBS:
        raise UnknownNameError("guest verb", str(verb), VERBS)
    for name in parameters:
        if name.replace("-", "_") not in VERBS[verb].parameters:
            raise UnknownNameError(
                f"parameter of guest verb {verb!r}", name, VERBS[verb].parameters
            )
