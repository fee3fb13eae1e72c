"""Connectors of pseries machines, on which PCI devices, cores and modules hang, as they go.

One whose device the guest has not configured is empty to it, and lets go at once; so it is of what
was plugged since the machine was last reset. Any other lets go when the guest does, or at a reset.

See hw/ppc/spapr_drc.c: spapr_drc_unplug_request() and spapr_drc_reset(); hw/ppc/spapr_pci.c:
spapr_pci_unplug_request(); hw/ppc/spapr.c: spapr_core_unplug_request() and
spapr_memory_unplug_request().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qdev.device import DeviceObject

_HOST_BRIDGE, _MODULE, _CORE = "spapr-pci-host-bridge", "pc-dimm", "spapr-cpu-core"


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
