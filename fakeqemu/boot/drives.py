"""-drive and its kin at boot: the drives themselves, and those the board takes.

What a machine brings along by itself (a CD drive, a floppy) was recorded with it; so the drive
at that place is found in the recorded tree, and others get a device made for them.

See system/vl.c: configure_blockdev(), drive_init_func() and default_drive(); blockdev.c:
drive_new() and drive_check_orphaned().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.configuration import OptionString
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qdev.recorded import about
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.backends.legacy_drive import DriveAddress, Drives
    from fakeqemu.model.machine import Machine

#: interface -> device type of a disk and of a CD drive on the board
_BOARD_DEVICES = {"ide": ("ide-hd", "ide-cd"), "floppy": ("floppy", "floppy")}
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
    try:
        backend = drives.add(
            dict(entry.pairs) if entry.pairs else entry.values,
            entry.id,
            snapshot=vm.configuration.snapshot,
            location=entry.location,
        )
    except QapiError as exc:
        if isinstance(exc, NotModelledError):
            raise
        raise StartupError(exc.desc, location=entry.location, hint=exc.hint) from exc
    backend.legacy["location"] = entry.location
    place = drives.place(backend)
    if place is not None and place.interface in ("virtio", "xen"):
        _ask_for_device(vm, backend, entry, place)


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
        bus, unit = divmod(2, units) if units else (0, 2)
        if not wanted.cdrom or drives.at(drives.interface, bus, unit) is not None:
            return
        given = {"index": "2", "media": "cdrom"}
    backend = drives.add(given, None)
    backend.legacy["default"] = True


def attach_board_drives(vm: Machine) -> None:
    """Give the board's drives to the devices on the board. Raises StartupError."""
    configuration = vm.configuration
    if not configuration.drives and not configuration.has_defaults:
        return
    drives = vm.block.drives
    on_board = _recorded_devices(vm)
    for backend in list(vm.block.backends.all):
        place = drives.place(backend)
        if place is None:
            continue
        device = on_board.get(backend.name)
        if device is None and place.interface in _BOARD_DEVICES:
            device = _extra_device(vm, place)
        if device is None:
            continue
        backend.device = device
        try:
            vm.block.realize(device)
        except QapiError as exc:
            raise StartupError(exc.desc, hint=exc.hint) from exc
        if device.has("drive"):
            device.values["drive"] = backend.name


def _recorded_devices(vm: Machine) -> dict[str, DeviceObject]:
    """Devices of the recorded board by the name of their drive."""
    found: dict[str, DeviceObject] = {}
    for obj in vm.qom.container("/machine/unattached").children.values():
        if isinstance(obj, DeviceObject) and vm.block.backends.kind_of(obj.type) is not None:
            name = obj.values.get("drive")
            if isinstance(name, str) and name:
                found[name] = obj
    return found


def _extra_device(vm: Machine, place: DriveAddress) -> DeviceObject | None:
    """A device on the board that was not recorded: it gets the next number."""
    disk, cdrom = _BOARD_DEVICES[place.interface]
    type = cdrom if place.media == "cdrom" else disk
    container = vm.qom.container("/machine/unattached")
    numbers = [
        int(name[7:-1]) for name in container.children
        if name.startswith("device[") and name[7:-1].isdigit()
    ]  # fmt: skip
    facts = about(vm.profile, type)
    device = DeviceObject(type) if facts.get("tree") is None else vm.devices.bare(type)
    container.add_child(f"device[{max(numbers, default=-1) + 1}]", device)
    return device


def check_orphans(vm: Machine) -> None:
    """Raise StartupError for a drive that the board has no place for."""
    if not vm.configuration.drives:
        return
    for backend in vm.block.backends.all:
        place = vm.block.drives.place(backend)
        if place is None or place.interface == "none" or backend.legacy.get("default"):
            continue
        if backend.device is None and place.interface not in _TAKEN_BY_BOARD:
            raise StartupError(
                f"machine type does not support if={place.interface},"
                f"bus={place.bus},unit={place.unit}",
                location=backend.legacy.get("location", ""),
            )
