"""What query-pci shows: the recorded devices of the board that are there, and all others.

No firmware ever numbers the buses behind bridges, so QEMU would not look behind them either.

See hw/pci/pci-qmp-cmds.c: qmp_query_pci() and qmp_query_pci_device().
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.addresses import devfn_of
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qdev.recorded import about

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qdev.bus import Bus, Buses
    from fakeqemu.profile import Profile

_FUNCTIONS = 8
_MSIX_BAR = 1


def query(state: MachineState, all_buses: Buses) -> list[dict[str, Any]]:
    """PciInfo list."""
    if state.type is None:
        return []
    facts = state.profile.per_machine(state.type.name)
    key = "pci-defaults" if state.configuration.has_defaults else "pci"
    buses: list[dict[str, Any]] = copy.deepcopy(facts[key] or [])
    if not buses:
        return []
    root = next((bus for bus in all_buses.all() if bus.is_a("PCI")), None)
    if root is not None:
        there = {devfn_of(device) for device in root.devices if device.bus is None}
        devices = [each for each in buses[0]["devices"] if _devfn(each) in there]
        devices += _plugged(state.profile, root, buses[0]["bus"])
        buses[0]["devices"] = devices
        devices.sort(key=lambda entry: (entry["slot"], entry["function"]))
    return buses


def _devfn(entry: dict[str, Any]) -> int:
    return int(entry["slot"]) * _FUNCTIONS + int(entry["function"])


def _plugged(profile: Profile, bus: Bus, number: int) -> list[dict[str, Any]]:
    """The entries of devices on `bus` that were not recorded there."""
    return [
        _entry(profile, device, number)
        for device in bus.devices
        if device.bus is not None and profile.is_a(device.type, "pci-device")
    ]


def _entry(profile: Profile, device: DeviceObject, number: int) -> dict[str, Any]:
    recorded = about(profile, device.type)["pci"]
    entry: dict[str, Any] = copy.deepcopy(recorded)
    slot, function = divmod(devfn_of(device), _FUNCTIONS)
    if profile.is_a(device.type, "virtio-pci") and device.values.get("vectors") == 0:
        # no MSI-X, no region for its table: hw/virtio/virtio-pci.c: virtio_pci_device_plugged()
        entry["regions"] = [each for each in entry["regions"] if each["bar"] != _MSIX_BAR]
    entry.update(bus=number, slot=slot, function=function, qdev_id=device.id or "")
    return entry
