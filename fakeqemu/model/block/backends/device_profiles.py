"""How each type of device uses its block backend: trays, errors kept, what it wants of the node.

See hw/block/block.c: blkconf_apply_backend_options(); hw/ide/ide-dev.c: ide_dev_initfn();
hw/scsi/scsi-disk.c: scsi_realize(); hw/block/virtio-blk.c: virtio_blk_device_realize().
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
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
KINDS: dict[str, Kind] = {
    "virtio-blk-device": Kind(),
    "ide-cd": Kind(removable=True, tray=True, resizable=False, read_only=True,
                   may_be_empty=True),
    "ide-hd": Kind(on_read_only=""),
    "ide-cf": Kind(on_read_only=""),
    "scsi-cd": Kind(removable=True, tray=True, read_only=True, may_be_empty=True,
                    counts_every_failure=True),
    "scsi-hd": Kind(counts_every_failure=True),
    "scsi-block": Kind(counts_every_failure=True),
    "scsi-generic": Kind(io_status=False, refuses_actions="Device"),
    "usb-storage": Kind(counts_every_failure=True),
    "nvme": Kind(io_status=False, reports_failure=True),
    "nvme-ns": Kind(io_status=False, reports_failure=True),
    "floppy": Kind(removable=True, io_status=False, resizable=False, may_be_empty=True,
                   refuses_actions="fdc"),
    "sd-card": Kind(removable=True, io_status=False, resizable=False, may_be_empty=True),
    "sd-card-spi": Kind(removable=True, io_status=False, resizable=False, may_be_empty=True),
    "cfi.pflash01": Kind(io_status=False, resizable=False),
}  # fmt: skip
