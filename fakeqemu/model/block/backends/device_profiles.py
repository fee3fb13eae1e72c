"""How each type of device uses its block backend: trays, errors kept, what it wants of the node.

See hw/block/block.c: blkconf_apply_backend_options(); hw/ide/ide-dev.c: ide_dev_initfn();
hw/scsi/scsi-disk.c: scsi_realize(); hw/block/virtio-blk.c: virtio_blk_device_realize(). Those
that cancel jobs call blockdev.c: blockdev_mark_auto_del().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.qdev.device import DeviceObject


@dataclass(frozen=True, slots=True)
class BlockDeviceProfile:
    """How devices of a type use their backend."""

    removable: bool = False
    tray: bool = False
    #: whether it follows `rerror` and `werror`, and an I/O error is kept and shown
    io_status: bool = True
    #: who says that no `rerror` and `werror` of a -drive can be followed; empty: accepted
    refuses_actions: str = ""
    #: whether a request that failed counts as such even where the guest does not see it
    counts_every_failure: bool = False
    #: whether it says on standard error that a request failed
    reports_failure: bool = False
    #: whether the node below may change its size
    resizable: bool = True
    #: only reads
    read_only: bool = False
    #: what a read-only node meets: the device may "follow" it, or insists on writing ("")
    on_read_only: str = "follow"
    #: whether it wants to write to each medium that is put in, as far as that can be written
    follows_medium: bool = False
    #: whether it can do without a medium or backend
    may_be_empty: bool = False
    #: whether an iothread may do the medium's I/O
    iothreads: bool = False
    #: whether it reads the medium's first sector to guess a geometry
    guesses_geometry: bool = False
    #: whether jobs on the medium of a -drive are cancelled when it goes
    cancels_jobs: bool = False


#: QOM type (or an ancestor) -> how it uses its backend
KINDS: dict[str, BlockDeviceProfile] = {
    "virtio-blk-device": BlockDeviceProfile(guesses_geometry=True, cancels_jobs=True),
    "ide-cd": BlockDeviceProfile(removable=True, tray=True, resizable=False, read_only=True,
                   may_be_empty=True),
    "ide-hd": BlockDeviceProfile(guesses_geometry=True, on_read_only=""),
    "ide-cf": BlockDeviceProfile(guesses_geometry=True, on_read_only=""),
    "scsi-cd": BlockDeviceProfile(iothreads=True, removable=True, tray=True, read_only=True,
                    may_be_empty=True, counts_every_failure=True, cancels_jobs=True),
    "scsi-hd": BlockDeviceProfile(iothreads=True, guesses_geometry=True,
                    counts_every_failure=True, cancels_jobs=True),
    "scsi-block": BlockDeviceProfile(iothreads=True, counts_every_failure=True, cancels_jobs=True),
    "scsi-generic": BlockDeviceProfile(
        io_status=False, refuses_actions="Device", cancels_jobs=True,
    ),
    "usb-storage": BlockDeviceProfile(guesses_geometry=True, counts_every_failure=True,
                    cancels_jobs=True),
    "nvme": BlockDeviceProfile(io_status=False, reports_failure=True),
    "nvme-ns": BlockDeviceProfile(io_status=False, reports_failure=True),
    "floppy": BlockDeviceProfile(
        removable=True, io_status=False, resizable=False, may_be_empty=True, refuses_actions="fdc",
        follows_medium=True,
    ),
    "sd-card": BlockDeviceProfile(
        removable=True, io_status=False, resizable=False, may_be_empty=True,
    ),
    "sd-card-spi": BlockDeviceProfile(
        removable=True, io_status=False, resizable=False, may_be_empty=True,
    ),
    "cfi.pflash01": BlockDeviceProfile(io_status=False, resizable=False),
}  # fmt: skip


_BLOCK_SIZES = (
    "logical_block_size", "physical_block_size", "min_io_size", "opt_io_size",
    "discard_granularity",
)  # fmt: skip
_LARGEST_16_BIT, _NOT_SET = 0xFFFF, 0xFFFFFFFF
_SECTOR = 512


def check_block_sizes(device: DeviceObject) -> None:
    """Raise QapiError for sizes that do not fit together.

    See hw/block/block.c: blkconf_blocksizes(); hw/ide/ide-dev.c: ide_dev_initfn();
    hw/block/fdc.c: floppy_drive_realize().
    """
    given = device.given | getattr(device.parent, "given", set())
    if "logical_block_size" not in device.values or given.isdisjoint(_BLOCK_SIZES):
        return
    sizes = {name: device.values.get(name) or 0 for name in _BLOCK_SIZES if name in given}
    logical = sizes.get("logical_block_size") or _SECTOR
    physical = sizes.get("physical_block_size") or _SECTOR
    ide = device.type.startswith("ide-")
    if ide and sizes.get("discard_granularity", _NOT_SET) not in (_NOT_SET, _SECTOR):
        raise QapiError(f"discard_granularity must be {_SECTOR} for ide")
    if logical > physical:
        raise QapiError("logical_block_size > physical_block_size not supported")
    if sizes.get("min_io_size", 0) % logical:
        raise QapiError("min_io_size must be a multiple of logical_block_size")
    if sizes.get("min_io_size", 0) // logical > _LARGEST_16_BIT:
        raise QapiError(f"min_io_size must not exceed {_LARGEST_16_BIT} logical blocks")
    for name in ("opt_io_size", "discard_granularity"):
        if sizes.get(name, 0) % logical and sizes[name] != _NOT_SET:
            raise QapiError(f"{name} must be a multiple of logical_block_size")
    if ide and logical != _SECTOR:
        raise QapiError(f"logical_block_size must be {_SECTOR} for IDE")
    if device.type == "floppy" and (logical, physical) != (_SECTOR, _SECTOR):
        raise QapiError(f"Physical and logical block size must be {_SECTOR} for floppy")
