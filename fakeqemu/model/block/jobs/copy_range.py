"""Copying between nodes as jobs do it: piece by piece, zeros as zeros.

See block/block-copy.c: block_copy(); block/block-backend.c: blk_co_copy_range().
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fakeqemu.formats import extents
from fakeqemu.formats.extents import DATA, Range
from fakeqemu.formats.intervals import Intervals
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph.node import Node

if TYPE_CHECKING:
    from fakeqemu.model.block.jobs.job import Job


def pieces(job: Job, ranges: Iterator[Range], chunk: int) -> Iterator[Range]:
    """Ranges cut to what is done in one step: data always, the rest only when speed counts."""
    for each in ranges:
        step = chunk if each.kind == DATA or job.speed else max(chunk, each.length)
        at = each.offset
        while at < each.end:
            count = min(step, each.end - at)
            yield Range(at, count, each.kind)
            at += count


def read(source: Node, offset: int, count: int) -> bytes:
    """Read; a failure says that it was one. Raises BlockIoError."""
    try:
        return base.read(source, offset, count)
    except extents.BlockIoError as error:
        error.operation = "read"
        raise


def copy(source: Node, target: Node, piece: Range) -> None:
    """Make `target` read like `source` in a piece."""
    count = min(piece.length, base.length(target) - piece.offset)
    if count <= 0:
        return
    if piece.kind == DATA:
        base.write(target, piece.offset, read(source, piece.offset, count))
    else:
        base.zero(target, piece.offset, count)


def dirty_grains(ranges: Iterator[Range], granularity: int, size: int) -> Intervals:
    """The grains that ranges touch."""
    grains = Intervals()
    for each in ranges:
        end = min(each.end, size)
        if each.offset < end:
            grains.add(each.offset // granularity, -(-end // granularity))
    return grains


def wait_for(job: Job, target: Node) -> bool:
    """Whether the job has to wait for `target`, which then wakes it."""
    return any(node.driver.when_idle(node, job.kick) for node in target.subtree())
