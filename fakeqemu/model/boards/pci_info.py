"""What query-pci shows: the recorded devices of the board that are there, and all others.

No firmware ever numbers the buses behind bridges, so QEMU would not look behind them either.

See hw/pci/pci-qmp-cmds.c: qmp_query_pci() and qmp_query_pci_device().
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.addresses import devfn_of
from fakeqemu.model.qdev.bus import PCI_EXPANDER_HOST
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qdev.recorded import about

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.qdev.bus import Bus, Buses
    from fakeqemu.profile import Profile

_FUNCTIONS = 8
_MSIX_BAR = 1
#: the ports of a virtio device from before version 1.0
_LEGACY_BAR = 0
#: PCI device id of virtio 1.0, to which the device's own number is added, and its subsystem id
_MODERN, _MODERN_SUBSYSTEM = 0x1040, 0x1100


def query(state: MachineState, all_buses: Buses) -> list[dict[str, Any]]:
    """PciInfo list."""
    if state.type is None:
        return []
    facts = state.profile.per_machine(state.type.name)
    key = "pci-defaults" if state.configuration.has_defaults else "pci"
    buses: list[dict[str, Any]] = copy.deepcopy(facts[key] or [])
    if not buses:
        return []
    root = all_buses.pci_root()
    if root is not None:
        there = {devfn_of(device) for device in root.devices if device.bus is None}
        devices = [each for each in buses[0]["devices"] if _devfn(each) in there]
        devices += _plugged(state.profile, root, buses[0]["bus"])
        buses[0]["devices"] = devices
        devices.sort(key=lambda entry: (entry["slot"], entry["function"]))
    return [*_of_expanders(state.profile, all_buses), *buses]


def _of_expanders(profile: Profile, all_buses: Buses) -> list[dict[str, Any]]:
    """The entries of the root buses of expanders, the youngest first."""
    system = all_buses.system()
    hosts = [] if system is None else [d for d in system.devices if d.type == PCI_EXPANDER_HOST]
    return [
        {
            "bus": host.root_bus,
            "devices": sorted(_plugged(profile, bus, host.root_bus), key=_devfn),
        }
        for host in hosts
        for bus in all_buses.of(host)
    ]


def entry_of(state: MachineState, device: DeviceObject, number: int) -> dict[str, Any]:
    """PciDeviceInfo of one device, which may sit behind a bridge, on the bus of that number."""
    if device.bus is None and state.type is not None:
        facts = state.profile.per_machine(state.type.name)
        for key in ("pci-defaults", "pci"):
            for entry in (facts[key] or [{"devices": []}])[0]["devices"]:
                if _devfn(entry) == devfn_of(device):
                    found: dict[str, Any] = entry
                    return found
    return _entry(state.profile, device, number)


def _devfn(entry: dict[str, Any]) -> int:
    return int(entry["slot"]) * _FUNCTIONS + int(entry["function"])


def _plugged(profile: Profile, bus: Bus, number: int) -> list[dict[str, Any]]:
    """The entries of devices on `bus` that were not recorded there."""
    return [
        _entry(profile, device, number)
        for device in bus.devices
        if device.bus is not None and profile.is_a(device.type, "pci-device")
    ]


def _adapt_virtio(device: DeviceObject, entry: dict[str, Any]) -> None:
    """See hw/virtio/virtio-pci.c: virtio_pci_device_plugged()."""
    left_out = []
    if device.values.get("vectors") == 0:
        left_out.append(_MSIX_BAR)
    if device.values.get("disable-legacy") == "on" and entry["id"]["device"] < _MODERN:
        # one without a legacy half has the ids of virtio 1.0, and no ports
        left_out.append(_LEGACY_BAR)
        kind = entry["id"]["subsystem"]
        entry["id"] = {**entry["id"], "device": _MODERN + kind, "subsystem": _MODERN_SUBSYSTEM}
    entry["regions"] = [each for each in entry["regions"] if each["bar"] not in left_out]


def _entry(profile: Profile, device: DeviceObject, number: int) -> dict[str, Any]:
    recorded = about(profile, device.type)["pci"]
    entry: dict[str, Any] = copy.deepcopy(recorded)
    slot, function = divmod(devfn_of(device), _FUNCTIONS)
    if profile.is_a(device.type, "virtio-pci"):
        _adapt_virtio(device, entry)
    entry.update(bus=number, slot=slot, function=function, qdev_id=device.id or "")
    return entry
