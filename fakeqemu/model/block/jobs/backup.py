"""Backup: the state of now into another node, whatever the guest writes meanwhile.

See block/backup.c: backup_job_create(), backup_run(), backup_loop() and
backup_cleanup_sync_bitmap().
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import HOLE, BlockIoError, Range
from fakeqemu.model.block import copy_range as copying
from fakeqemu.model.block.block_copy import copying_unit
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.copy_before_write import CopyBeforeWrite
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps, permissions as perms
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.node import Edge, Node
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
        discard_source: bool = False,
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
        self.size = base.length(source)
        if self.size != base.length(target):
            raise QapiError("Source and target image have different sizes")
        cluster = self._unit(smallest)
        if 0 < max_chunk < cluster:
            raise QapiError(
                f"Required max-chunk ({max_chunk}) is less than backup cluster size ({cluster})"
            )
        with contextlib.ExitStack() as undo:
            if bitmap is not None:
                bitmaps.create_successor(bitmap)
                undo.callback(bitmaps.reclaim, bitmap)
            filter_driver = CopyBeforeWrite(block.graph)
            filter_driver.discard_source = discard_source
            self.filter: Node | None = self._insert_filter(
                block, filter_driver, cluster, filter_name
            )
            undo.callback(self._remove_filter, block)
            self.block_copy = filter_driver.block_copy
            super().__init__(block, id, source, **more)
            undo.callback(self._give_up, block)
            self.take(self.filter, 0, perms.ALL, speed=speed)
            self.use("target", target, 0, perms.ALL)
            undo.pop_all()
        self.block_copy.compress = compress
        self.block_copy.on_progress = self._copied
        if max_chunk:
            self.block_copy.chunk = min(self.block_copy.chunk, max_chunk // cluster * cluster)
        target.block(self, f"block device is in use by block job: {self.type}")

    def _give_up(self, block: BlockLayer) -> None:
        if self in block.jobs:
            self.give_up()

    def _unit(self, smallest: int) -> int:
        try:
            return copying_unit(self.target, smallest)
        except QapiError as error:
            if smallest >> 63:
                raise
            # the filter refuses it
            raise error.prefixed("Could not create node: ") from None

    def _insert_filter(
        self, block: BlockLayer, driver: CopyBeforeWrite, cluster: int, name: str | None
    ) -> Node:
        node = block.make_filter(driver, self.source, name)
        with block.graph.referenced(node):
            role = frozenset({perms.DATA})
            try:
                block.graph.check_active(Edge(node, "target", self.target, role=role))
            except QapiError as error:
                raise error.prefixed("Could not create node: ") from None
            block.graph.attach(node, "target", self.target, role)
            block.graph.append(
                node, self.source, "file", frozenset({perms.FILTERED, perms.PRIMARY})
            )
            driver.begin(node, cluster)
            if not node.parents:
                node.refs += 1
        return node

    def _copied(self, count: int) -> None:
        """The job, or a guest's write before it, has copied so many bytes."""
        self.done += count

    def set_speed(self, speed: int) -> None:
        """Copy so many bytes a second. Raises QapiError."""
        super().set_speed(speed)
        self.block_copy.speed = speed

    def _remove_filter(self, block: BlockLayer) -> None:
        if self.filter is not None:
            found, self.filter = self.filter, None
            block.remove_filter(found, child="file")

    def begun(self) -> None:
        """The filter is inserted while the job already runs, which pauses it once."""
        self.pause()
        self.drained = True

    @property
    def sleeps_on(self) -> bool:
        """Block copy waits by itself: block/block-copy.c: block_copy_dirty_clusters()."""
        return True

    # -- work ----------------------------------------------------------------------------------

    def work(self) -> Work:
        """Copy what the mode asks for."""
        yield 0
        yield from self._init_bitmap()
        self.total = self.done + self.block_copy.bitmap.count
        if self.sync == "none":
            while True:
                yield WAIT
        while True:
            flight, at = InFlight(self.max_workers), 0
            while (task := (yield from self._next_task(at))) is not None:
                at = task.end
                try:
                    run = functools.partial(self.block_copy.run, task)
                    yield from self.request(run, self.target)
                except BlockIoError as error:
                    flight.failed(error)
                if flight.over():
                    break
                if flight.failure is not None:
                    if self._limited(task.length):
                        break
                    continue  # what was sent already ends before the job reacts
                yield task.length
            if flight.failure is None:
                return
            action = self.react(flight.failure)
            if action == "report":
                raise flight.failure
            yield 0 if action == "stop" else RETRY

    def _delay(self, counted: int) -> int:
        """The speed delays what is still to be copied, the nodes below each request."""
        limited = self._limited(counted)
        more = self.block_copy.bitmap.next_dirty_area(0, self.size) is not None
        return max(limited if more else 0, self._below(counted))

    def _init_bitmap(self) -> Work:
        """See block/backup.c: backup_init_bcs_bitmap(); until then all is to be copied."""
        if self.bitmap is not None and self.sync in ("bitmap", "incremental"):
            self.block_copy.only(self.bitmap)
        elif self.sync == "top":
            node = self.source.skip_filters()
            found = yield from copying.Ranges(
                self, lambda at: base.status(node, at, self.size)
            ).all()
            own = (piece for piece in found if piece.kind != HOLE)
            self.block_copy.keep_clusters(
                copying.dirty_grains(own, self.block_copy.bitmap.granularity, self.size)
            )

    def _next_task(self, at: int) -> copying.Waits[Range | None]:
        """The first piece from `at` on that is still to be copied, cut to one request."""
        return copying.Ranges(self, self._tasks, at).next()

    def _tasks(self, at: int) -> Iterator[Range]:
        task = self.block_copy.next_task(at, self.size)
        if task is not None:
            yield task

    # -- the end ---------------------------------------------------------------------------------

    def commit(self) -> None:
        """Let the bitmap keep what its mode says; see `bitmap_mode`."""
        self._settle_bitmap(failed=False)

    def abort(self) -> None:
        """The bitmap keeps all, or what was not copied."""
        self._settle_bitmap(failed=True)

    def _settle_bitmap(self, *, failed: bool) -> None:
        if self.bitmap is None:
            return
        always = self.bitmap_mode == "always"
        if always or (self.bitmap_mode == "on-success" and not failed):
            left = bitmaps.abdicate(self.bitmap)
        else:
            left = bitmaps.reclaim(self.bitmap)
        if failed and always:
            left.merge(self.block_copy.bitmap)

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
