"""One export of a node over NBD: what a client may do to the node, and what it is shown of it.

See nbd/server.c: nbd_export_create(), nbd_handle_request() and nbd_negotiate_meta_queries().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import DATA, HOLE, ZERO
from fakeqemu.formats.nbd import wire
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.null import NullCo
from fakeqemu.model.block.graph import allocation
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.waiting import RetriedAccess

if TYPE_CHECKING:
    from fakeqemu.formats.nbd.server import NbdServerClient
    from fakeqemu.model.block.backends.backend import Backend

Json = dict[str, Any]
_SECTOR = 512
#: numbers of contexts; bitmaps follow (see nbd/server.c: NBD_META_ID_DIRTY_BITMAP)
_ALLOCATION, _DEPTH, _FIRST_BITMAP = 0, 1, 2


class NbdExport:
    """One export of a node over NBD."""

    type = "nbd"

    def __init__(
        self,
        id: str,
        backend: Backend,
        bitmaps: list[Bitmap],
        arguments: Json,
        *,
        multi_conn: bool,
    ) -> None:
        self.id = id
        self.backend = backend
        self.name: str = arguments["name"] if "name" in arguments else arguments["node-name"]
        self.description: str | None = arguments.get("description")
        self.writable: bool = arguments.get("writable", False)
        self.multi_conn = multi_conn
        self.shutting_down = False
        self.clients: list[NbdServerClient] = []
        self.bitmaps = bitmaps
        depth = "qemu:allocation-depth" if arguments.get("allocation-depth") else ""
        names = [f"qemu:dirty-bitmap:{bitmap.name}" for bitmap in bitmaps]
        self.contexts = ("base:allocation", depth, *names)
        self._size = base.length(self.node) // _SECTOR * _SECTOR
        backend.writeback = not arguments.get("writethrough", False)
        for bitmap in bitmaps:
            bitmap.busy = True

    @property
    def node(self) -> Node:
        """What is exported."""
        assert self.backend.node is not None
        return self.backend.node

    def release(self) -> None:
        """Use the bitmaps no more."""
        for bitmap in self.bitmaps:
            bitmap.busy = False

    def info(self) -> Json:
        """BlockExportInfo."""
        return {
            "id": self.id,
            "type": self.type,
            "node-name": self.node.name,
            "shutting-down": self.shutting_down,
        }

    # -- what the protocol needs (see nbd.Target) ------------------------------------------------

    def size(self) -> int:
        """What the node had when it was exported, in whole sectors."""
        return self._size

    def alignment(self) -> int:
        """The node's request alignment, in bytes."""
        found: int = self._limits()["request-alignment"]
        return found

    def largest(self) -> int:
        """The longest request, in bytes."""
        found: int = self._limits().get("max-transfer") or wire.LARGEST
        return found

    def _limits(self) -> Json:
        return self.node.driver.limits(self.node)

    def inactive(self) -> bool:
        """Whether another process has the image."""
        return self.node.inactive

    def access(self, resume: Callable[[], None]) -> RetriedAccess:
        """One access to the node."""
        return RetriedAccess(self.node.driver.graph.waiting, resume)

    def throttled(self, count: int, *, writes: bool, then: Callable[[], None]) -> bool:
        """Whether throttle nodes hold it back."""
        groups = {node.driver.throttle_group for node in self.node.subtree()} - {""}
        throttling = self.node.driver.graph.throttling
        return throttling.hold_back(groups, count, writes=writes, then=then)

    def _whole(self, *, writes: bool) -> AbstractContextManager[None]:
        """Around an access that has to be made in one go."""
        if _can_begin_anew(self.node, writes=writes):
            return nullcontext()
        return self.node.driver.graph.waiting.in_one_go()

    def read(self, offset: int, count: int) -> bytes:
        """The node's data."""
        with self._whole(writes=False):
            return base.read(self.node, offset, count)

    def write(self, offset: int, data: bytes) -> None:
        """Into the node."""
        with self._whole(writes=True):
            base.write(self.node, offset, data, fua=not self.backend.writeback)

    def zero(self, offset: int, count: int, *, fast: bool) -> None:
        """Zeros into the node; `fast`: only if it does better than writing them."""
        if fast and not _zeroes_fast(self.node):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        with self._whole(writes=True):
            base.zero(self.node, offset, count)

    def trim(self, offset: int, count: int) -> None:
        """Discard in the node."""
        with self._whole(writes=True):
            base.discard(self.node, offset, count)

    def flush(self) -> None:
        """What was written is to be on disk."""
        with self._whole(writes=True):
            base.flush(self.node)

    def cache(self, offset: int, count: int) -> None:
        """What is in a backing image comes into the node."""
        with self.node.driver.graph.waiting.in_one_go():
            allocation.copy_up(self.node, offset, count)

    def status(self, context: int, offset: int, end: int) -> Iterator[tuple[int, int]]:
        """What the context has to say of a range: lengths and flags."""
        if context == _ALLOCATION:
            return self._allocation(offset, end)
        if context == _DEPTH:
            return _depths(self.node, offset, end, 1)
        return _dirty(self.bitmaps[context - _FIRST_BITMAP], offset, end)

    def _allocation(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        lowest = list(self.node.chain())[-1]
        nowhere = wire.STATE_HOLE | (wire.STATE_ZERO if _holes_are_zeros(lowest) else 0)
        states = {DATA: 0, ZERO: wire.STATE_HOLE | wire.STATE_ZERO, HOLE: nowhere}
        for piece in base.status_above(self.node, None, offset, end, holes=True):
            yield piece.length, states[piece.kind]


#: drivers that change nothing of their own when they are read
_READ_ONLY_READS = frozenset(
    {"raw", "nbd", "file", "host_device", "host_cdrom", "null-co", "null-aio", "qcow2",
     "throttle", "compress", "preallocate"}
)  # fmt: skip
#: drivers for which it makes no difference that a write is made twice
_REPEATABLE_WRITES = frozenset({"raw", "nbd", "throttle"})


def _can_begin_anew(node: Node, *, writes: bool) -> bool:
    """Whether an access to `node` can be left halfway and made again."""
    drivers = _REPEATABLE_WRITES if writes else _READ_ONLY_READS
    return all(
        each.driver.name in drivers and not each.copy_on_read for each in node.subtree()
    )


def _holes_are_zeros(lowest: Node) -> bool:
    """Whether holes at the end of a chain are zeros: not of null-co, or a raw one over a chain."""
    while (file := lowest.file) is not None and not lowest.driver.supports_backing:
        lowest = file
    return not isinstance(lowest.driver, NullCo) and lowest.below is None


def _zeroes_fast(node: Node) -> bool:
    """Whether zeros cost less than data.

    See BDRV_REQ_NO_FALLBACK in the supported_zero_flags of QEMU's drivers.
    """
    below = node.skip_filters()
    if below.driver.name == "raw":
        return below.file is not None and _zeroes_fast(below.file)
    return below.driver.name in ("file", "qcow2")


def _depths(node: Node, offset: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
    """How far down the chain each part is allocated: 1 for `node` itself, 0 for nowhere.

    See block/io.c: bdrv_co_common_block_status_above(). What lies behind the end of a shorter
    backing image counts as allocated there.
    """
    inside = min(end, base.length(node))
    deferring = allocation.defers(node)
    below = node.below
    for piece in base.status(node, offset, inside) if offset < inside else ():
        if piece.kind != HOLE or not deferring:
            yield piece.length, depth
        elif below is None:
            yield piece.length, 0
        else:
            yield from _depths(below, piece.offset, piece.end, depth + 1)
    if inside < end:
        yield end - max(offset, inside), depth


def _dirty(bitmap: Bitmap, offset: int, end: int) -> Iterator[tuple[int, int]]:
    """Dirty and clean parts."""
    for start, length in bitmap.ranges(offset, end):
        if offset < start:
            yield start - offset, 0
        yield length, wire.STATE_DIRTY
        offset = start + length
    if offset < end:
        yield end - offset, 0
