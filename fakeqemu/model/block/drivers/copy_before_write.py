"""What is about to be overwritten is kept elsewhere, where it can be read as it was: fleecing.

See block/copy-before-write.c: cbw_open(), cbw_do_copy_before_write() and
cbw_co_snapshot_block_status().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.formats import extents
from fakeqemu.formats.extents import Range
from fakeqemu.model.block.block_copy import BlockCopy, copying_unit
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import Driver, driver
from fakeqemu.model.block.drivers.filters import FilterDriver
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps, permissions as perms
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.filenames import exact_filename
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Edge, Node


@driver
class CopyBeforeWrite(FilterDriver):
    """What is about to be overwritten is kept in another node. See block/copy-before-write.c."""

    name = "copy-before-write"
    flushes_below = ("file",)
    is_opened = True
    #: copies what is about to be overwritten; a job has it copy the rest as well
    block_copy: BlockCopy
    #: what is read from the target
    _done: Bitmap
    #: what can be read
    _access: Bitmap
    _breaks_snapshot = False
    #: nanoseconds that keeping may take; 0: as long as it likes
    _timeout = 0
    #: whether the source is to forget what has been copied
    discard_source = False
    #: keeping has gone wrong, and there is no old state to be read any more
    _broken = False

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Open the target. Raises QapiError."""
        from fakeqemu.model.block.graph.open import open_node

        target = open_node(self.graph, options.pop("target"), parent=node)
        self.graph.attach(node, "target", target, frozenset({perms.DATA}))
        given = options.pop("bitmap", None)
        bitmap = None
        if given is not None:
            bitmap = bitmaps.lookup(self.graph, given["node"], given["name"])
        self._breaks_snapshot = options.pop("on-cbw-error", "") == "break-snapshot"
        self._timeout = options.pop("cbw-timeout", 0) * SECOND
        smallest = options.pop("min-cluster-size", 0)
        super().open(node, options)
        cluster = copying_unit(target, smallest)
        self.begin(node, cluster, bitmap)

    def begin(self, node: Node, cluster: int, bitmap: Bitmap | None = None) -> None:
        """Keep what is written from now on, or of that only what `bitmap` calls dirty.

        Raises QapiError.
        """
        source, target = self._below(node), node.children["target"].node
        self.block_copy = BlockCopy(source, target, node, cluster)
        self.block_copy.discard_source = self.discard_source
        if bitmap is not None:
            self._take(bitmap)
        self._done = bitmaps.create(node, None, cluster)
        self._access = bitmaps.create(node, None, cluster)
        self._done.enabled = self._access.enabled = False
        self._access.merge(self.block_copy.bitmap)

    def _take(self, bitmap: Bitmap) -> None:
        try:
            bitmaps.check_mergeable(self.block_copy.bitmap, bitmap)
        except QapiError as error:
            self.block_copy.close()
            raise error.prefixed(
                "Cannot create block-copy-state: "
                f"Failed to merge bitmap '{bitmap.name}' to internal copy-bitmap: "
            ) from None
        self.block_copy.only(bitmap)

    def close(self, node: Node) -> None:
        """Nothing is kept any more."""
        if hasattr(self, "block_copy"):  # it could be opened
            self.block_copy.close()
        super().close(node)

    def exact_filename(self, node: Node) -> str | None:
        """That of what is below."""
        return exact_filename(self._below(node))

    # -- the guest's side ------------------------------------------------------------------------

    def keep(self, node: Node, offset: int, count: int) -> None:
        """Copy what is about to be overwritten, once.

        Raises QapiError if that goes wrong, unless it is the reader who is to suffer.
        """
        if self._broken:
            return
        try:
            self._keep(node, offset, count)
        except NotModelledError:
            raise
        except QapiError:
            if not self._breaks_snapshot:
                raise
            self._broken = True

    def _keep(self, node: Node, offset: int, count: int) -> None:
        cluster = self._done.granularity
        first = offset // cluster * cluster
        end = min(-(-(offset + count) // cluster) * cluster, base.length(node))
        at = first
        while (task := self.block_copy.next_task(at, end)) is not None:
            self._wait_for(node.children["target"].node, task.length)
            self.block_copy.run(task)
            at = task.end
        if first < end:
            self._done.add(first, end - first)

    def _wait_for(self, target: Node, count: int) -> None:
        """Let a write to the target pass its throttle groups. Raises BlockIoError.

        No time is spent here on a wait that is short enough.
        """
        throttling = self.graph.throttling
        groups = [group for each in target.subtree() if (group := each.driver.throttle_group)]
        if self._timeout:
            waits = (throttling.wait(group, writes=True) for group in groups)
            if max(waits, default=0) > self._timeout:
                raise extents.BlockIoError(os.strerror(errno.ETIMEDOUT))
        for group in groups:
            throttling.pass_through(group, count, writes=True)

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Keep, then pass on."""
        self.keep(node, offset, len(data))
        super().write(node, offset, data)

    def write_compressed(self, node: Node, offset: int, data: bytes) -> None:
        """Keep, then pass on."""
        self.keep(node, offset, len(data))
        super().write_compressed(node, offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Keep, then pass on."""
        self.keep(node, offset, count)
        super().zero(node, offset, count)

    def discard(self, node: Node, offset: int, count: int) -> None:
        """Keep, then pass on."""
        self.keep(node, offset, count)
        super().discard(node, offset, count)

    # -- the reader's side -----------------------------------------------------------------------

    def snapshot_parts(self, node: Node, offset: int, end: int) -> Iterator[tuple[Node, Range]]:
        """Where the state at the time when the filter came is now. Raises BlockIoError."""
        source, target = self._below(node), node.children["target"].node
        whole = offset, end - offset
        if self._broken or (offset < end and self._access.next_dirty_area(offset, end) != whole):
            raise extents.BlockIoError("Permission denied")
        while offset < end:
            done = self._done.next_dirty_area(offset, end)
            if done is not None and done[0] == offset:
                where, last = target, offset + done[1]
            else:
                where, last = source, done[0] if done is not None else end
            yield where, Range(offset, last - offset, extents.DATA)
            offset = last

    def drop(self, node: Node, offset: int, count: int) -> None:
        """The reader has no use for whole units of this any more."""
        cluster = self._access.granularity
        first, end = -(-offset // cluster), (offset + count) // cluster
        if first >= end:
            return
        self._access.remove(first, end)
        self.block_copy.bitmap.remove(first, end)
        target = node.children["target"].node
        base.discard(target, first * cluster, (end - first) * cluster)

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int
    ) -> tuple[int, int]:
        """Nobody may write behind the filter; the target is ours to write."""
        if edge.name == "target":
            return perms.WRITE, perms.CONSISTENT_READ | perms.WRITE | perms.WRITE_UNCHANGED
        wanted, left = super().child_permissions(node, edge, perm, shared)
        if not node.parents:
            return wanted, left
        wanted |= perms.CONSISTENT_READ | (perms.WRITE if self.discard_source else 0)
        return wanted, left & ~(perms.WRITE | perms.RESIZE)


@driver
class SnapshotAccess(Driver):
    """What a copy-before-write node keeps, to be read. See block/snapshot-access.c."""

    name = "snapshot-access"
    role = frozenset({perms.DATA, perms.PRIMARY})

    def _kept_by(self, node: Node) -> tuple[Node, CopyBeforeWrite]:
        below = self._below(node)
        if not isinstance(below.driver, CopyBeforeWrite):
            raise extents.BlockIoError("Operation not supported")
        return below, below.driver

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """What was there when the copy-before-write node came. Raises BlockIoError."""
        below, keeper = self._kept_by(node)
        parts = keeper.snapshot_parts(below, offset, offset + count)
        return b"".join(base.read(where, part.offset, part.length) for where, part in parts)

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:
        """The same. Raises BlockIoError."""
        below, keeper = self._kept_by(node)
        for where, part in keeper.snapshot_parts(below, start, end):
            yield from base.status_above(where, None, part.offset, part.end)

    def write(self, node: Node, offset: int, data: bytes) -> None:  # noqa: ARG002
        """Not to be written. Raises BlockIoError."""
        raise extents.BlockIoError("Operation not supported")

    def zero(self, node: Node, offset: int, count: int) -> None:  # noqa: ARG002
        """Not to be written. Raises BlockIoError."""
        raise extents.BlockIoError("Operation not supported")

    def discard(self, node: Node, offset: int, count: int) -> None:
        """It need not be kept any more."""
        below = self._below(node)
        if isinstance(below.driver, CopyBeforeWrite):
            below.driver.drop(below, offset, count)

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int  # noqa: ARG002
    ) -> tuple[int, int]:
        """Share all."""
        return perms.CONSISTENT_READ, perms.ALL
