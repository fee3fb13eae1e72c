"""CPUs: the topology that -smp asks for, the slots it makes, and the CPUs that are in them.

See hw/i386/x86-common.c: x86_cpus_init() and x86_cpu_pre_plug(); hw/i386/x86.c:
x86_possible_cpu_arch_ids(); hw/core/machine.c: machine_query_hotpluggable_cpus().
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.scalars import c_int
from fakeqemu.qapi.schema_facts import element_members

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpu_features import CpuFeatures
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.targets.cpu_slots import CpuSlots
    from fakeqemu.model.boards.x86_registers import X86Registers
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.process import Process
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qom.tree import QomObject

_UNSIGNED = 0xFFFFFFFF
#: a property that only cores have
_OF_CORES = "nr-threads"
#: the levels of a topology, outermost first
LEVELS = ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")


@dataclass(frozen=True, slots=True)
class Topology:
    """-smp, worked out."""

    cpus: int = 1
    maxcpus: int = 1
    #: level -> how many of it in the one above; every level of LEVELS
    levels: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 1))

    def property(self, members: tuple[str, ...]) -> dict[str, int]:
        """The machine's property `smp`, with the members that the version shows."""
        values = {"cpus": self.cpus, "maxcpus": self.maxcpus, **self.levels}
        return {name: values[name] for name in members if name in values}

    def ids(self, index: int) -> dict[str, int]:
        """Socket, die, module, core and thread of the CPU in slot `index`."""
        return numbers_in_levels(index, self.levels)

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
    levels = {level: asked.get(level, 0) for level in LEVELS}
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
        for level in LEVELS
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


def numbers_in_levels(index: int, levels: Mapping[str, int]) -> dict[str, int]:
    """Level -> number in the one above, of CPU `index`."""
    found: dict[str, int] = {}
    for level in reversed(LEVELS):
        index, found[level] = divmod(index, levels.get(level, 1))
    return found


def _recorded(facts: Mapping[str, Any]) -> CpuSlots | None:
    if "topology" not in facts:
        return None
    # profiles of PCs that were recorded before there were others do without
    from fakeqemu.model.boards.targets.cpu_slots import slots_of

    return slots_of(facts)


@dataclass(slots=True)
class Cpu:
    """One CPU that is there."""

    #: its slot, which is also its number in query-cpus-fast
    index: int
    object: QomObject
    #: a CPU there since the start cannot be taken out
    boot: bool = True


def name_cpu(cpu: QomObject) -> None:
    """Have the parts of a CPU that lead to it do so."""
    for child in cpu.children.values():
        if child.values.get("cpu"):
            child.values["cpu"] = cpu.path


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
        #: in a tuple once it is known
        self._slots_recorded: tuple[CpuSlots | None] | None = None
        #: slot -> what is in the registers; made when first looked at
        self._registers: dict[int, X86Registers] = {}
        #: a guest came with what it had in them, which is not read
        self.registers_came = False
        lifecycle.on_reset.append(self._reset)

    def __len__(self) -> int:
        return len(self._present)

    def _reset(self, _cause: str) -> None:
        self._registers.clear()
        self.registers_came = False

    def __contains__(self, index: object) -> bool:
        return index in self._present

    def present(self) -> list[Cpu]:
        """The CPUs in the order in which they came."""
        return list(self._present.values())

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

    def within(self, obj: QomObject) -> list[Cpu]:
        """The CPU that `obj` is, or those that are parts of it."""
        return [cpu for cpu in self._present.values() if obj in (cpu.object, cpu.object.parent)]

    def cores(self) -> list[DeviceObject]:
        """The devices that CPUs are threads of, where there are such."""
        from fakeqemu.model.qdev.device import DeviceObject

        parents = {id(cpu.object.parent): cpu.object.parent for cpu in self._present.values()}
        devices = (each for each in parents.values() if isinstance(each, DeviceObject))
        return [each for each in devices if each.has(_OF_CORES)]

    def cores_of_board(self) -> list[DeviceObject]:
        """Those that no user plugged."""
        return [core for core in self.cores() if not core.number]

    def of(self, obj: QomObject) -> Cpu | None:
        """The CPU that `obj` is."""
        return next((cpu for cpu in self._present.values() if cpu.object is obj), None)

    def registers(self, cpu: Cpu) -> X86Registers:
        """What is in the CPU's registers. Raises NotModelledError for CPUs that are no x86."""
        if "apic-id" not in cpu.object.shapes:
            raise NotModelledError(f"registers of {cpu.object.type}")
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

    @property
    def slots_recorded(self) -> CpuSlots | None:
        """How the machine type numbers CPUs; None: as PCs do."""
        if self._state.type is None:
            return None
        if self._slots_recorded is None:
            facts = self._process.profile.per_machine(self._state.type.name)
            self._slots_recorded = (_recorded(facts),)
        return self._slots_recorded[0]

    @property
    def per_slot(self) -> int:
        """How many CPUs go into a slot: one, or the threads of a core."""
        recorded = self.slots_recorded
        return self.topology.levels["threads"] if recorded and recorded.by_core else 1

    def props(self, index: int, *, with_node: bool = True) -> dict[str, int]:
        """CpuInstanceProperties of slot `index`; levels the machine leaves out are missing."""
        recorded = self.slots_recorded
        if recorded is not None:
            props = recorded.props(index, self.topology.levels)
            if with_node and (index in self.nodes or recorded.always_on_node):
                props["node-id"] = self.nodes.get(index, 0)
            return props
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
        target = self._process.profile.target
        with_type = "qom-type" in element_members(self._process.profile.schema, "query-cpus-fast")
        recorded = self.slots_recorded
        return [
            {
                "cpu-index": cpu.index,
                "qom-path": cpu.object.path,
                "thread-id": self._process.host.thread_id(self._thread(cpu.index), 1 + cpu.index),
                **({"qom-type": cpu.object.type} if with_type else {}),
                "target": target,
                **({} if recorded is None else recorded.members(cpu.index)),
                **(
                    {"props": self.props(cpu.index)}
                    if recorded is None or recorded.numbered
                    else {}
                ),
            }
            for cpu in self.present()
        ]

    def _thread(self, index: int) -> str:
        return f"CPU {index}/{self._state.accelerator.upper()}"

    def slots(self) -> list[dict[str, Any]]:
        """What query-hotpluggable-cpus returns: highest slot first."""
        found = []
        recorded = self.slots_recorded
        by_core = recorded is not None and recorded.by_core
        count = self.per_slot
        for index in reversed(range(0, self.topology.maxcpus, count)):
            cpu = self.get(index)
            obj = None if cpu is None else cpu.object.parent if by_core else cpu.object
            where = {"qom-path": obj.path} if obj is not None else {}
            type = self.type if recorded is None else recorded.slot_type(self.type)
            found.append(
                {"type": type, "vcpus-count": count, "props": self.props(index), **where}
            )
        return found
