"""What query-pci shows: the recorded devices of the machine, and those that users plugged.

No firmware ever numbers the buses behind bridges, so QEMU would not look behind them either.

See hw/pci/pci-qmp-cmds.c: qmp_query_pci() and qmp_query_pci_device().
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.bus import Bus, all_buses
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qdev.realize import devfn_of

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

_FUNCTIONS = 8


def query(vm: Machine) -> list[dict[str, Any]]:
    """PciInfo list."""
    if vm.state.type is None:
        return []
    facts = vm.profile.per_machine(vm.state.type.name)
    key = "pci-defaults" if vm.configuration.has_defaults else "pci"
    buses: list[dict[str, Any]] = copy.deepcopy(facts[key] or [])
    if not buses:
        return []
    root = next((bus for bus in all_buses(vm) if bus.is_a("PCI")), None)
    if root is not None:
        devices = buses[0]["devices"]
        devices += _plugged(vm, root, buses[0]["bus"])
        devices.sort(key=lambda entry: (entry["slot"], entry["function"]))
    return buses


def _plugged(vm: Machine, bus: Bus, number: int) -> list[dict[str, Any]]:
    """The entries of users' devices on `bus`."""
    return [
        _entry(vm, device, number)
        for device in bus.devices
        if device.bus is not None and vm.profile.is_a(device.type, "pci-device")
    ]


def _entry(vm: Machine, device: DeviceObject, number: int) -> dict[str, Any]:
    recorded = vm.devices.about(device.type)["pci"]
    entry: dict[str, Any] = copy.deepcopy(recorded)
    slot, function = divmod(devfn_of(device), _FUNCTIONS)
    entry.update(bus=number, slot=slot, function=function, qdev_id=device.id or "")
    return entry
