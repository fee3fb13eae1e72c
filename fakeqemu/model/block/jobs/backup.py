"""Backup: the state of now into another node, whatever the guest writes meanwhile.

See block/backup.c: backup_job_create(), backup_run() and backup_loop().
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.formats.extents import CHUNK, DATA, HOLE, BlockIoError, Range
from fakeqemu.formats.intervals import Intervals
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.copy_before_write import CopyBeforeWrite, copying_unit
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.jobs import copy_range as copying
from fakeqemu.model.block.jobs.blockjob import BlockJob
from fakeqemu.model.block.jobs.in_flight import InFlight
from fakeqemu.model.block.jobs.job import RETRY, WAIT, Work
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer


_INT_MAX = 0x7FFFFFFF


class BackupJob(BlockJob):
    """blockdev-backup and drive-backup.

    `sync`: full, top, none, incremental, bitmap. `bitmap_mode`: on-success, never, always.
    """

    type = "backup"

    def __init__(
        self,
        block: BlockLayer,
        id: str | None,
        source: Node,
        target: Node,
        *,
        sync: str,
        bitmap: Bitmap | None = None,
        bitmap_mode: str = "on-success",
        speed: int = 0,
        compress: bool = False,
        filter_name: str | None = None,
        max_workers: int = 64,
        max_chunk: int = 0,
        smallest: int = 0,
        **more: Any,
    ) -> None:
        self.source, self.target, self.sync = source, target, sync
        self.bitmap, self.bitmap_mode = bitmap, bitmap_mode
        #: requests at a time
        self.max_workers = max_workers
        _check(source, target)
        _check_perf(max_workers, max_chunk)
        if bitmap is not None:
            bitmap.check(ro=bitmap_mode != "never")
        size = base.length(source)
        if size != base.length(target):
            raise QapiError("Source and target image have different sizes")
        self.size = size
        self.compress = compress
        self.cluster = self._unit(block, smallest)
        if 0 < max_chunk < self.cluster:
            raise QapiError(
                f"Required max-chunk ({max_chunk}) is less than backup cluster size"
                f" ({self.cluster})"
            )
        #: the longest request, in bytes
        self.chunk = max(self.cluster, CHUNK)
        if max_chunk:
            self.chunk = min(self.chunk, max_chunk // self.cluster * self.cluster)
        self.filter: Node | None = self._insert_filter(block, filter_name)
        try:
            super().__init__(block, id, source, **more)
        except QapiError:
            self._remove_filter(block)
            raise
        try:
            self.take(self.filter, 0, perms.ALL, speed=speed)
            self.use("target", target, 0, perms.ALL)
        except QapiError:
            self.release()
            self._remove_filter(block)
            if self in block.jobs.all:
                self.give_up()
            raise
        self._bits = Intervals()
        if bitmap is not None:
            self._bits = bitmap.copy_bits()
            bitmap.busy = True
        target.block(self, f"block device is in use by block job: {self.type}")

    def _unit(self, block: BlockLayer, smallest: int) -> int:
        try:
            return copying_unit(block.graph, self.target, smallest)
        except QapiError as error:
            if smallest >> 63:
                raise
            # the filter refuses it
            raise error.prefixed("Could not create node: ") from None

    def _insert_filter(self, block: BlockLayer, name: str | None) -> Node:
        filter_driver = CopyBeforeWrite(block.graph)
        filter_driver.cluster = self.cluster
        filter_driver.on_kept = self._kept
        node = block.make_filter(filter_driver, self.source, name)
        with block.graph.referenced(node):
            block.graph.attach(node, "target", self.target, frozenset({perms.DATA}))
            block.graph.append(
                node, self.source, "file", frozenset({perms.FILTERED, perms.PRIMARY})
            )
            if not node.parents:
                node.refs += 1
        return node

    def _kept(self, count: int) -> None:
        """The guest was about to write, and the filter copied first."""
        self.done += count
        self.total = max(self.total, self.done)

    def _remove_filter(self, block: BlockLayer) -> None:
        if self.filter is not None:
            found, self.filter = self.filter, None
            block.remove_filter(found, child="file")

    def begun(self) -> None:
        """The filter goes in while the job already runs, and so it stands still once."""
        self.pause()
        self.drained = True

    # -- work ----------------------------------------------------------------------------------

    def work(self) -> Work:
        """Copy what the mode asks for."""
        yield 0
        if self.sync == "none":
            self.total = self.size
            while True:
                yield WAIT
        wanted = yield from copying.Ranges(self, self._wanted).all()
        self.total = sum(piece.length for piece in wanted)
        while True:
            flight = InFlight(self.max_workers)
            for piece in copying.pieces(self, iter(wanted), self.chunk):
                if not self._lacks(piece):
                    continue
                try:
                    yield from self.request(functools.partial(self._copy, piece), self.target)
                except BlockIoError as error:
                    flight.failed(error)
                if flight.over():
                    break
                if flight.failure is not None:
                    if self._limited(piece.length):
                        break
                    continue  # what was sent already ends before the job reacts
                yield piece.length
            if flight.failure is None:
                return
            action = self.react(flight.failure)
            if action == "report":
                raise flight.failure
            yield 0 if action == "stop" else RETRY

    def _lacks(self, piece: Range) -> bool:
        """Whether some of it has not been copied yet, by the job or before a guest's write."""
        assert self.filter is not None
        kept = self.filter.driver
        assert isinstance(kept, CopyBeforeWrite)
        return not kept.kept.covers(piece.offset // self.cluster, -(-piece.end // self.cluster))

    def _copy(self, piece: Range) -> None:
        """Copy what the filter has not yet; nothing of it counts if that goes wrong."""
        assert self.filter is not None
        kept = self.filter.driver
        assert isinstance(kept, CopyBeforeWrite)
        units = piece.offset // self.cluster, -(-piece.end // self.cluster)
        before, done = list(kept.kept.within(*units)), self.done
        try:
            self._copy_units(piece, kept)
        except BlockIoError:
            if not self.compress:  # what is compressed cannot be written once more
                kept.kept.remove(*units)
                for each in before:
                    kept.kept.add(*each)
                self.done = done
            raise

    def _copy_units(self, piece: Range, kept: CopyBeforeWrite) -> None:
        for unit in range(piece.offset // self.cluster, -(-piece.end // self.cluster)):
            if unit in kept.kept:
                continue
            first = max(unit * self.cluster, piece.offset)
            end = min((unit + 1) * self.cluster, piece.end)
            whole = end % self.cluster == 0 or end == self.size
            if self.compress and whole:
                self._compress(unit * self.cluster, end)
            elif not self.compress:
                for part in self._parts(first, end):
                    copying.copy(self.source, self.target, part)
            if whole:
                kept.kept.add(unit, unit + 1)
            self.done += end - first

    def _parts(self, first: int, end: int) -> Iterator[Range]:
        """What is to be read, or is zeros; a protocol that does not tell is read."""
        lowest = [*self.source.chain()][-1].skip_filters()
        for part in base.status_above(self.source, None, first, end, holes=True):
            if part.kind != HOLE:
                yield part
            else:
                told = lowest.driver.supports_backing
                yield Range(part.offset, part.length, extents.ZERO if told else DATA)

    def _compress(self, first: int, end: int) -> None:
        parts = list(base.status_above(self.source, None, first, end))
        if any(part.kind == DATA for part in parts):
            data = copying.read(self.source, first, end - first)
            with self.block.graph.waiting.sending_ahead():
                base.write_compressed(self.target, first, data)
        else:
            with self.block.graph.waiting.sending_ahead():
                base.zero(self.target, first, end - first)

    def _wanted(self, start: int) -> Iterator[Range]:
        """What is to be copied, from `start` on."""
        if self.bitmap is not None and self.sync in ("bitmap", "incremental"):
            for offset, count in self._clusters(self.bitmap.ranges()):
                yield Range(offset, count, DATA)
            return
        if self.sync == "top":
            for piece in base.status(self.source.skip_filters(), start, self.size):
                if piece.kind != HOLE:
                    yield piece
            return
        yield from base.status_above(self.source, None, start, self.size)

    def _clusters(self, ranges: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Ranges made of whole clusters."""
        end = 0
        for offset, count in ranges:
            first = max(end, offset // self.cluster * self.cluster)
            end = min(-(-(offset + count) // self.cluster) * self.cluster, self.size)
            if first < end:
                yield first, end - first

    # -- the end ---------------------------------------------------------------------------------

    def commit(self) -> None:
        """The bitmap starts anew where it is to."""
        self._settle_bitmap(failed=False)

    def abort(self) -> None:
        """The bitmap keeps all, or what was not copied."""
        self._settle_bitmap(failed=True)

    def _settle_bitmap(self, *, failed: bool) -> None:
        bitmap = self.bitmap
        if bitmap is None:
            return
        bitmap.busy = False
        if self.bitmap_mode == "never" or (failed and self.bitmap_mode == "on-success"):
            return
        written_since = bitmap.copy_bits() - self._bits
        bitmap.restore(written_since)

    def clean(self) -> None:
        """Take the filter out."""
        self.target.unblock(self)
        self.release()
        self._remove_filter(self.block)


def _check_perf(max_workers: int, max_chunk: int) -> None:
    if not 1 <= max_workers <= _INT_MAX:
        raise QapiError(f"max-workers must be between 1 and {_INT_MAX}")
    if max_chunk < 0:
        raise QapiError("max-chunk must be zero (which means no limit) or positive")


def _check(source: Node, target: Node) -> None:
    if source is target:
        raise QapiError("Source and target cannot be the same")
    source.check_operation("backup-source")
    target.check_operation("backup-target")
