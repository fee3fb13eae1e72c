"""What a guest reads from its disks and writes to them.

See hw/block/virtio-blk.c: virtio_blk_handle_request().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.block.backends.guest_io import FILLER, GuestRequest
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.layer import BlockLayer


def write_disk(
    block: BlockLayer,
    disk: str,
    offset: int = 0,
    size: int | None = None,
    data: bytes | None = None,
) -> None:
    """Write to a disk: id or name of its device, or node name.

    Raises QapiError, and BlockIoError if the guest is to see one (`werror`).
    """
    if data is not None:
        size = len(data)
    count = 4096 if size is None else size
    backend = backend_of(block, disk)
    if backend is None:
        block.write(disk, offset, FILLER * count if data is None else data)
        return
    block.guest_io.perform(GuestRequest(backend, "write", offset, count, data))


def read_disk(block: BlockLayer, disk: str, offset: int = 0, size: int = 4096) -> None:
    """Read from a disk: id or name of its device, or node name.

    Raises QapiError, and BlockIoError if the guest is to see one (`rerror`).
    """
    backend = backend_of(block, disk)
    if backend is None:
        raise QapiError(f"Node '{disk}' is no disk of a device")
    block.guest_io.perform(GuestRequest(backend, "read", offset, size))


def backend_of(block: BlockLayer, disk: str) -> Backend | None:
    """A disk's backend; None for a node that has none. Raises QapiError.

    A device may also be one that has the disk inside, as virtio devices on a bus have.
    """
    backend = block.backends.named.get(disk)
    if backend is None and block.graph.find(disk) is None:
        inside = f"/machine/peripheral/{disk}/"
        backend = next(
            (b for b in block.backends.all if b.device and b.device.path.startswith(inside)), None
        )
        backend = backend or block.backends.get(None, disk)
    if backend is None:
        found = block.graph.find(disk)
        backend = block.backends.on(found) if found is not None else None
    if backend is not None and backend.node is None:
        raise QapiError(f"Device '{disk}' has no medium")
    return backend
