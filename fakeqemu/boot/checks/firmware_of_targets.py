"""Firmware, kernels and device trees of boards that are no PC: what their files must be like.

See hw/arm/boot.c, hw/arm/virt.c: virt_firmware_init(); hw/riscv/boot.c: riscv_load_firmware(),
riscv_load_kernel() and riscv_load_initrd(); hw/s390x/ipl.c: s390_ipl_realize();
hw/ppc/spapr.c: spapr_machine_init() and spapr_rma_size(); hw/ppc/pnv.c: pnv_init().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.model.host_files import file_size, find_file
from fakeqemu.qapi.errors import NotModelledError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState
    from fakeqemu.model.machine import Machine

_MIB = 1 << 20
#: of a file that goes to firmware by fw_cfg; hw/nvram/fw_cfg.c: load_image_to_fw_cfg()
_OF_FIRMWARE = 'failed to load "{}"'
_ELF = b"\x7fELF"
#: where an ELF file says its byte order and its architecture, and numbers of those (include/elf.h)
_EI_DATA, _BIG_ENDIAN, _E_MACHINE, _PPC64, _AARCH64 = 5, 2, slice(18, 20), 21, 183


@dataclass(frozen=True)
class Words:
    """What a board says of files that it cannot use; `{}` is the file's name."""

    #: of firmware that is not there, and of firmware that does not fit or cannot be read
    no_firmware: str
    bad_firmware: str
    #: of a kernel; whether the reason of the operating system stands on a line before it
    bad_kernel: str
    kernel_reason: bool
    bad_initrd: str
    #: bytes of firmware that the board has room for, if it is no ELF file of an s390x; None: any
    firmware_limit: int | None = None
    #: bytes that firmware has at least
    firmware_least: int = 1
    kernel_least: int = 1


_ARM = Words(
    "Could not find ROM image '{}'",
    "Could not load ROM image '{}'",
    "could not load kernel '{}'",
    False,
    "could not load initrd '{}'",
    64 * _MIB,
    0,
    0,
)
_RISCV = Words(
    'Unable to find the RISC-V BIOS "{}"',
    "could not load firmware '{}'",
    "could not load kernel '{}'",
    True,
    "could not load ramdisk '{}'",
)
_S390X = Words(
    "could not find stage1 bootloader",
    "could not load bootloader '{}'",
    "could not load kernel '{}'",
    True,
    "could not load initrd '{}'",
    4096,
    0,
)
_PSERIES = Words(
    "Could not find LPAR firmware '{}'",
    "Could not load LPAR firmware '{}'",
    "error loading {}: Failed to load ELF",
    True,
    "could not load initial ram disk '{}'",
    4 * _MIB,
)
_POWERNV = Words(
    "Could not find OPAL firmware '{}'",
    "Could not load OPAL firmware '{}'",
    "Could not load kernel '{}'",
    False,
    "Could not load initial ram disk '{}'",
    16 * _MIB,
    0,
    0,
)
#: type that a board's class descends from, in one target, or in all -> its words
_WORDS = {
    ("aarch64", "virt-machine"): _ARM,
    ("riscv64", "machine"): _RISCV,
    ("s390x", "s390-ccw-machine"): _S390X,
    ("ppc64", "spapr-machine"): _PSERIES,
    ("ppc64", "powernv-machine"): _POWERNV,
}
#: -bios values of RISC-V boards that name no file
_NO_FILE = ("none", "default")
#: bytes of memory that hold the firmware of a RISC-V board and its device tree
_RISCV_LEAST = 3 * _MIB
#: bytes of memory at least, and what is said of less
_LEAST = {
    "spapr-machine": (
        128 * _MIB,
        "pSeries SLOF firmware requires >= 80ldMiB guest RMA (Real Mode Area memory)",
    ),
    "powernv-machine": (1024 * _MIB, "Invalid RAM size, should be bigger than 1 GiB"),
    "s390-ccw-machine": (3 * _MIB, "not enough RAM to load the BIOS file"),
}


def load_firmware(boot: BootState) -> None:
    """What such a board reads from the host when it is made. Raises StartupError.

    NotModelledError for a file that the board cannot use where its words are not known.
    """
    vm, properties = boot.vm, boot.settings.properties
    words = _words(vm)
    for kind, (least, text) in _LEAST.items():
        if vm.state.is_a(kind) and boot.settings.ram_size < least:
            raise StartupError(text)
    if words is _RISCV and boot.settings.ram_size < _RISCV_LEAST:
        raise NotModelledError(f"-m {boot.settings.ram_size}: firmware overlaps the device tree")
    kernel, bios = properties.get("kernel"), properties.get("firmware")
    dtb, initrd = properties.get("dtb"), properties.get("initrd")
    boot.read(kernel=kernel, firmware=bios, dtb=dtb, initrd=initrd)
    # a board of Arm hands them to its firmware, which boots them
    by_firmware = words is _ARM and bool(bios)
    if words in (_RISCV, _POWERNV) and dtb:
        _check_dtb(boot, dtb)
    if bios:
        _check_bios(vm, words, bios)
    if kernel:
        _check_kernel(boot, words, kernel, by_firmware=by_firmware)
        if initrd and file_size(vm.host, initrd) is None:
            text = _known(words, f"-initrd {initrd}").bad_initrd
            raise StartupError((_OF_FIRMWARE if by_firmware else text).format(initrd))
    if words is _ARM and dtb and file_size(vm.host, dtb) is None:
        vm.host.say(f"Couldn't open dtb file {dtb}")
        raise StartupError("")


def _words(vm: Machine) -> Words | None:
    target = vm.profile.target
    found = (words for (each, kind), words in _WORDS.items()
             if each == target and vm.state.is_a(kind))  # fmt: skip
    return next(found, None)


def _known(words: Words | None, what: str) -> Words:
    """Raises NotModelledError where what a board says of `what` is not known."""
    if words is None:
        raise NotModelledError(what)
    return words


def _check_bios(vm: Machine, words: Words | None, name: str) -> None:
    if words is _RISCV and name in _NO_FILE:
        return
    path = find_file(vm.host, vm.configuration.data_directories, name)
    if path is None:
        raise StartupError(_known(words, f"-bios {name}").no_firmware.format(name))
    header = _start(vm, path)
    size = file_size(vm.host, path) if header is not None else None
    if words is None:
        return
    too_big = words.firmware_limit is not None and (size or 0) > words.firmware_limit
    if words is _S390X and too_big:
        too_big = header != _ELF
    if size is None or size < words.firmware_least or too_big:
        raise StartupError(words.bad_firmware.format(name))


def _start(vm: Machine, path: str) -> bytes | None:
    """The first bytes of a file; None if it cannot be read, as a folder cannot."""
    try:
        file = vm.host.files.open(path, writable=False)
    except OSError:
        return None
    try:
        return file.read(0, len(_ELF))
    except OSError:
        return None
    finally:
        file.close()


def _check_kernel(boot: BootState, words: Words | None, path: str, *, by_firmware: bool) -> None:
    vm = boot.vm
    try:
        file = vm.host.files.open(path, writable=False)
    except OSError as error:
        text = _OF_FIRMWARE if by_firmware else _known(words, f"-kernel {path}").bad_kernel
        if words is not None and words.kernel_reason:
            vm.host.say(f"{path}: {error.strerror}")
        raise StartupError(text.format(path)) from None
    try:
        size, header = file.size(), file.read(0, 64)
    except OSError:
        size, header = -1, b""
    finally:
        file.close()
    if words is None or by_firmware:
        return
    if size < words.kernel_least:
        if words is _S390X and not size:
            raise StartupError("Could not get IPL PSW")
        raise StartupError(words.bad_kernel.format(path))
    architecture = _architecture(header)
    if words is _PSERIES and architecture is None:
        raise StartupError(f"error loading {path}: The image is not ELF")
    if words is _PSERIES and architecture != _PPC64:
        raise StartupError(f"error loading {path}: The image is from incompatible architecture")
    if words is _ARM and architecture not in (None, _AARCH64):
        raise StartupError(
            f"Couldn't load elf '{path}': The image is from incompatible architecture"
        )
    if architecture is None and size > boot.settings.ram_size:
        raise _too_big(boot, words, path, size)


def _architecture(header: bytes) -> int | None:
    """Which an ELF file is for; None for what is none."""
    if header[:4] != _ELF:
        return None
    big = header[_EI_DATA] == _BIG_ENDIAN
    return int.from_bytes(header[_E_MACHINE], "big" if big else "little")


def _too_big(boot: BootState, words: Words, path: str, size: int) -> StartupError:
    if words is _ARM:
        return StartupError(
            f"kernel '{path}' is too large to fit in RAM (kernel size {size}, "
            f"RAM size {boot.settings.ram_size})"
        )
    return StartupError(words.bad_kernel.format(path))


def _check_dtb(boot: BootState, path: str) -> None:
    """See system/device_tree.c: load_device_tree()."""
    vm = boot.vm
    powernv = vm.state.is_a("powernv-machine")
    if powernv:
        boot.warn(
            "with manually passed dtb, some options like '-append' will get ignored and the dtb "
            "passed will be used as-is"
        )
    if file_size(vm.host, path) is None:
        boot.messages.report(f"Unable to get size of device tree file '{path}'")
        raise StartupError(
            f"Could not load dtb '{path}'" if powernv else "load_device_tree() failed"
        )
