"""Connectors of pseries machines, on which PCI devices, cores and modules hang, as they go.

One whose device the guest has not configured is empty to it, and lets go at once; so it is of what
was plugged since the machine was last reset. Any other lets go when the guest does, or at a reset.

See hw/ppc/spapr_drc.c: spapr_drc_attach(), spapr_drc_release(), spapr_drc_unplug_request() and
spapr_drc_reset(); hw/ppc/spapr_pci.c: spapr_pci_unplug_request(); hw/ppc/spapr.c:
spapr_core_unplug_request(), spapr_memory_unplug_request() and spapr_create_lmb_dr_connectors();
hw/ppc/spapr_nvdimm.c: spapr_create_nvdimm_dr_connectors().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.boards.memory_devices.address_space import range_of
from fakeqemu.model.qom.tree import QomObject
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qdev.device import DeviceObject

_DEVICE = "device"
_HOST_BRIDGE, _MODULE, _CORE = "spapr-pci-host-bridge", "pc-dimm", "spapr-cpu-core"
#: kinds, in the numbers of connectors; see include/hw/ppc/spapr_drc.h: SpaprDrcType
_OF_CORE, _OF_MEMORY, _OF_NVDIMM = 1 << 28, 8 << 28, 9 << 28
_NVDIMM = "nvdimm"
#: bytes of memory that one is for
BLOCK = 256 << 20


def add_for_memory(state: MachineState) -> None:
    """Make those of the board for memory that may come."""
    machine, memory = state.qom.container("/machine"), state.memory
    model = machine.child(_name(_OF_CORE))
    if model is None:
        return
    first = range_of(state).start // BLOCK
    blocks = (memory.maxmem - memory.size) // BLOCK if memory.maxmem > memory.size else 0
    kinds = [("spapr-drc-lmb", _OF_MEMORY, first + n) for n in range(blocks)]
    kinds += [("spapr-drc-pmem", _OF_NVDIMM, slot) for slot in range(memory.slots)]
    for type, kind, id in kinds:
        connector = QomObject(type)
        connector.own_shapes().update(
            (name, shape) for name, shape in model.shapes.items() if name != _DEVICE
        )
        connector.values.update(model.values, index=kind + id, id=id, type=type)
        connector.values.pop(_DEVICE, None)
        machine.add_child(_name(kind + id), connector)


def attach(state: MachineState, device: DeviceObject) -> None:
    """Have a device's connectors lead to it."""
    for connector in _connectors(state, device):
        connector.own_shapes()[_DEVICE] = f"link<{device.type}>"
        connector.values[_DEVICE] = device.path


def detach(state: MachineState, device: DeviceObject) -> None:
    """Leave them empty."""
    for connector in _connectors(state, device):
        connector.own_shapes().pop(_DEVICE, None)
        connector.values.pop(_DEVICE, None)


def _connectors(state: MachineState, device: DeviceObject) -> list[QomObject]:
    """Those that lead to a core or a module."""
    profile, values = state.profile, device.values
    if profile.is_a(device.type, _CORE):
        indexes = [_OF_CORE + values["core-id"]]
    elif profile.is_a(device.type, _NVDIMM):
        indexes = [_OF_NVDIMM + values["slot"]]
    elif profile.is_a(device.type, _MODULE):
        first = _OF_MEMORY + values["addr"] // BLOCK
        indexes = list(range(first, first + values["size"] // BLOCK))
    else:
        indexes = []
    machine = state.qom.container("/machine")
    found = (machine.child(_name(index)) for index in indexes)
    return [connector for connector in found if connector is not None]


def _name(index: int) -> str:
    return f"dr-connector[{index}]"


def has_connector(state: MachineState, device: DeviceObject) -> bool:
    """Whether a device of a pseries machine hangs on one."""
    if device.bus is not None:
        port = device.bus.object.parent
        return port is not None and port.type == _HOST_BRIDGE
    return any(state.profile.is_a(device.type, kind) for kind in (_MODULE, _CORE))


def leaving_with(state: MachineState, device: DeviceObject) -> list[DeviceObject]:
    """What goes with a device that is to go, in order. Raises QapiError."""
    profile = state.profile
    if device.bus is None:
        if device.unplug_pending and profile.is_a(device.type, _MODULE):
            raise QapiError(f"Memory unplug already in progress for device {device.id}")
        if profile.is_a(device.type, _CORE):
            if state.type is None or not state.type.hotpluggable_cpus:
                raise QapiError("CPU hot unplug not supported on this machine")
            if not device.values["core-id"]:
                raise QapiError("Boot CPU core may not be unplugged")
        return [device]
    if device.unplug_pending:
        raise QapiError(f"PCI device unplug already in progress for device {device.id}")
    if profile.is_a(device.type, "pci-bridge"):
        raise QapiError("PCI: Hot unplug of PCI bridges not supported")
    place = int(device.values["addr"])
    if place % 8:
        return [device]
    with_it = {int(each.values["addr"]): each for each in device.bus.devices}
    others = (with_it.get(place + number) for number in range(1, 8))
    return [*(each for each in others if each is not None and not each.unplug_pending), device]
