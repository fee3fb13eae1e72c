"""Slots of PCIe ports that are hot-plugged as PCIe has it, without ACPI.

A slot that was empty when the machine was last reset has no power, and no guest that runs here
switches it on: what is plugged into it can be taken out again without asking.

See hw/pci/pcie.c: pcie_cap_slot_unplug_request_cb() and pcie_cap_slot_reset().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.profile import Profile


def _function(device: DeviceObject) -> int:
    """Its slot and function on its bus."""
    return int(device.values["addr"])


def is_native(profile: Profile, bus: Bus | None) -> bool:
    """Whether the port that offers `bus` plugs devices itself."""
    if bus is None or bus.type != "PCIE":
        return False
    port = bus.object.parent
    if port is None or not profile.is_a(port.type, "pcie-slot"):
        return False
    handler = bus.object.get("hotplug-handler")
    return bool(handler == port.path)


def lets_go_at_once(profile: Profile, device: DeviceObject) -> bool:
    """Whether the slot that a device is in does not ask the guest."""
    if not is_native(profile, device.bus):
        return False
    return not device.slot_powered or (len(leaving_with(device)) == 1 and _function(device) > 0)


def leaving_with(device: DeviceObject) -> list[DeviceObject]:
    """The device, and all others in its slot; alone if the guest has never seen it."""
    bus = device.bus
    assert bus is not None, "it is in a slot"
    if _function(device) > 0 and all(_function(each) for each in bus.devices):
        return [device]
    return sorted(bus.devices, key=_function)
