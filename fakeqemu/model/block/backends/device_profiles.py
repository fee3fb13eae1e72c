"""How each type of device uses its block backend: trays, errors kept, what it wants of the node.

See hw/block/block.c: blkconf_apply_backend_options(); hw/ide/ide-dev.c: ide_dev_initfn();
hw/scsi/scsi-disk.c: scsi_realize(); hw/block/virtio-blk.c: virtio_blk_device_realize().
"""

from __future__ import annotations

from fakeqemu.dataclass import dataclass


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
    #: whether it can do without a medium or backend
    may_be_empty: bool = False


#: QOM type (or an ancestor) -> how it uses its backend
KINDS: dict[str, BlockDeviceProfile] = {
    "virtio-blk-device": BlockDeviceProfile(),
    "ide-cd": BlockDeviceProfile(removable=True, tray=True, resizable=False, read_only=True,
                   may_be_empty=True),
    "ide-hd": BlockDeviceProfile(on_read_only=""),
    "ide-cf": BlockDeviceProfile(on_read_only=""),
    "scsi-cd": BlockDeviceProfile(removable=True, tray=True, read_only=True, may_be_empty=True,
                    counts_every_failure=True),
    "scsi-hd": BlockDeviceProfile(counts_every_failure=True),
    "scsi-block": BlockDeviceProfile(counts_every_failure=True),
    "scsi-generic": BlockDeviceProfile(io_status=False, refuses_actions="Device"),
    "usb-storage": BlockDeviceProfile(counts_every_failure=True),
    "nvme": BlockDeviceProfile(io_status=False, reports_failure=True),
    "nvme-ns": BlockDeviceProfile(io_status=False, reports_failure=True),
    "floppy": BlockDeviceProfile(
        removable=True, io_status=False, resizable=False, may_be_empty=True, refuses_actions="fdc",
    ),
    "sd-card": BlockDeviceProfile(
        removable=True, io_status=False, resizable=False, may_be_empty=True,
    ),
    "sd-card-spi": BlockDeviceProfile(
        removable=True, io_status=False, resizable=False, may_be_empty=True,
    ),
    "cfi.pflash01": BlockDeviceProfile(io_status=False, resizable=False),
}  # fmt: skip
