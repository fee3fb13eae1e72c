"""-smp: what a machine type makes of the numbers asked for.

See hw/core/machine-smp.c: machine_parse_smp_config().
"""

from __future__ import annotations

from collections.abc import Mapping

from fakeqemu.boot.error_report import Messages
from fakeqemu.model.boards.cpus import Topology, work_out
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import MachineType
from fakeqemu.qapi.errors import QapiError

#: PC machine types up to this one fill sockets before cores
_PREFER_SOCKETS_UP_TO = (6, 1)
#: levels that only some machine types have, in the order of the checks
_SPECIAL_LEVELS = ("modules", "clusters", "dies", "books", "drawers")
#: those that the PC machine types have, if the version has them
_PC_LEVELS = ("dies", "modules")

_LARGEST = 0xFFFFFFFF
_ZERO = "CPU topology parameters must be greater than zero"


def topology(
    asked: Mapping[str, int], profile: Profile, machine: MachineType, messages: Messages
) -> Topology:
    """The topology for -smp's numbers (`cpus`, `maxcpus` and levels). Raises QapiError."""
    supported = _supported(profile, machine)
    if 0 in asked.values():
        if profile.traits.smp_zero_refused:
            raise QapiError(f"Invalid CPU topology: {_ZERO}")
        messages.warn(f"Deprecated CPU topology (considered invalid): {_ZERO}")
        asked = {level: value for level, value in asked.items() if value}
    for level in _SPECIAL_LEVELS:
        if level not in supported and asked.get(level, 0) > 1:
            limit = " > 1" if profile.traits.smp_unsupported_names_limit else ""
            raise QapiError(f"{level}{limit} not supported by this machine's CPU topology")
    # what is worked with has 32 bits; where they are all 0 it is as if nothing had been said
    asked = {level: cut for level, value in asked.items() if (cut := value & _LARGEST)}
    version = machine.numbers
    return work_out(
        asked,
        prefer_sockets=bool(version) and version <= _PREFER_SOCKETS_UP_TO,
        cpu_max=machine.cpu_max,
        machine=machine.name,
        shown=supported,
    )


def _supported(profile: Profile, machine: MachineType) -> tuple[str, ...]:
    if not profile.is_a(machine.typename, "generic-pc-machine"):
        try:
            recorded = profile.per_machine(machine.name).get("topology")
        except KeyError:
            return ()
        return tuple(recorded["special"]) if recorded is not None else ()
    group = next(g for g in profile.option_groups if g["option"] == "smp-opts")
    known = {key["name"] for key in group["parameters"]}
    return tuple(level for level in _PC_LEVELS if level in known)
