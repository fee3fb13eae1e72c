"""CPUs: the topology that -smp asks for, the slots it makes, and the CPUs that are in them.

See hw/i386/x86-common.c: x86_cpus_init() and x86_cpu_pre_plug(); hw/i386/x86.c:
x86_possible_cpu_arch_ids(); hw/core/machine.c: machine_query_hotpluggable_cpus().
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import c_int
from fakeqemu.qapi.schema_facts import element_members

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpu_features import CpuFeatures
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.x86_registers import X86Registers
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.tree import QomObject

#: levels above the core, outermost first, and what QEMU calls having more than one of them
_UNSIGNED = 0xFFFFFFFF
_LEVELS = ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")


@dataclass(frozen=True, slots=True)
class Topology:
    """-smp, worked out."""

    cpus: int = 1
    maxcpus: int = 1
    #: level -> how many of it in the one above; every level of _LEVELS
    levels: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(_LEVELS, 1))

    def property(self, members: tuple[str, ...]) -> dict[str, int]:
        """The machine's property `smp`, with the members that the version shows."""
        values = {"cpus": self.cpus, "maxcpus": self.maxcpus, **self.levels}
        return {name: values[name] for name in members if name in values}

    def ids(self, index: int) -> dict[str, int]:
        """Socket, die, module, core and thread of the CPU in slot `index`."""
        ids: dict[str, int] = {}
        for level in reversed(_LEVELS):
            index, ids[level] = divmod(index, self.levels[level])
        return ids

    def apic_id(self, index: int) -> int:
        """The APIC id of slot `index`: each level takes as many bits as it needs."""
        ids = self.ids(index)
        result = shift = 0
        for level in ("threads", "cores", "modules", "dies", "sockets"):
            result |= ids[level] << shift
            shift += (self.levels[level] - 1).bit_length()
        return result


def work_out(
    asked: Mapping[str, int],
    *,
    prefer_sockets: bool,
    cpu_max: int,
    machine: str,
    shown: Collection[str] = ("dies",),
) -> Topology:
    """The topology that -smp with these numbers means. Raises QapiError in QEMU's words.

    `shown`: the levels that the machine supports besides sockets, cores and threads.
    """
    if any(value == 0 for value in asked.values()):
        raise QapiError("Invalid CPU topology: CPU topology parameters must be greater than zero")
    cpus, maxcpus = asked.get("cpus", 0), asked.get("maxcpus", 0)
    levels = {level: asked.get(level, 0) for level in _LEVELS}
    for level in ("drawers", "books", "clusters", "modules", "dies"):
        levels[level] = levels[level] or 1
    fixed = levels["dies"] * levels["clusters"] * levels["modules"]
    fixed *= levels["drawers"] * levels["books"]
    sockets, cores, threads = levels["sockets"], levels["cores"], levels["threads"]
    if not cpus and not maxcpus:
        sockets, cores, threads = sockets or 1, cores or 1, threads or 1
    else:
        wanted = maxcpus or cpus
        if prefer_sockets:
            if not sockets:
                cores, threads = cores or 1, threads or 1
                sockets = wanted // (fixed * cores * threads)
            elif not cores:
                threads = threads or 1
                cores = wanted // (sockets * fixed * threads)
        elif not cores:
            sockets, threads = sockets or 1, threads or 1
            cores = wanted // (sockets * fixed * threads)
        elif not sockets:
            threads = threads or 1
            sockets = wanted // (fixed * cores * threads)
        threads = threads or wanted // (fixed * sockets * cores or 1)
    levels.update(sockets=sockets, cores=cores, threads=threads)
    total = fixed * sockets * cores * threads & _UNSIGNED
    maxcpus = maxcpus or cpus or total
    cpus = cpus or maxcpus
    _check(cpus, maxcpus, total, levels, shown)
    if maxcpus > cpu_max:
        raise QapiError(
            f"Invalid SMP CPUs {c_int(maxcpus)}. The max CPUs supported by machine '{machine}'"
            f" is {cpu_max}"
        )
    return Topology(cpus, maxcpus, levels)


def _check(
    cpus: int, maxcpus: int, total: int, levels: Mapping[str, int], shown: Collection[str]
) -> None:
    text = " * ".join(
        f"{level} ({levels[level]})"
        for level in _LEVELS
        if level in ("sockets", "cores", "threads") or level in shown
    )
    if total != maxcpus:
        raise QapiError(
            "Invalid CPU topology: product of the hierarchy must match maxcpus: "
            f"{text} != maxcpus ({maxcpus})"
        )
    if maxcpus < cpus:
        raise QapiError(
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
            f"{text} == maxcpus ({maxcpus}) < smp_cpus ({cpus})"
        )


@dataclass(slots=True)
class Cpu:
    """One CPU that is there."""

    #: its slot, which is also its number in query-cpus-fast
    index: int
    object: QomObject
    #: a CPU there since the start cannot be taken out
    boot: bool = True


def signature(cpu: Cpu) -> int:
    """Family, model and stepping as CPUID shows them, and EDX after reset."""
    family, model, stepping = (
        int(cpu.object.get(name)) if cpu.object.has(name) else 0
        for name in ("family", "model", "stepping")
    )
    number = (0xF00 | (family - 0xF) << 20) if family > 0xF else family << 8
    return number | (model & 0xF) << 4 | (model >> 4) << 16 | stepping


class Cpus:
    """The CPUs of one machine."""

    def __init__(self, process: Process, lifecycle: Lifecycle, state: MachineState) -> None:
        self._process = process
        self._state = state
        self.topology = Topology()
        #: QOM type of the CPUs; empty while the machine has none
        self.type = ""
        #: what -cpu says of them
        self.features: CpuFeatures | None = None
        #: slot -> NUMA node that was asked for
        self.nodes: dict[int, int] = {}
        self._present: dict[int, Cpu] = {}
        #: slot -> what is in the registers; made when first looked at
        self._registers: dict[int, X86Registers] = {}
        lifecycle.on_reset.append(lambda _cause: self._registers.clear())

    def __len__(self) -> int:
        return len(self._present)

    def __contains__(self, index: object) -> bool:
        return index in self._present

    def present(self) -> list[Cpu]:
        """The CPUs in order of their slots."""
        return [self._present[index] for index in sorted(self._present)]

    def get(self, index: int) -> Cpu | None:
        """The CPU in slot `index`."""
        return self._present.get(index)

    def add(self, cpu: Cpu) -> None:
        """A CPU has come."""
        self._present[cpu.index] = cpu

    def remove(self, index: int) -> None:
        """A CPU has gone."""
        self._present.pop(index, None)
        self._registers.pop(index, None)
        self._process.host.end_thread(self._thread(index))

    def of(self, obj: QomObject) -> Cpu | None:
        """The CPU that `obj` is."""
        return next((cpu for cpu in self._present.values() if cpu.object is obj), None)

    def registers(self, cpu: Cpu) -> X86Registers:
        """What is in the CPU's registers."""
        from fakeqemu.model.boards.x86_registers import CR4_FEATURES, X86Registers

        if cpu.index not in self._registers:
            obj = cpu.object
            refused = sum(
                1 << bit
                for bit, names in CR4_FEATURES.items()
                if (known := [name for name in names if obj.has(name)])
                and not any(obj.get(name) for name in known)
            )
            self._registers[cpu.index] = X86Registers(
                signature(cpu), halted=cpu.index > 0, cr4_refused=refused
            )
        return self._registers[cpu.index]

    def props(self, index: int) -> dict[str, int]:
        """CpuInstanceProperties of slot `index`; levels the machine leaves out are missing."""
        ids = self.topology.ids(index)
        props = {"socket-id": ids["sockets"]}
        if self.topology.levels["dies"] > 1:
            props["die-id"] = ids["dies"]
        if self.topology.levels["modules"] > 1:
            props["module-id"] = ids["modules"]
        props |= {"core-id": ids["cores"], "thread-id": ids["threads"]}
        if index in self.nodes:
            props["node-id"] = self.nodes[index]
        return props

    def fast(self) -> list[dict[str, Any]]:
        """What query-cpus-fast returns."""
        target = self._process.profile.query("query-target")["return"]["arch"]
        with_type = "qom-type" in element_members(self._process.profile.schema, "query-cpus-fast")
        return [
            {
                "cpu-index": cpu.index,
                "qom-path": cpu.object.path,
                "thread-id": self._process.host.thread_id(self._thread(cpu.index), 1 + cpu.index),
                **({"qom-type": cpu.object.type} if with_type else {}),
                "target": target,
                "props": self.props(cpu.index),
            }
            for cpu in self.present()
        ]

    def _thread(self, index: int) -> str:
        return f"CPU {index}/{self._state.accelerator.upper()}"

    def slots(self) -> list[dict[str, Any]]:
        """What query-hotpluggable-cpus returns: highest slot first."""
        found = []
        for index in reversed(range(self.topology.maxcpus)):
            cpu = self.get(index)
            where = {"qom-path": cpu.object.path} if cpu is not None else {}
            found.append(
                {"type": self.type, "vcpus-count": 1, "props": self.props(index), **where}
            )
        return found
