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


#: level of a topology -> what its machine type is said to have of it; others all have
_LEVELS = {"module": "modules", "cluster": "clusters", "die": "dies", "book": "books",
           "drawer": "drawers"}  # fmt: skip
#: caches, and which CPUs share one where nobody says (target/i386/cpu.c: CPUCacheInfo)
_SHARED_BY = {"l1d": "core", "l1i": "core", "l2": "core", "l3": "die"}
_FROM_BELOW = ("thread", "core", "module", "cluster", "die", "socket", "book", "drawer")


def check_smp_cache(caches: list[dict[str, str]], profile: Profile, machine: MachineType) -> None:
    """-machine smp-cache: which CPUs share a cache. Raises QapiError.

    See hw/core/machine-smp.c: machine_parse_smp_cache(); target/i386/cpu.c:
    x86_cpu_update_smp_cache_topo().
    """
    asked: dict[str, str] = {}
    for each in caches:
        if each["cache"] in asked:
            raise QapiError(
                f"Invalid cache properties: {each['cache']}. The cache properties are duplicated"
            )
        asked[each["cache"]] = each["topology"]
    levels = {
        cache: asked[cache] for cache in _SHARED_BY if asked.get(cache, "default") != "default"
    }
    supported = _supported(profile, machine)
    for cache, level in levels.items():
        if not profile.is_a(machine.typename, "generic-pc-machine"):
            raise QapiError(f"{cache} cache topology not supported by this machine")
        if level == "thread":
            raise QapiError(f"{level} level cache not supported by this machine")
        if level in _LEVELS and _LEVELS[level] not in supported:
            raise QapiError(
                f"Invalid topology level: {level}. The topology level is not supported by this "
                "machine"
            )
    rank = {cache: _FROM_BELOW.index(level) for cache, level in {**_SHARED_BY, **levels}.items()}
    for upper, lowers in (("l2", ("l1d", "l1i")), ("l3", ("l2",))):
        if any(rank[lower] > rank[upper] for lower in lowers):
            raise QapiError(
                f"Invalid smp cache topology. {upper.upper()} cache topology level shouldn't be "
                f"lower than L{int(upper[1]) - 1} cache"
            )
