"""How a machine type numbers its CPUs: rules read off one recorded machine with several CPUs.

A profile's `machine-data` has of each type `topology`: the -smp of a machine that was started,
`levels`, and what it answered: `cpus` (query-cpus-fast) and `slots` (query-hotpluggable-cpus; null
where CPUs cannot be plugged). What each id is of a CPU's number is found by trying what QEMU's
boards do; `cpu-values` has properties in which the second CPU differs from the first.

See hw/arm/virt.c: virt_possible_cpu_arch_ids(); hw/s390x/s390-virtio-ccw.c:
s390_possible_cpu_arch_ids(); hw/ppc/spapr.c: spapr_possible_cpu_arch_ids(); hw/i386/x86.c:
x86_possible_cpu_arch_ids().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.model.boards.cpus import LEVELS, numbers_in_levels

#: id of a CPU -> level that it counts in
_LEVEL_OF = {f"{level[:-1]}-id": level for level in LEVELS}

#: members of query-cpus-fast that every target has
_USUAL = ("cpu-index", "qom-path", "thread-id", "qom-type", "target", "props")

Levels = Mapping[str, int]
_Rule = Callable[[int, Levels], int]


def _in_level(level: str) -> _Rule:
    return lambda index, levels: numbers_in_levels(index, levels)[level]


def _first_of_core(index: int, levels: Levels) -> int:
    return index - index % levels.get("threads", 1)


def _rules(name: str) -> list[_Rule]:
    """What an id of that name may be, the most usual first."""
    rules: list[_Rule] = [_in_level(_LEVEL_OF[name])] if name in _LEVEL_OF else []
    return [*rules, lambda index, _: index, _first_of_core, lambda _index, _levels: 0]


@dataclass(frozen=True, slots=True)
class CpuSlots:
    """The rules of one machine type."""

    #: levels of -smp that it has besides sockets, cores and threads
    levels: tuple[str, ...]
    #: id -> what it is, of a CPU's number and the levels; in QEMU's order
    rules: Mapping[str, _Rule] = field(repr=False)
    #: ids that are there only where their level has more than one
    optional: frozenset[str]
    #: how many CPUs are plugged at once; whole cores, or one
    by_core: bool
    #: whether its CPUs have any ids
    numbered: bool
    #: whether each CPU is on a NUMA node even if there are none
    always_on_node: bool
    #: the values of properties that all CPUs but the first have
    others: Mapping[str, Any] = field(repr=False)
    #: further members of query-cpus-fast: of the first CPU, of all others
    shown: tuple[Mapping[str, Any], Mapping[str, Any]] = field(repr=False)
    #: what the type in a slot ends with, and what that of a CPU there does
    types: tuple[str, str]

    def members(self, index: int) -> Mapping[str, Any]:
        """Members that query-cpus-fast has for this target only."""
        return self.shown[min(index, 1)]

    def slot_type(self, cpu: str) -> str:
        """The type that a slot takes where CPUs are of type `cpu`."""
        slot, own = self.types
        return cpu.removesuffix(own) + slot if own and cpu.endswith(own) else cpu

    def props(self, index: int, levels: Levels) -> dict[str, int]:
        """CpuInstanceProperties of CPU `index`, without its NUMA node."""
        return {
            name: rule(index, levels)
            for name, rule in self.rules.items()
            if name not in self.optional or levels[_LEVEL_OF[name]] > 1
        }


def slots_of(facts: Mapping[str, Any]) -> CpuSlots:
    """The rules of a machine type of which `facts` is `machine-data`."""
    recorded = facts["topology"]
    levels: Levels = recorded["levels"]
    cpus = recorded["cpus"]
    own = cpus[0].get("props", {})
    names = [name for name in own if name != "node-id"]
    rules = {}
    for name in names:
        seen = [(cpu["cpu-index"], cpu["props"][name]) for cpu in cpus]
        fits = (r for r in _rules(name) if all(r(index, levels) == id for index, id in seen))
        rule = next(fits, None)
        if rule is None:
            raise ValueError(f"{name} of the CPUs {seen} follows no known rule")
        rules[name] = rule
    slots = recorded["slots"] or ()
    shown = [{k: v for k, v in cpu.items() if k not in _USUAL} for cpu in cpus[:2]]
    return CpuSlots(
        levels=tuple(recorded["special"]),
        rules=rules,
        optional=frozenset(set(names) - set(facts["cpus"][0].get("props", ()))),
        by_core=any(slot["vcpus-count"] > 1 for slot in slots),
        always_on_node="node-id" in own,
        numbered="props" in cpus[0],
        others=recorded["cpu-values"],
        shown=(shown[0], shown[-1]),
        types=_endings(slots[0]["type"], recorded["type"]) if slots else ("", ""),
    )


def _endings(slot: str, cpu: str) -> tuple[str, str]:
    """What two names have behind what they begin with in common."""
    same = next((n for n, (a, b) in enumerate(zip(slot, cpu, strict=False)) if a != b), None)
    return ("", "") if same is None else (slot[same:], cpu[same:])
