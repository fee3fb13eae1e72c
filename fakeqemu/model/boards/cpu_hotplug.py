"""Plugging and unplugging CPUs: the slot that a CPU's numbers name, and what refuses it.

See hw/i386/x86-common.c: x86_cpu_pre_plug() and x86_cpu_unplug_request_cb(); hw/i386/microvm.c:
microvm_device_unplug_request_cb(); hw/acpi/cpu_hotplug.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fakeqemu.model.boards.board import cpu_object, recorded_tree
from fakeqemu.model.boards.cpus import Cpu
from fakeqemu.model.boards.machine_state import plugged_by_machine
from fakeqemu.model.boards.memory_devices import pc_dimm
from fakeqemu.model.qdev.recorded import about
from fakeqemu.model.qom.property_types import convert
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qdev.properties import Properties

#: property -> level of the topology
_CPU_IDS = {
    "socket-id": "sockets",
    "die-id": "dies",
    "module-id": "modules",
    "core-id": "cores",
    "thread-id": "threads",
}
#: what a CPU is refused with that is one of the first slot, as they were recorded
_EXISTS = "it already exists"
#: levels that a machine without them lets a CPU leave out
_OPTIONAL_LEVELS = frozenset({"die-id", "module-id"})


class Where(NamedTuple):
    """What CPUs are plugged into."""

    state: MachineState
    cpus: Cpus
    properties: Properties
    #: puts a device, which may have an id, into the tree
    enter: Callable[[DeviceObject, str | None], None]


def plug(
    where: Where, driver: str, given: dict[str, Any], *, id: str | None, typed: bool
) -> DeviceObject:
    """device_add of a CPU or a core: it goes into the slot that its numbers name.

    Raises QapiError.
    """
    state, cpus = where.state, where.cpus
    if state.profile.is_a(driver, "spapr-cpu-core"):
        # one target has it
        from fakeqemu.model.boards.targets import spapr_cores

        return spapr_cores.plug(where, driver, given, id=id, typed=typed)
    index, cpu = _make_cpu(state, cpus, driver, given, typed=typed)
    cpu.id = id
    where.enter(cpu, id)
    cpus.add(Cpu(index, cpu, boot=False))
    return cpu


def _make_cpu(
    state: MachineState, cpus: Cpus, driver: str, given: dict[str, Any], *, typed: bool
) -> tuple[int, DeviceObject]:
    """The CPU that device_add asks for, and the slot that its numbers name. Raises QapiError."""
    if state.type is None or not state.type.hotpluggable_cpus:
        raise NotModelledError(f"device {driver}")
    if not state.is_a("x86-machine"):
        return _make_elsewhere(state, cpus, driver, given, typed=typed)
    ids: dict[str, int] = {}
    text = None if typed else state.profile.traits
    for name, value in qdict.items(given):
        if name not in _CPU_IDS:
            raise NotModelledError(f"{driver}.{name}")
        ids[name] = convert(state.profile.schema, "int32", value, name, text=text)
    if driver != cpus.type:
        raise QapiError(f"Invalid CPU type, expected cpu type: '{cpus.type}'")
    levels = cpus.topology.levels
    for name, level in _CPU_IDS.items():
        if name in _OPTIONAL_LEVELS and (levels[level] == 1 or not cpus):
            ids.setdefault(name, 0)
        if name not in ids:
            raise QapiError(f"CPU {name} is not set")
        if not 0 <= ids[name] < levels[level]:
            raise QapiError(
                f"Invalid CPU {name}: {ids[name]} must be in range 0:{levels[level] - 1}"
            )
    index = 0
    for name, level in _CPU_IDS.items():
        index = index * levels[level] + ids[name]
    if index in cpus:
        raise QapiError(f"CPU[{index}] with APIC ID {cpus.topology.apic_id(index)} exists")
    recorded = recorded_tree(state, state.type).at("machine/unattached/device[0]")
    cpu = cpu_object(cpus, state.profile, recorded, index)
    cpu.values["hotplugged"] = state.phases.ready
    return index, cpu


def _make_elsewhere(
    state: MachineState, cpus: Cpus, driver: str, given: dict[str, Any], *, typed: bool
) -> tuple[int, DeviceObject]:
    """A CPU of s390x, whose number is its core's, and which may be of any model that there can be.

    Raises QapiError. See hw/s390x/s390-virtio-ccw.c: s390_cpu_plug(); target/s390x/cpu.c:
    s390_cpu_realizefn(); target/s390x/cpu_models.c: s390_realize_cpu_model().
    """
    if not state.is_a("s390-ccw-machine") or set(given) - {"core-id"}:
        raise NotModelledError(f"device {driver}")
    refusal = about(state.profile, driver).get("error") or ""
    if refusal and not refusal.endswith(_EXISTS):
        raise QapiError(refusal)
    text = None if typed else state.profile.traits
    core = convert(state.profile.schema, "uint32", given.get("core-id", 0), "core-id", text=text)
    most = cpus.topology.maxcpus - 1
    if core > most:
        raise QapiError(
            f"Unable to add CPU with core-id: {core}, maximum core-id: {most}"
        )
    if core in cpus:
        raise QapiError(f"Unable to add CPU with core-id: {core}, {_EXISTS}")
    assert state.type is not None
    recorded = recorded_tree(state, state.type).at("machine/unattached/device[0]")
    cpu = cpu_object(cpus, state.profile, recorded, core, model=driver)
    cpu.values["hotplugged"] = state.phases.ready
    return core, cpu


def leave(cpus: Cpus, cpu: Cpu, device: DeviceObject) -> list[dict[str, Any]]:
    """A CPU goes with `device`, which it is or is a part of; the events about it and its parts."""
    cpus.remove(cpu.index)
    if cpu.object is device:
        return []
    from fakeqemu.model.boards.targets import spapr_cores

    return [{"path": path} for path in spapr_cores.leave(cpu)]


def check_unplug(state: MachineState, cpu: Cpu) -> None:
    """device_del of a CPU: the guest is asked, and does not answer. Raises QapiError."""
    if "cpu" not in plugged_by_machine(state):
        raise QapiError(
            f"Device '{cpu.object.type}' can not be hotplugged on this machine"
        )
    if not cpu.object.has("apic-id"):
        raise QapiError("CPU hot unplug not supported on this machine")
    if state.is_a("microvm-machine"):
        raise QapiError("unplug not supported by microvm")
    if not pc_dimm.has_acpi(state):
        raise QapiError("CPU hot unplug not supported without ACPI")
    if cpu.index == 0:
        raise QapiError("Boot CPU is unpluggable")
    if not state.profile.traits.cpu_unplug_without_guest:
        raise QapiError(
            f"acpi: device unplug request for not supported device type: {cpu.object.type}"
        )
