"""Where a device is, in the words that migration names its parts with: `0000:00:02.0`.

Only some buses have such names: PCI, USB, SCSI and channel subsystems; a device inside another
has that one's.

See hw/core/qdev.c: qdev_get_dev_path(); hw/pci/pci.c: pcibus_get_dev_path(); hw/usb/bus.c:
usb_get_dev_path(); hw/scsi/scsi-bus.c: scsibus_get_dev_path(); hw/s390x/css-bridge.c:
virtual_css_bus_get_dev_path().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.qdev.device import DeviceObject

if TYPE_CHECKING:
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.profile import Profile

_ROOT_BUS = "0000:00"
#: what bridges of pseries machines are called by: hw/ppc/spapr_pci.c: spapr_phb_root_bus_path()
_SPAPR_BRIDGE, _SPAPR_BRIDGES = "spapr-pci-host-bridge", 0x800000020000000


def device_path(profile: Profile, device: DeviceObject) -> str:
    """The device's path; empty on a bus without such names."""
    bus = device.bus
    if bus is None:
        parent = device.parent
        # the device inside a virtio PCI device
        return device_path(profile, parent) if isinstance(parent, DeviceObject) else ""
    if bus.is_a("PCI"):
        return f"{_pci_bus(profile, bus)}:{_slot(device)}"
    if bus.is_a("usb-bus"):
        controller = _owner(bus)
        above = device_path(profile, controller) if controller is not None else ""
        return f"{above}/{device.port}" if above else device.port
    if bus.is_a("SCSI"):
        controller = _owner(bus)
        above = device_path(profile, controller) if controller is not None else ""
        numbers = (device.values.get(name, 0) for name in ("channel", "scsi-id", "lun"))
        place = ":".join(str(number) for number in numbers)
        return f"{above}/{place}" if above else place
    if bus.is_a("virtual-css-bus") and device.has("dev_id"):
        subsystem, _, rest = str(device.values["dev_id"]).partition(".")
        return f"/{subsystem:>02}.{rest}"
    return ""


def section_name(profile: Profile, device: DeviceObject, name: str) -> str:
    """`name`, of a section or a memory block of the device, with its path before it."""
    path = device_path(profile, device)
    return f"{path}/{name}" if path else name


def _owner(bus: Bus) -> DeviceObject | None:
    obj = bus.object.parent
    return obj if isinstance(obj, DeviceObject) else None


def _pci_bus(profile: Profile, bus: Bus) -> str:
    """Of a bus behind a bridge: the path of the bridge."""
    owner = _owner(bus)
    if owner is not None and owner.type == _SPAPR_BRIDGE:
        return f"pci@{_SPAPR_BRIDGES + int(owner.values['index']):x}"
    if owner is not None and owner.root_bus:
        return f"0000:{owner.root_bus:02x}"
    if owner is None or not profile.is_a(owner.type, "base-pci-bridge"):
        return _ROOT_BUS
    if owner.bus is None:
        return f"{_ROOT_BUS}:{_slot(owner)}"
    return device_path(profile, owner)


def _slot(device: DeviceObject) -> str:
    devfn = device.values.get("addr", 0)
    number = devfn if isinstance(devfn, int) and devfn >= 0 else 0
    return f"{number >> 3:02x}.{number & 7:x}"
