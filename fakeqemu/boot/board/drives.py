"""-drive and its kin at boot: the drives themselves, and those the board takes.

What a machine brings along by itself (a CD drive, a floppy) was recorded with it, and is left out
where no drive is at that place; other drives get a device made for them.

See system/vl.c: configure_blockdev(), drive_init_func() and default_drive(); blockdev.c:
drive_new() and drive_check_orphaned().
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.boot.board.onboard import create_onboard, new_onboard
from fakeqemu.boot.board.switches import has
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.configuration import OptionString
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qdev.realize_checks import check_unset
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.board.numbering import Numbering
    from fakeqemu.boot.state import BootState
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.backends.legacy_drive import DriveAddress, Drives
    from fakeqemu.model.machine import Machine

_FLOPPY_CONTROLLER = "isa-fdc"
#: drives of a floppy controller (hw/block/fdc-internal.h: MAX_FD)
_FLOPPIES = 2
_IDE_CONTROLLERS = ("piix3-ide", "isa-ide", "ich9-ahci")
#: buses and units for which a board looks for drives, whether its controller has them or not
_IDE_BUSES, _IDE_UNITS = 6, 2
#: index of the default CD drive (system/vl.c: CDROM_OPTS)
_CDROM_INDEX = 2
#: interfaces whose drives the board looks for itself
_TAKEN_BY_BOARD = frozenset({"pflash"})


def create_drives(vm: Machine) -> None:
    """All -drive, then the default drives. Raises StartupError."""
    configuration = vm.configuration
    wants_default = configuration.defaults
    if not configuration.drives and not (
        wants_default.cdrom or wants_default.floppy or configuration.has_defaults
    ):
        return
    drives = vm.block.drives
    for entry in configuration.drives:
        _create(vm, drives, entry)
    if not configuration.has_defaults:
        return
    for default in drives.defaults:
        _add_default(vm, drives, default)


def _create(vm: Machine, drives: Drives, entry: OptionString) -> None:
    from fakeqemu.model.block.backends.legacy_drive import FormatHelp

    modes = [value for key, value in entry.pairs if key == "cache"]
    try:
        backend = drives.add(
            dict(entry.pairs) if entry.pairs else entry.values,
            entry.id,
            snapshot=vm.configuration.snapshot,
            location=entry.location,
            cache=modes[-2] if len(modes) > 1 else None,
        )
    except FormatHelp as help:
        raise EarlyExit(help.text) from None
    except QapiError as exc:
        if isinstance(exc, NotModelledError):
            raise
        raise StartupError(exc.desc, location=entry.location, hint=exc.hint) from exc
    backend.legacy["location"] = entry.location
    place = drives.place(backend)
    if place is not None and place.interface in drive_interfaces_with_device(vm):
        _ask_for_device(vm, backend, entry, place)


def drive_interfaces_with_device(vm: Machine) -> tuple[str, ...]:
    """Interfaces whose drives stand for a -device: blockdev.c: drive_new()."""
    return ("virtio", "xen") if vm.profile.traits.xen_drive_is_device else ("virtio",)


def _ask_for_device(
    vm: Machine, backend: Backend, entry: OptionString, place: DriveAddress
) -> None:
    """As if a -device of key=value form stood where the -drive does."""
    driver = "virtio-blk"
    if place.interface == "xen":
        driver = "xen-cdrom" if place.media == "cdrom" else "xen-disk"
    values = {"driver": driver, "drive": backend.name}
    device = OptionString("device", entry.text, entry.location, dict(values))
    devices = vm.configuration.devices
    position = next((i for i, d in enumerate(devices) if d.json), len(devices))
    devices.insert(position, device)


def _add_default(vm: Machine, drives: Drives, default: dict[str, Any]) -> None:
    """A drive that the machine has unless something else is in its place."""
    name: str = default["device"]
    given: dict[str, str]
    wanted = vm.configuration.defaults
    if name.startswith("floppy"):
        if not wanted.floppy or drives.at("floppy", 0, 0) is not None:
            return
        given = {"if": "floppy", "index": "0", "read-only": "off"}
    elif name.startswith("sd"):
        if drives.at("sd", 0, 0) is not None:
            return
        given = {"if": "sd", "index": "0", "read-only": "off"}
    else:
        units = drives.max_units(drives.interface)
        bus, unit = divmod(_CDROM_INDEX, units) if units else (0, _CDROM_INDEX)
        if not wanted.cdrom or drives.at(drives.interface, bus, unit) is not None:
            return
        given = {"index": str(_CDROM_INDEX), "media": "cdrom"}
    backend = drives.add(given, None)
    backend.legacy["default"] = True


def add_floppies(vm: Machine, numbering: Numbering) -> None:
    """Have the floppy drives made that a board has for if=floppy, and their controller.

    See hw/i386/pc.c: pc_superio_init(); hw/block/fdc.c: fdctrl_init_drives().
    """
    wanted = {unit: backend for unit in range(_FLOPPIES)
              if (backend := _drive_at(vm, "floppy", 0, unit)) is not None}  # fmt: skip
    controller = next(iter(numbering.find(lambda obj: obj.type == _FLOPPY_CONTROLLER)), None)
    after = controller
    if after is None:
        after = numbering.place_of(lambda obj: obj.type in (_FLOPPY_CONTROLLER, "i8042"))
    if after is None:
        return
    if controller is None and wanted:
        numbering.add(after, partial(_create_floppy_controller, vm))
    recorded = numbering.find(lambda obj: obj.type == "floppy")
    for unit, backend in wanted.items():
        if unit == 0 and recorded:
            numbering.keep(recorded[0], partial(_attach, vm, backend))
            after = recorded.pop()
        else:
            numbering.add(after, partial(_create_drive, vm, backend, "floppy", "floppy-bus"))
    for number in recorded:
        numbering.leave_out(number)


def _create_floppy_controller(vm: Machine, number: int) -> None:
    bus = vm.buses.find_by_kind("ISA")
    assert bus is not None, "a board with a keyboard controller has such a bus"
    create_onboard(vm, _FLOPPY_CONTROLLER, bus, number)


def add_disks(vm: Machine, numbering: Numbering) -> None:
    """Have the disks and CD drives made that a board has for if=ide.

    See hw/ide/pci.c: pci_ide_create_devs(); hw/ide/ahci.c: ahci_ide_create_devs();
    hw/ide/isa.c: isa_ide_init().
    """
    if vm.state.is_a("spapr-machine"):
        from fakeqemu.boot.board.scsi import add_adapters

        add_adapters(vm, numbering)
    recorded = numbering.find(lambda obj: obj.type == "ide-cd")
    kept: list[int] = []
    controllers = numbering.find(lambda obj: any(has(obj, type) for type in _IDE_CONTROLLERS))
    for position, controller in enumerate(controllers):
        after = controller
        # one that is among several has one bus, whose name is the controller's to choose
        buses = (position,) if len(controllers) > 1 else range(_IDE_BUSES)
        for number in buses:
            for unit in range(_IDE_UNITS):
                backend = _drive_at(vm, "ide", number, unit)
                if backend is None:
                    continue
                place = vm.block.drives.place(backend)
                type = "ide-cd" if place is not None and place.media == "cdrom" else "ide-hd"
                if recorded and (number, unit, type) == _default_cdrom(vm):
                    numbering.keep(recorded[0], partial(_attach, vm, backend))
                    kept.append(recorded[0])
                    after = recorded[0]
                else:
                    create = partial(_create_drive, vm, backend, type, f"ide.{number}")
                    numbering.add(after, create)
    for number in recorded:
        if number not in kept:
            numbering.leave_out(number)


def _default_cdrom(vm: Machine) -> tuple[int, int, str]:
    """Bus, unit and type of the CD drive that was recorded."""
    units = vm.block.drives.max_units("ide")
    bus, unit = divmod(_CDROM_INDEX, units)
    return bus, unit, "ide-cd"


def _drive_at(vm: Machine, interface: str, bus: int, unit: int) -> Backend | None:
    configuration = vm.configuration
    if not configuration.drives and not configuration.has_defaults:
        return None
    return vm.block.drives.at(interface, bus, unit)


def _create_drive(vm: Machine, backend: Backend, type: str, bus: str, number: int) -> None:
    """Make a disk, a CD drive or a floppy drive of the board. Raises StartupError.

    `bus`: its name, or its type if there is only one such.
    """
    on = next((each for each in vm.buses.all() if bus in (each.name, each.type)), None)
    place = vm.block.drives.place(backend)
    assert place is not None, "it was found by its place"
    if on is None:
        return
    try:
        device = new_onboard(vm, type, number, {"unit": str(place.unit)})
        _take(vm, backend, device)
        vm.devices.realize(device, on)
    except QapiError as exc:
        raise StartupError(exc.desc, hint=exc.hint) from exc


def _attach(vm: Machine, backend: Backend, number: int) -> None:
    """Give a drive to the recorded device of that number. Raises StartupError."""
    device = vm.qom.container("/machine/unattached").child(f"device[{number}]")
    assert isinstance(device, DeviceObject)
    try:
        _take(vm, backend, device)
        vm.block.realize(device)
    except QapiError as exc:
        raise StartupError(exc.desc, hint=exc.hint) from exc


def _take(vm: Machine, backend: Backend, device: DeviceObject) -> None:
    """Give a device its drive. Raises QapiError."""
    check_unset(vm.state, device, device, "drive", backend.name)
    backend.device = device
    device.values["drive"] = backend.name


def check_orphans(boot: BootState) -> None:
    """Raise StartupError for drives that the board has no place for, all of them reported."""
    vm, reports = boot.vm, []
    if not vm.configuration.drives:
        return
    # those of -device are refused, or not, where that is made
    placed_elsewhere = {"none", *drive_interfaces_with_device(vm), *_TAKEN_BY_BOARD}
    for backend in vm.block.backends.all:
        place = vm.block.drives.place(backend)
        if place is None or backend.legacy.get("default"):
            continue
        if backend.device is None and place.interface not in placed_elsewhere:
            text = (
                f"machine type does not support if={place.interface},"
                f"bus={place.bus},unit={place.unit}"
            )
            reports.append((text, backend.legacy.get("location", "")))
    for text, location in reports[:-1]:
        boot.messages.report(text, location)
    for text, location in reports[-1:]:
        boot.messages.fail(text, location)
