"""The human monitor's side of trace events.

See trace/trace-hmp-cmds.c: hmp_trace_event() and hmp_info_trace_events().
"""

from __future__ import annotations

from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError

_NEGATIVE = "argument vcpu must be positive"


@hmp("info trace-events")
def info_trace_events(vm: Machine, name: str = "*", vcpu: int | None = None) -> str:
    """Which events there are, and which are on."""
    if vcpu is not None and vcpu < 0:
        return _NEGATIVE
    try:
        found = vm.trace_events.get(name, vcpu)
    except QapiError as error:
        return f"{error.desc}\n"
    return "".join(f"{name} : state {on:d}\n" for name, _, on in found)


@hmp("trace-event")
def trace_event(vm: Machine, name: str, option: bool, vcpu: int | None = None) -> str:
    """Switch events."""
    if vcpu is not None and vcpu < 0:
        return _NEGATIVE
    try:
        vm.trace_events.set(name, option, vcpu)
    except QapiError as error:
        return f"{error.desc}\n"
    return ""
