"""Faults made of names and parameters: the one place that builds and checks them.

`faults.add`, scenario files, stages, fleets and the control socket all come here. A name may be
a fault's or a scenario's; parameters given with a scenario's name go to each of its faults that
has such a parameter.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import fields
from fakeqemu.testing.clock.duration import is_countable
from fakeqemu.testing.faults.model import FAULTS, PLACES, POINTS, ExitFault, Fault, LoadFails
from fakeqemu.testing.names import check_name
from fakeqemu.testing.scenarios.catalog import SCENARIOS

if TYPE_CHECKING:
    from fakeqemu.profile import Profile
    from fakeqemu.testing.faults.held_commands import Active

_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "float": (int, float), "bool": (bool,),
}  # fmt: skip


def build_faults(name: Any, parameters: Mapping[str, Any], profile: Profile) -> list[Fault]:
    """What a fault's or a scenario's name stands for. Raises ValueError, UnknownNameError."""
    given = {key.replace("-", "_"): value for key, value in parameters.items()}
    if not isinstance(name, str) or name not in SCENARIOS or (name in FAULTS and given):
        check_name("fault or scenario", name, {*FAULTS, *SCENARIOS})
        return [build_fault(name, given, profile)]
    faults = SCENARIOS[name].faults
    for key in given:
        everywhere = {field.name for each in faults for field in fields(type(each))}
        check_name(f"parameter of scenario {name!r} called", key, everywhere)
    return [
        build_fault(fault.name, {**changed(fault), **_own(fault, given)}, profile)
        for fault in faults
    ]


def build_fault(name: str, parameters: Mapping[str, Any], profile: Profile) -> Fault:
    """The fault called `name`. Raises ValueError, UnknownNameError for what it names."""
    kind = FAULTS[check_name("fault", name, FAULTS)]
    known = {field.name: str(field.type) for field in fields(kind)}
    for key, value in parameters.items():
        check_name(f"parameter of fault {name!r} called", key, known)
        _check_type(name, key, known[key], value)
    fault = kind(**parameters)
    _check(fault, profile)
    return fault


def named(fault: Fault, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a fault that is ready made. Raises ValueError for further ones."""
    if parameters:
        raise ValueError("a fault that is ready made takes no parameters")
    return fault.name, changed(fault)


def describe(active: Active) -> dict[str, Any]:
    """A fault as plain data: number, name, hits and what differs from the default."""
    counted = {"number": active.number, "name": active.fault.name, "hits": active.hits}
    return {**counted, **changed(active.fault)}


def changed(fault: Fault) -> dict[str, Any]:
    """What differs from the default: with the name, all that makes the fault."""
    default = type(fault)()
    values = {field.name: getattr(fault, field.name) for field in fields(type(fault))}
    return {key: value for key, value in values.items() if value != getattr(default, key)}


def _own(fault: Fault, given: Mapping[str, Any]) -> dict[str, Any]:
    own = {field.name for field in fields(type(fault))}
    return {key: value for key, value in given.items() if key in own}


def _check_type(name: str, key: str, wanted: str, value: Any) -> None:
    plain = wanted.replace(" | None", "")
    if plain not in _KINDS or (value is None and plain != wanted):
        return
    if not isinstance(value, _KINDS[plain]) or (plain != "bool" and isinstance(value, bool)):
        raise ValueError(f"{key} of fault {name!r} must be {plain}, not {value!r}")
    if plain == "float" and not is_countable(value):
        raise ValueError(f"{key} of fault {name!r} is more than a clock counts: {value!r}")


def _check(fault: Fault, profile: Profile) -> None:
    """Whether everything it names is there in this version, and amounts are in range."""
    schema = profile.schema
    known: dict[str, tuple[str, Any]] = {
        "command": ("command", schema.commands),
        "event": ("event", schema.events),
        "stale": ("event", schema.events),
        "migration": ("migration status", schema.enum_values("MigrationStatus")),
        "until_migration": ("migration status", schema.enum_values("MigrationStatus")),
        "runstate": ("run state", schema.enum_values("RunState")),
        "until_runstate": ("run state", schema.enum_values("RunState")),
        "place": ("place", PLACES),
        "before": ("place", ("greeting", "negotiation", "reply")),
        "at": ("point of a process's life", POINTS),
        "operation": ("operation", ("read", "write")),
        "errno": ("error of a disk", ("EIO", "ENOSPC")),
    }
    for key, (what, names) in known.items():
        value = getattr(fault, key, None)
        if value is not None and not (key == "command" and _is_other_command(value, profile)):
            check_name(what, value, names)
    if not 0 <= fault.probability <= 1:
        raise ValueError(f"probability must be between 0 and 1, not {fault.probability}")
    if fault.skip < 0 or (fault.count is not None and fault.count < 0):
        raise ValueError("skip and count must not be negative")
    if fault.channel and "channel" not in fault.stages:
        raise ValueError(f"fault {fault.name!r} does not apply to a migration channel")
    if getattr(fault, "size", 1) < 1:
        raise ValueError(f"size of fault {fault.name!r} must be at least 1")
    if isinstance(fault, ExitFault) and fault.signal is not None:
        _check_signal(fault.signal)
    if getattr(fault, "at", "") != "before-socket" and "text" in changed(fault):
        raise ValueError("text of fault 'exit' is said before-socket only: at = 'before-socket'")
    if isinstance(fault, LoadFails):
        errno_of(fault.desc)
    if not 0 <= getattr(fault, "percent", 0) <= 100:
        raise ValueError(f"percent of fault {fault.name!r} must be between 0 and 100")
    if getattr(fault, "seconds", None) is not None and fault.seconds < 0:  # type: ignore[attr-defined]
        raise ValueError(f"seconds of fault {fault.name!r} must not be negative")


def errno_of(text: str) -> int:
    """The number of a system error. Raises UnknownNameError for what is the text of none."""
    texts = {os.strerror(number): number for number in errno.errorcode}
    return texts[check_name("text of a system error", text, texts)]


def _is_other_command(name: Any, profile: Profile) -> bool:
    """Whether it is a command of the human monitor or of the guest agent.

    Raises UnknownNameError for one that no protocol has.
    """
    if not isinstance(name, str) or name in profile.schema.commands:
        return False
    from fakeqemu.commands.hmp.definitions import HmpTable
    from fakeqemu.model.guest.agent_commands import NAMES

    if name in NAMES:
        return True
    entries, known = HmpTable.of(profile).commands, []
    for word in name.split() or [""]:
        known += [each for entry in entries for each in entry.name.split("|")]
        entry = HmpTable.find(entries, word)
        if entry is None:
            check_name("command", name, {*profile.schema.commands, *NAMES, *known})
            return False
        if entry.table is None:
            return True  # what follows are its arguments
        entries = entry.table
    return True


def _check_signal(given: Any) -> None:
    if isinstance(given, str):
        names = [each.name.removeprefix("SIG") for each in signal.Signals]
        check_name("signal", given.upper().removeprefix("SIG"), names)
    elif isinstance(given, bool) or not isinstance(given, int) or not 0 < given < signal.NSIG:
        raise ValueError(f"signal of fault 'exit' must be a signal, not {given!r}")
