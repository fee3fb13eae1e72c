"""The addresses that buses hand out: slots on PCI, targets and LUNs on SCSI, units on IDE.

See hw/pci/pci.c: do_pci_register_device(); hw/scsi/scsi-bus.c: scsi_qdev_realize();
hw/ide/ide-dev.c: ide_dev_initfn().
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.process import Process
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qom.tree import Qom, QomObject
    from fakeqemu.profile import Profile

#: the second of this name is what drivers from before virtio 1.0 use
_LEGACY_REGION = "virtio-pci[1]"
#: drives of a floppy controller
_FLOPPIES = 2
#: slots on a PCI bus, functions in a slot
_SLOTS, _FUNCTIONS = 32, 8

# -- PCI -----------------------------------------------------------------------------------


def devfn_of(device: DeviceObject) -> int:
    """Slot and function of a PCI device that sits on its bus."""
    value = device.values.get("addr", -1)
    return value if isinstance(value, int) else -1


def _is_downstream(profile: Profile, bus: Bus) -> bool:
    """Whether the bus is behind a port that has one slot only."""
    parent = bus.object.parent
    return bus.type == "PCIE" and parent is not None and profile.is_a(parent.type, "pcie-slot")


def take_slot(process: Process, device: DeviceObject, bus: Bus) -> None:
    """Slot and function on a PCI bus. Raises QapiError."""
    if bus.type.startswith("pxb"):
        from fakeqemu.model.hw.pci_bridge import expander

        expander.check_child(process.profile, device, bus)
        if "busnr" in device.values:
            device.values["busnr"] = expander.number_of(bus)
    taken = {devfn_of(other): other for other in bus.devices if devfn_of(other) >= 0}
    # the recorded device has the slot it got, not the -1 that asks for one
    devfn = devfn_of(device) if "addr" in device.given else -1
    name = device.type
    if devfn < 0:
        free = (slot * _FUNCTIONS for slot in range(_SLOTS) if slot * _FUNCTIONS not in taken)
        found = next(free, None)
        if found is None:
            raise QapiError(
                f"PCI: no slot/function available for {name}, all in use or reserved"
            )
        devfn = found
    slot, function = divmod(devfn, _FUNCTIONS)
    if devfn in taken:
        other = taken[devfn]
        raise QapiError(
            f"PCI: slot {slot} function {function} not available for {name},"
            f" in use by {other.type},id={other.id or '(null)'}"
        )
    downstream, traits = _is_downstream(process.profile, bus), process.profile.traits
    one_only = downstream and traits.port_takes_one_hotplug
    first = taken.get(0 if one_only else slot * _FUNCTIONS)
    if device.values.get("hotplugged") and first is not None:
        raise QapiError(
            f"PCI: slot {devfn_of(first) // _FUNCTIONS} function 0 already occupied by"
            f" {first.type}, new func {name} cannot be exposed to guest."
        )
    _check_functions(device, taken, slot, function)
    if downstream and slot and traits.pcie_slot_warning:
        process.host.warn(
            f"warning: PCI: slot {slot} is not valid for {name},"
            " parent device only allows plugging into slot 0."
        )
    device.values["addr"] = devfn
    if "legacy-addr" in device.values:
        device.values["legacy-addr"] = f"{slot:02x}.{function:x}"


def be_modern(profile: Profile, device: DeviceObject, bus: Bus) -> None:
    """A virtio device behind a port has no legacy half; the recorded one was not behind one."""
    if _is_downstream(profile, bus):
        device.values["disable-legacy"] = "on"
        device.forget_child(_LEGACY_REGION)


def take_chassis(qom: Qom, profile: Profile, device: DeviceObject) -> None:
    """Chassis and slot number of a PCIe port are taken only once."""
    if not profile.is_a(device.type, "pcie-slot"):
        return
    mine = (device.values.get("chassis"), device.values.get("slot"))
    for other in user_devices(qom):
        if other is device or not profile.is_a(other.type, "pcie-slot"):
            continue
        if other.bus is not None and mine == (
            other.values.get("chassis"),
            other.values.get("slot"),
        ):
            raise QapiError("Can't add chassis slot, error -16")


def _check_functions(
    device: DeviceObject, taken: dict[int, DeviceObject], slot: int, function: int
) -> None:
    """Several functions in a slot need the first one to say so."""
    if function:
        first = taken.get(slot * _FUNCTIONS)
        if first is not None and not first.values.get("multifunction"):
            raise QapiError(
                "PCI: single function device can't be populated "
                f"in function {slot:x}.{function:x}"
            )
        return
    if device.values.get("multifunction"):
        return
    for other in range(1, _FUNCTIONS):
        if slot * _FUNCTIONS + other in taken:
            raise QapiError(
                f"PCI: {slot:x}.0 indicates single function, "
                f"but {slot:x}.{other:x} is already populated."
            )


# -- SCSI ----------------------------------------------------------------------------------

#: adapter -> the last target and LUN that its bus has
_SCSI_LIMITS = {
    "virtio-scsi-common": (255, 16383),
    "lsi53c895a": (7, 0),
    "megasas-base": (128, 255),
    "mptsas1068": (8, 1),
    "am53c974": (7, 7),
    "esp": (7, 7),
    "pvscsi": (64, 0),
    "usb-bot": (0, 15),
    "usb-uas": (0, 255),
    "usb-storage": (0, 0),
}
_SCSI_MOST = (255, 16383)


def _scsi_limits(profile: Profile, bus: Bus) -> tuple[int, int]:
    adapter = bus.object.parent
    kinds = (kind for kind in _SCSI_LIMITS if adapter and profile.is_a(adapter.type, kind))
    return _SCSI_LIMITS.get(next(kinds, ""), _SCSI_MOST)


def take_address(profile: Profile, device: DeviceObject, bus: Bus) -> None:
    """Channel, target and LUN on a SCSI bus. Raises QapiError."""
    target, lun = device.values.get("scsi-id", -1), device.values.get("lun", -1)
    channel = device.values.get("channel", 0)
    # the recorded device has the place it got, not the -1 that asks for one
    target = target if "scsi-id" in device.given else -1
    lun = lun if "lun" in device.given else -1
    targets, luns = _scsi_limits(profile, bus)
    for what, number, most in (
        ("channel id", channel, 0),
        ("device id", target, targets),
        ("device lun", lun, luns),
    ):
        if number > most:
            raise QapiError(f"bad scsi {what}: {number}")
    taken = {
        (d.values.get("channel", 0), d.values.get("scsi-id"), d.values.get("lun")): d
        for d in bus.devices
    }
    if target < 0:
        lun = max(lun, 0)
        target = _free_target(taken, channel, targets)
    elif lun < 0:
        free = (n for n in range(luns + 1) if (channel, target, n) not in taken)
        lun = next(free, -1)
        if lun < 0:
            raise QapiError("no free lun")
    elif (channel, target, lun) in taken:
        raise QapiError(f"lun already used by '{taken[channel, target, lun].id or '(null)'}'")
    device.values.update({"scsi-id": target, "lun": lun})


def _free_target(taken: dict[Any, DeviceObject], channel: int, last: int) -> int:
    for target in range(last + 1):
        if (channel, target, 0) not in taken:
            return target
    raise QapiError("no free target")


# -- IDE -----------------------------------------------------------------------------------


def take_unit(profile: Profile, device: DeviceObject, bus: Bus) -> None:
    """Allocate the IDE unit, 0 or 1; a SATA port has only unit 0."""
    controller = bus.object.parent
    own = controller is not None and profile.is_a(controller.type, "ich9-ahci")
    units = 1 if own else 2
    taken = {other.values.get("unit") for other in bus.devices}
    # the recorded device has the unit it got, not the -1 that asks for one
    unit = device.values.get("unit", -1) if "unit" in device.given else -1
    if unit == -1:
        unit = 1 if 0 in taken else 0
    if unit >= units:
        raise QapiError(f"Can't create IDE unit {unit}, bus supports only {units} units")
    if unit in taken:
        raise QapiError(f"IDE unit {unit} is in use")
    device.values["unit"] = unit
    if "serial" in device.values and "serial" not in device.given:
        device.values["serial"] = f"QM{_drives_before(bus) + unit + 1:05}"


def take_floppy_unit(device: DeviceObject, bus: Bus) -> None:
    """Allocate one of a controller's two. See hw/block/fdc.c: floppy_drive_realize()."""
    taken = {other.values.get("unit") for other in bus.devices}
    unit = device.values.get("unit", -1) if "unit" in device.given else -1
    if unit in (-1, 0xFFFFFFFF):
        unit = next((n for n in range(_FLOPPIES) if n not in taken), _FLOPPIES)
    if unit >= _FLOPPIES:
        raise QapiError(
            f"Can't create floppy unit {unit}, bus supports only {_FLOPPIES} units"
        )
    if unit in taken:
        raise QapiError(f"Floppy unit {unit} is in use")
    device.values["unit"] = unit


def _drives_before(bus: Bus) -> int:
    """Two for each bus of IDE that was made before this one. See hw/ide/core.c: ide_init1()."""
    every = [each.object for each in bus.buses.all() if each.is_a("IDE")]
    every.sort(key=lambda obj: (getattr(obj.parent, "number", 0), _number(obj.parent), obj.name))
    return 2 * every.index(bus.object)


def _number(controller: QomObject | None) -> int:
    """Of the board's devices those made first have smaller numbers in their names."""
    found = re.search(r"\[(\d+)\]$", controller.name if controller is not None else "")
    return int(found[1]) if found else 0
