"""Mirror and active commit: copy, then follow the guest's writes until completed or cancelled.

See block/mirror.c: mirror_start_job(), mirror_run(), mirror_exit_common() and mirror_complete().
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.formats.extents import CHUNK, DATA, HOLE, BlockIoError, Range
from fakeqemu.formats.intervals import Intervals
from fakeqemu.model.block import block_copy, copy_range as copying
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.filters import MirrorTop
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps, permissions as perms
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.permission_update import Update
from fakeqemu.model.block.jobs.blockjob import BlockJob
from fakeqemu.model.block.jobs.in_flight import MAX_IN_FLIGHT, InFlight
from fakeqemu.model.block.jobs.job import RETRY, WAIT, Work
from fakeqemu.model.block.operations import backing_chain as chains, relinking, reopen
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.layer import BlockLayer

#: what may be on its way when nobody says how much
_BUF_SIZE = MAX_IN_FLIGHT * CHUNK
_STEADY = perms.CONSISTENT_READ | perms.WRITE_UNCHANGED | perms.WRITE


class MirrorJob(BlockJob):
    """blockdev-mirror and drive-mirror; with `is_commit` an active commit into its backing image.

    `sync`: full, top, none. `base_node`: what needs no copying.
    """

    type = "mirror"
    completable = True
    ends_later = True
    is_commit = False

    def __init__(
        self,
        block: BlockLayer,
        id: str | None,
        source: Node,
        target: Node,
        *,
        sync: str = "full",
        base_node: Node | None = None,
        granularity: int | None = None,
        buf_size: int = 0,
        speed: int = 0,
        replaces: str | None = None,
        filter_name: str | None = None,
        copy_mode: str = "background",
        target_is_zero: bool = False,
        backing_mode: str = "leave",
        clears: bool = True,
        **more: Any,
    ) -> None:
        self.source, self.target = source, target
        self.sync, self.base_node = sync, base_node
        self.replaces = replaces
        self.copy_mode = copy_mode
        self.target_is_zero = target_is_zero
        #: whether what the source has nowhere is made zeros in the target
        self.clears = clears
        self.backing_mode = backing_mode
        self.granularity = granularity or bitmaps.default_granularity(target)
        #: how much may be on its way
        self.buf_size = -(-(buf_size or _BUF_SIZE) // self.granularity) * self.granularity
        #: what was sent together and the speed has not counted yet
        self._sent = 0
        self.replace_pinned: Node | None = None
        if source is target:
            raise QapiError("Can't mirror node into itself")
        self.target_backend: Backend | None = None
        self.bitmap: Bitmap | None = None
        #: whether the target is to be read-only again when the job fails
        self.target_was_read_only = False
        #: whether the target reads as zeros already where the source does
        self._skips_zeros = False
        self.filter = block.insert_filter(MirrorTop(block.graph), source, filter_name)
        assert isinstance(self.filter.driver, MirrorTop)
        self.filter.driver.is_commit = self.is_commit
        try:
            super().__init__(block, id, source, **more)
        except QapiError:
            block.remove_filter(self.filter)
            raise
        try:
            self._take_nodes(speed)
        except QapiError:
            self._drop_target()
            self.release()
            block.remove_filter(self.filter)
            if self in block.jobs:
                self.give_up()
            raise
        self._bitmap()

    def _take_nodes(self, speed: int) -> None:
        self.take(self.filter, perms.CONSISTENT_READ, _STEADY, speed=speed)
        wanted, shared = perms.WRITE, perms.WRITE_UNCHANGED
        if self.is_commit:
            shared |= perms.CONSISTENT_READ | perms.WRITE
            if base.length(self.source) != base.length(self.target):
                wanted |= perms.RESIZE
        backend = self.block.backends.create()
        self.target_backend = backend
        backend.follows_iothread = True
        backend.force_allow_inactivate = not self.is_commit
        backend.perm, backend.shared = wanted, shared
        backend.insert(self.target)
        self.use("source", self.source, 0, _STEADY)
        self.use("target", self.target, 0, perms.ALL)
        if self.is_commit:
            self.use_intermediate(self._between(), self.target)
            for node in [self.filter, self.source, *self._between()]:
                self.freeze(node.chain_edge)

    def _between(self) -> list[Node]:
        return chains.down_to(self.source, self.target)[1:]

    def _bitmap(self) -> None:
        on_filter = self.jobs.process.profile.traits.mirror_bitmap_on_filter
        where = self.filter if on_filter else self.source
        self.bitmap = bitmaps.create(where, None, self.granularity)
        self.bitmap.enabled = not on_filter
        self.bitmap.on_mark = self._wake
        if on_filter:
            top = self.filter.driver
            assert isinstance(top, MirrorTop)
            top.written = self._guest_wrote

    def _guest_wrote(self, offset: int, count: int) -> None:
        if self.bitmap is not None and count:
            self.bitmap.add(offset, count)
            self._wake()

    def _wake(self) -> None:
        if self.state.current == "ready":
            self.kick()

    # -- work ----------------------------------------------------------------------------------

    def work(self) -> Work:
        """Copy what is dirty, get ready, wait for the end."""
        size, target_size = base.length(self.source), base.length(self.target)
        if self.is_commit:
            if size > target_size:
                base.truncate(self.target, size)
        elif size != target_size:
            raise QapiError("Source and target image have different sizes")
        self._clusters = block_copy.WholeClusters(self.target, self.granularity)
        yield 0
        if size:
            grains = yield from self._dirty(size)
            self.total = copying.bytes_of(grains, self.granularity, size)
            assert self.bitmap is not None
            self.bitmap.add_grains(grains)
            yield from self._copy(grains, self._bound, size, skips_zeros=self._skips_zeros)
        yield from self._follow()
        self.set_ready()
        while not self.complete_requested:
            yield WAIT
            yield from self._copy_dirty()
        yield from self._follow()

    def _follow(self) -> Work:
        """Let nothing be left that is only in the source, or not on the target's disk."""
        while True:
            yield from self._copy_dirty()
            if (yield from self._flushed()):
                return

    def _flushed(self) -> copying.Waits[bool]:
        """Whether the target is on disk: mirror_flush(). Raises BlockIoError."""
        try:
            yield from self.request(functools.partial(base.flush, self.target), self.target)
        except BlockIoError as error:
            if self.react(error) == "report":
                raise
            yield 0 if self.pause_count else RETRY
            return False
        return True

    def _copy_dirty(self) -> Work:
        """Copy what the guest has written since it was copied, and what could not be."""
        assert self.bitmap is not None
        while self.bitmap.count:
            grains, size = self.bitmap.copy_bits(), base.length(self.source)
            self.total = self.done + copying.bytes_of(grains, self.granularity, size)
            yield from self._copy(grains, None, size)

    def _copied(self, piece: Range, flight: InFlight) -> copying.Waits[bool]:
        """Copy a piece; where that goes wrong it is dirty again, and the job reacts."""
        assert self.bitmap is not None
        piece = self._clusters.widened(piece, base.length(self.source))
        try:
            yield from self.request(
                functools.partial(block_copy.copy, self.source, self.target, piece), self.target
            )
        except BlockIoError as error:
            self.bitmap.add(piece.offset, piece.length)
            flight.failed(error, report=self.react(error) == "report")
            return False
        self._clusters.written(piece)
        return True

    def _delay(self, counted: int) -> int:
        """The speed counts requests that are sent together, the nodes below count each."""
        sent, self._sent = self._sent, 0
        return max(self._limited(sent), self._below(counted))

    @property
    def _bound(self) -> Node | None:
        """What need not be copied."""
        return self.base_node if self.sync == "top" or self.is_commit else None

    def _dirty(self, size: int) -> copying.Waits[Intervals]:
        """The grains to copy."""
        everything = Intervals([(0, -(-size // self.granularity))])
        if self.sync == "none":
            return Intervals()
        self._skips_zeros = False
        full = self.sync == "full" and self.clears and not self.is_commit
        if full and not (yield from self._target_is_zero(size)):
            if not block_copy.can_unmap(self.target):
                return everything
            with self.block.graph.waiting.sending_ahead():
                self.target.driver.zero(self.target, 0, size)
        elif full:
            self._skips_zeros = self.jobs.process.profile.traits.mirror_sees_zero_target
        above = yield from copying.Ranges(
            self, lambda at: base.status_above(self.source, self._bound, at, size, holes=True)
        ).all()
        needed = (piece for piece in above if piece.kind != HOLE)
        return copying.dirty_grains(needed, self.granularity, size)

    def _target_is_zero(self, size: int) -> copying.Waits[bool]:
        """Whether nothing but zeros can be read from the target."""
        if self.target_is_zero:
            return True
        if not self.jobs.process.profile.traits.mirror_sees_zero_target:
            return False
        return (yield from block_copy.reads_zeros(self, self.target, size))

    def _copy(
        self, grains: Intervals, bound: Node | None, size: int, *, skips_zeros: bool = False
    ) -> Work:
        """Copy grains that are dirty. Raises BlockIoError where an error is to be reported."""
        skipped = {HOLE} if bound is not None else set()
        if skips_zeros:
            skipped.add(extents.ZERO)
        for first, end in grains:
            at, stop = first * self.granularity, min(end * self.granularity, size)
            while at < stop:
                find = functools.partial(self._requests, bound, at + self.buf_size, stop)
                batch = yield from copying.Ranges(self, find, at).all()
                yield from self._send(batch, skipped)
                at = batch[-1].end

    def _requests(
        self, bound: Node | None, limit: int, stop: int, at: int
    ) -> Iterator[Range]:
        """What is sent together: from `at` to `limit`, or as far as nothing is to be read.

        It is dirty no more, and so what is written after it was looked at is copied again.
        """
        assert self.bitmap is not None
        grain = self.granularity
        end = min(limit, stop)
        first = next(base.status_above(self.source, bound, at, stop), None)
        if first is not None and first.kind != DATA and block_copy.can_unmap(self.target):
            end = max(end, stop if first.end == stop else first.end // grain * grain)
        self.bitmap.remove(at // grain, -(-end // grain))
        chunk = min(max(self.buf_size // MAX_IN_FLIGHT, CHUNK), self.buf_size)
        ranges = base.status_above(self.source, bound, at, end)
        whole = block_copy.whole_grains(ranges, grain, end)
        yield from copying.pieces(self, whole, -(-chunk // grain) * grain)

    def _send(self, batch: list[Range], skipped: set[str]) -> Work:
        """Copy what is sent together. Raises BlockIoError where an error is to be reported."""
        flight = InFlight()
        sent = 0
        for piece in batch:
            if piece.kind in skipped or (yield from self._copied(piece, flight)):
                self.done += piece.length
            # zeros that the target can be given without writing them cost nothing
            free = piece.kind != DATA and block_copy.can_unmap(self.target)
            count = 0 if free else piece.length
            sent += count
            if flight.failure is None:  # what was sent already ends before the job stands still
                self._sent = sent if piece is batch[-1] else 0
                yield count
        if flight.reported is not None:
            raise flight.reported
        if flight.failure is not None:
            self._limited(sent)
            yield 0 if self.pause_count else RETRY

    # -- the end ---------------------------------------------------------------------------------

    def soft_cancel(self) -> bool:
        """Once ready, a cancel without force ends it well, without switching over."""
        return self.state.current in ("ready", "standby")

    def prepare_complete(self) -> None:
        """Whether what is to be replaced is there. Raises QapiError."""
        if self.replaces is not None:
            found = self.block.graph.find(self.replaces)
            if found is None:
                raise QapiError(f"Node name '{self.replaces}' not found")
            self.replace_pinned = found

    def prepare(self) -> None:
        """Switch over, unless cancelled. Raises QapiError."""
        self._leave(switch=not self.cancelled)

    def abort(self) -> None:
        """Put everything back."""
        self._leave(switch=False)

    def _leave(self, *, switch: bool) -> None:
        graph = self.block.graph
        if self.filter.name not in graph.nodes:
            return
        if self.bitmap is not None and self.bitmap in self.bitmap.node.bitmaps:
            bitmaps.remove(self.bitmap)
        self.thaw()
        top = self.filter.driver
        assert isinstance(top, MirrorTop)
        with graph.referenced(self.source, self.target, self.filter):
            self._drop_target()
            self.release()
            top.stopped = True
            Update([self.filter]).run()
            failed: QapiError | None = None
            if switch:
                try:
                    self._switch_over()
                except QapiError as error:
                    self.block.process.host.warn(error.desc)
                    failed = QapiError(os.strerror(errno.EPERM))
            elif self.is_commit and self.target_was_read_only:
                reopen.set_read_only(graph, self.target, read_only=True)
            self.block.remove_filter(self.filter)
        if failed is not None:
            raise failed

    def _switch_over(self) -> None:
        graph = self.block.graph
        replaced = self.replace_pinned or self.source
        relinking.check_switch(self.source, replaced, self.target)
        if self.backing_mode == "source" and self.target.driver.supports_backing:
            backing = self.source if self.sync == "none" else self.source.cow
            if self.sync != "full" and self.target.cow is not backing:
                relinking.set_backing(graph, self.target, backing)
        elif self.backing_mode == "open":
            relinking.open_missing_backing(graph, self.target)
        if self.target.read_only != replaced.read_only:
            reopen.set_read_only(graph, self.target, read_only=replaced.read_only)
        graph.replace(replaced, self.target)

    def _drop_target(self) -> None:
        if self.target_backend is not None:
            self.block.backends.drop(self.target_backend)
            self.target_backend = None

    # -- what it shows ---------------------------------------------------------------------------

    def block_info(self) -> dict[str, Any]:
        """With whether the target is as the source at this moment."""
        info = super().block_info()
        if info["status"] in ("waiting", "pending"):
            info["paused"] = True  # it keeps the guest from writing until it is done
        if not self.is_commit:
            info["actively-synced"] = (
                self.copy_mode == "write-blocking" and info["status"] == "ready"
            )
        return info

    def change(self, copy_mode: str) -> None:
        """block-job-change. Raises QapiError."""
        self.state.check("change", self.id)
        if copy_mode == self.copy_mode:
            return
        if copy_mode != "write-blocking":
            raise QapiError(f"Change to copy mode '{copy_mode}' is not implemented")
        self.copy_mode = copy_mode
