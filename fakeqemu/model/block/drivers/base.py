"""Requests to nodes: what comes about around a driver's own part of them.

See block/io.c: bdrv_co_preadv_part(), bdrv_co_pwritev_part(), bdrv_co_pdiscard() and
bdrv_co_flush().
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fakeqemu.formats.extents import DATA, HOLE, MAX_LENGTH, ZERO, BlockIoError, Range, check_length
from fakeqemu.model.block.drivers.driver import debug_event, inserted
from fakeqemu.model.block.graph import permissions as perms

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node


def check_request(offset: int, count: int) -> None:
    """Raise BlockIoError for a range that no request may have: bdrv_check_qiov_request()."""
    if offset < 0 or count > MAX_LENGTH or offset > MAX_LENGTH - count:
        raise BlockIoError


def length(node: Node) -> int:
    """A node's size."""
    return node.driver.length(node)


def read(node: Node, offset: int, count: int) -> bytes:
    """Read from a node, and with -drive copy-on-read=on copy into it what is below."""
    if node.copy_on_read:
        from fakeqemu.model.block.graph.allocation import copy_up

        copy_up(node, offset, count)
    return node.driver.read(node, offset, count)


@contextmanager
def _writing(node: Node, *, fua: bool = False) -> Iterator[None]:
    """A write, which counts as one once it is over; `fua`: no sooner than when it is on disk."""
    try:
        yield
        if fua:
            flush(node)
    finally:
        node.write_gen += 1


def write(node: Node, offset: int, data: bytes, *, fua: bool = False) -> None:
    """Write to a node; the guest's place in the world of write thresholds and bitmaps.

    `fua`: have it on disk before this is over (BDRV_REQ_FUA). With detect-zeroes what is all
    zeros is written as such: bdrv_aligned_pwritev().
    """
    if node.detect_zeroes != "off" and not data.strip(b"\0"):
        zero(node, offset, len(data), fua=fua)
        return
    with _writing(node, fua=fua):
        debug_event(node, "pwritev")
        node.driver.write(node, offset, data)
        debug_event(node, "pwritev_done")
    _written(node, offset, len(data))


def zero(node: Node, offset: int, count: int, *, fua: bool = False) -> None:
    """Make a range of a node read as zeros; `fua` as in `write`."""
    with _writing(node, fua=fua):
        debug_event(node, "pwritev_zero")
        node.driver.zero(node, offset, count)
        debug_event(node, "pwritev_done")
    _written(node, offset, count)


def truncate(node: Node, size: int, prealloc: str = "off") -> None:
    """Change a node's size. See block/io.c: bdrv_co_truncate(). Raises QapiError.

    `prealloc`: a PreallocMode, of what is new.
    """
    check_length(size)
    with _writing(node):
        node.driver.truncate(node, size, prealloc)


def write_compressed(node: Node, offset: int, data: bytes) -> None:
    """Write to a node so that it takes less room, where its format can. Raises QapiError."""
    with _writing(node):
        node.driver.write_compressed(node, offset, data)
    _written(node, offset, len(data))


def discard(node: Node, offset: int, count: int) -> None:
    """Discard a range of a node; what it reads as afterwards is the driver's choice.

    A node that was not opened with discard=unmap does nothing (see block/io.c:
    bdrv_co_pdiscard()).
    """
    if not node.read_only and node.discard == "unmap":
        with _writing(node):
            node.driver.discard(node, offset, count)
        _written(node, offset, count)


def flush(node: Node) -> None:
    """Write back what a node and those below keep, to disk what was written since the last time.

    Raises BlockIoError. See block/io.c: bdrv_co_flush().
    """
    if not node.read_only and inserted(node):
        _flush_inserted(node)


def _flush_inserted(node: Node) -> None:
    """The same of a node that has a medium, and so have all below."""
    if node.read_only:
        return
    written = node.write_gen
    if node.driver.flushes_below:
        for name in node.driver.flushes_below:
            if name in node.children:
                _flush_inserted(node.children[name].node)
    else:
        if node.primary is not None:
            debug_event(node.primary, "flush_to_os")
        node.driver.flush_to_os(node)
        if not node.cache_no_flush and node.flushed_gen != written:
            if node.primary is not None:
                debug_event(node.primary, "flush_to_disk")
            node.driver.flush_to_disk(node)
        _flush_children(node)
    node.flushed_gen = written


def _flush_children(node: Node) -> None:
    failed: BlockIoError | None = None
    for edge in list(node.children.values()):
        if edge.perm & (perms.WRITE | perms.WRITE_UNCHANGED):
            try:
                _flush_inserted(edge.node)
            except BlockIoError as error:
                failed = failed or error
    if failed is not None:
        raise failed


def _written(node: Node, offset: int, count: int) -> None:
    end = offset + count
    node.highest_write = max(node.highest_write, end)
    for bitmap in node.bitmaps:
        bitmap.mark(offset, count)
    if node.write_threshold and end > node.write_threshold:
        threshold, node.write_threshold = node.write_threshold, 0
        data = {"amount-exceeded": end - threshold, "write-threshold": threshold}
        events = node.driver.graph.process.events
        events.emit("BLOCK_WRITE_THRESHOLD", {"node-name": node.name, **data})


def status(node: Node, start: int, end: int) -> Iterator[Range]:
    """What a range of a node is at its own layer."""
    return node.driver.status(node, start, end)


def status_above(
    node: Node, base: Node | None, start: int, end: int, *, holes: bool = False
) -> Iterator[Range]:
    """What a range is, seen from `node` down to and without `base`; HOLE: `base` has it.

    Filters right above `base` belong to it: their data are its own.
    Without `base` what nobody has is zeros, or with `holes` HOLE.
    """
    if base is not None and base in node.filters_and_image():
        yield Range(start, end - start, HOLE)
        return
    below = node.below
    for piece in status(node, start, end):
        target = below if piece.kind == HOLE else None
        if target is None:
            if piece.kind == HOLE and base is None and not holes:
                from fakeqemu.model.block.graph.allocation import hides_backing

                kind = DATA if hides_backing(node) else ZERO
                yield Range(piece.offset, piece.length, kind)
            else:
                yield piece
            continue
        inside = min(piece.end, length(target))
        if piece.offset < inside:
            yield from status_above(target, base, piece.offset, inside, holes=holes)
        if inside < piece.end:
            first = max(inside, piece.offset)
            yield Range(first, piece.end - first, ZERO)
