"""What jobs copy, piece by piece, waiting where a server has to answer first.

See block/mirror.c: mirror_dirty_init() and mirror_iteration().
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Protocol, TypeVar

from fakeqemu.formats.extents import DATA, MustWaitError, Range
from fakeqemu.formats.intervals import Intervals
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.waiting import RetriedAccess, Waiting
from fakeqemu.model.block.jobs.job import WAIT

T = TypeVar("T")

Waits = Generator[int, None, T]


class Copier(Protocol):
    """The job that copies."""

    #: bytes a second; 0: no limit
    speed: int

    @property
    def waiting(self) -> Waiting:
        """How accesses wait for servers."""

    def kick(self) -> None:
        """Go on after a wait."""


class Ranges:
    """What a range is, piece by piece, for a job that waits where a server has to say it.

    `find(at)` gives the pieces from `at` on; it is called anew after each wait.
    """

    def __init__(
        self, job: Copier, find: Callable[[int], Iterator[Range]], start: int = 0
    ) -> None:
        self._job, self._find = job, find
        self._at = start
        self._found = find(start)

    def next(self) -> Waits[Range | None]:
        """The next one; None at the end."""
        access = RetriedAccess(self._job.waiting, self._job.kick)
        try:
            while True:
                try:
                    with access.attempt():
                        piece = next(self._found, None)
                except MustWaitError:
                    yield WAIT
                    self._found = self._find(self._at)
                else:
                    break
        finally:
            access.forget()
        if piece is not None:
            self._at = piece.end
        return piece

    def all(self) -> Waits[list[Range]]:
        """All that are left."""
        found = []
        while (piece := (yield from self.next())) is not None:
            found.append(piece)
        return found


def pieces(job: Copier, ranges: Iterator[Range], chunk: int) -> Iterator[Range]:
    """Neighbours of a kind joined, and cut to what is done in one step.

    Data is cut always, the rest only when speed counts.
    """
    start = end = 0
    kind = ""
    for each in ranges:
        if each.kind != kind or each.offset != end:
            if start < end:
                yield Range(start, end - start, kind)
            start, kind = each.offset, each.kind
        end = each.end
        if kind == DATA or job.speed:
            while end - start >= chunk:
                yield Range(start, chunk, kind)
                start += chunk
    if start < end:
        yield Range(start, end - start, kind)


def dirty_grains(ranges: Iterator[Range], granularity: int, size: int) -> Intervals:
    """The grains that ranges touch."""
    grains = Intervals()
    for each in ranges:
        end = min(each.end, size)
        if each.offset < end:
            grains.add(each.offset // granularity, -(-end // granularity))
    return grains


def bytes_of(grains: Intervals, granularity: int, size: int) -> int:
    """How many bytes grains have of a node of `size` bytes."""
    return sum(min(end * granularity, size) - first * granularity for first, end in grains)


def wait_for(job: Copier, target: Node) -> bool:
    """Whether the job has to wait for `target`, which then wakes it. Raises BlockIoError."""
    return any(node.driver.when_idle(node, job.kick) for node in target.subtree())
