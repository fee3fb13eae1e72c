"""Host files that the board loads: firmware, kernel, option ROMs, flash, fw_cfg items.

Their content runs nowhere here, but a missing or misshapen one ends a start as in QEMU.

See hw/i386/x86-common.c: x86_bios_rom_init() and x86_load_linux(); hw/i386/pc_sysfw.c:
pc_system_firmware_init(); hw/core/loader.c: rom_add_file() and rom_add_option().
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fakeqemu.configuration import OptionString
from fakeqemu.model.host_files import file_size, find_file, glib_error
from fakeqemu.qapi.errors import NotModelledError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState
    from fakeqemu.model.machine import Machine

_SECTOR = 512
#: bytes of a kernel that are looked at first; see hw/i386/x86-common.c: x86_load_linux()
_KERNEL_HEADER = 8192
_SETUP_SECTORS, _BOOT_MAGIC, _PROTOCOL = 0x1F1, 0x202, 0x206
_HDRS = 0x53726448
#: boot protocols since which a kernel takes a RAM disk, and a device tree
_TAKES_INITRD, _TAKES_DTB = 0x200, 0x209
#: firmware is mapped in pieces of this size; see hw/i386/x86-common.c: x86_bios_rom_init()
_BIOS_UNIT = 65536
#: see hw/i386/pc_sysfw.c: pc_system_flash_map()
_FLASH_SECTOR = 4096
_FLASH_LIMIT = 8 << 20
#: bytes of a picture for firmware at least, and bits of each of a BMP's pixels
_SMALLEST_PICTURE, _PICTURE_DEPTH = 30, 24


def _fatal(text: str) -> StartupError:
    """An error that QEMU prints without its program's name."""
    return StartupError(text, location="qemu", own_line=True)


def load_firmware(boot: BootState) -> None:
    """What a board reads from the host when it is made, in QEMU's order. Raises StartupError.

    See hw/i386/pc.c: pc_memory_init().
    """
    if not check_flash(boot):
        check_bios(boot)
    check_splash(boot)
    check_kernel(boot)
    check_option_roms(boot)


def check_fw_cfg_item(boot: BootState, entry: OptionString, taken: set[str]) -> None:
    """The source of a -fw_cfg item. Raises StartupError.

    See system/vl.c: parse_fw_cfg(); hw/nvram/fw_cfg.c: fw_cfg_add_file_from_generator().
    """
    vm, values = boot.vm, entry.values
    if values.get("gen_id"):
        if vm.objects.get(values["gen_id"]) is None:
            raise StartupError(f"Cannot find object ID '{values['gen_id']}'",
                               location=entry.location)
        raise NotModelledError("-fw_cfg gen_id")
    if values.get("file"):
        try:
            vm.host.read_file(values["file"])
        except OSError as error:
            raise StartupError(f"can't load {values['file']}: {glib_error(values['file'], error)}",
                               location=entry.location) from None
    name = values["name"]
    if name in taken:
        raise StartupError(f"duplicate fw_cfg file name: {name}", location=entry.location)
    taken.add(name)


def check_splash(boot: BootState) -> None:
    """-boot splash=: a picture that cannot be used is a warning, and is ignored.

    See hw/nvram/fw_cfg.c: fw_cfg_bootsplash().
    """
    vm = boot.vm
    name = boot.settings.properties.get("boot", {}).get("splash")
    if not name:
        return
    path = find_file(vm.host, vm.configuration.data_directories, name)
    if path is None:
        vm.host.warn(f"failed to find file '{name}'")
        return
    try:
        content = vm.host.read_file(path)
    except OSError as error:
        vm.host.warn(f"failed to read splash file '{path}': {glib_error(path, error)}")
        return
    kind = _picture(content)
    if kind is None:
        vm.host.warn(
            f"splash file '{path}' format not recognized; must be JPEG or 24 bit BMP"
        )
        return
    vm.state.boot_splash = (f"bootsplash.{kind}", content)


def _picture(content: bytes) -> str | None:
    """What firmware shows the content as; None if it cannot."""
    if len(content) < _SMALLEST_PICTURE:
        return None
    if content.startswith(b"\xff\xd8"):
        return "jpg"
    depth = int.from_bytes(content[28:30], "little")
    return "bmp" if content.startswith(b"BM") and depth == _PICTURE_DEPTH else None


def check_kernel(boot: BootState) -> None:
    """-kernel, and -initrd and -dtb, which a kernel may be too old for. Raises StartupError."""
    properties = boot.settings.properties
    path = properties.get("kernel")
    if path is None:
        return
    files = boot.vm.host.files
    try:
        file = files.open(path, writable=False)
    except OSError as error:
        raise _fatal(f"could not open kernel file '{path}': {error.strerror}") from None
    try:
        size = file.size()
        header = file.read(0, _KERNEL_HEADER)
    except OSError as error:
        raise _fatal(f"could not load kernel '{path}': {error.strerror}") from None
    finally:
        file.close()
    boot.read(kernel=path, size=size)
    if header[:4] == b"\x7fELF":
        # loaded whole, and started without the old ways of a PC
        return
    header = header.ljust(_KERNEL_HEADER, b"\0")
    magic, protocol = struct.unpack_from("<IH", header, _BOOT_MAGIC)
    if magic != _HDRS:
        protocol = 0
    if properties.get("initrd"):
        _check_initrd(boot.vm, properties["initrd"], protocol)
    if size < ((header[_SETUP_SECTORS] or 4) + 1) * _SECTOR:
        raise _fatal("invalid kernel header")
    if properties.get("dtb"):
        _check_dtb(boot.vm, properties["dtb"], protocol)


def _check_initrd(vm: Machine, path: str, protocol: int) -> None:
    if protocol < _TAKES_INITRD:
        raise _fatal("linux kernel too old to load a ram disk")
    try:
        vm.host.files.open(path, writable=False).close()
    except OSError as error:
        why = f"Failed to open file “{path}”: open() failed: {error.strerror}"
        raise _fatal(f"error reading initrd {path}: {why}") from None


def _check_dtb(vm: Machine, path: str, protocol: int) -> None:
    if protocol < _TAKES_DTB:
        raise _fatal("Linux kernel too old to load a dtb")
    size = file_size(vm.host, path)
    if size is None or size <= 0:
        why = vm.host.file_error(path) or "Success"
        raise _fatal(f"error reading dtb {path}: {why}")


def check_flash(boot: BootState) -> bool:
    """The flash chips that hold firmware; whether there is one. Raises StartupError."""
    vm = boot.vm
    machine = vm.state.type
    if machine is None or not vm.profile.is_a(machine.typename, "generic-pc-machine"):
        return False
    chips = [boot.settings.properties.get(f"pflash{number}") or None for number in (0, 1)]
    nodes = [_chip(vm, number, chip) for number, chip in enumerate(chips)]
    if nodes[1] is not None and nodes[0] is None:
        raise StartupError("pflash1 requires pflash0")
    total = 0
    for chip in nodes:
        if chip is None:
            continue
        name, size = chip
        if size is None:
            raise StartupError(f"can't get size of block device {name}: No medium found")
        if size == 0 or size % _FLASH_SECTOR:
            boot.messages.report(f"system firmware block device {name} has invalid size {size}")
            raise StartupError(
                f"info: its size must be a non-zero multiple of 0x{_FLASH_SECTOR:x}"
            )
        total += size
        if total > _FLASH_LIMIT:
            raise StartupError(f"combined size of system firmware exceeds {_FLASH_LIMIT} bytes")
    return nodes[0] is not None


def _chip(vm: Machine, number: int, chosen: str | None) -> tuple[str, int | None] | None:
    """Name and bytes (None: no medium) of what a flash chip holds; None if it holds nothing."""
    if chosen is not None:
        if not vm.block.backends.exists(chosen):
            raise StartupError(f"Property 'cfi.pflash01.drive' can't find value '{chosen}'")
        backend = vm.block.backends.named.get(chosen)
        node = backend.node if backend is not None else vm.block.graph.find(chosen)
        name = chosen if backend is not None else ""
    else:
        backend = vm.block.drives.at("pflash", 0, number)
        if backend is None:
            return None
        node, name = backend.node, backend.name
    if node is None:
        return name, None
    return name, -(-node.driver.length(node) // _SECTOR) * _SECTOR


def check_bios(boot: BootState) -> None:
    """-bios, which firmware in flash makes superfluous. Raises StartupError."""
    name = boot.settings.properties.get("firmware")
    if name is None:
        return
    # without a name it is the folder that is found, which is no file
    folders = boot.vm.configuration.data_directories
    path = find_file(boot.vm.host, folders, name) if name else None
    boot.read(firmware=path)
    size = file_size(boot.vm.host, path) or 0 if path is not None else 0
    if size <= 0 or size % _BIOS_UNIT:
        raise _fatal(f"could not load PC BIOS '{name}'")


def check_option_roms(boot: BootState) -> None:
    """-option-rom: a missing one is a message on standard error, and is ignored."""
    vm = boot.vm
    for entry in boot.configuration.option_roms:
        name = entry.values["romfile"]
        path = find_file(vm.host, vm.configuration.data_directories, name) or name
        try:
            vm.host.read_file(path)
        except OSError as error:
            vm.host.say(
                f"Could not open option rom '{path}': {error.strerror}"
                if vm.profile.traits.option_rom_error_plain
                else f"rom: file {path:<20}: error {glib_error(path, error)}"
            )


