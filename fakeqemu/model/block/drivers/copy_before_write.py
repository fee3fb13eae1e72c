"""What is about to be overwritten is kept elsewhere, where it can be read as it was: fleecing.

See block/copy-before-write.c: cbw_open(), cbw_do_copy_before_write() and
cbw_co_snapshot_block_status().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.formats.extents import Range
from fakeqemu.formats.intervals import Intervals
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import Driver, driver
from fakeqemu.model.block.drivers.filters import FilterDriver
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps, permissions as perms
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.filenames import exact_filename
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.graph.node import Edge, Node

#: bytes that are copied together at least
_UNIT = 65536
_INT64_MAX = (1 << 63) - 1


def copying_unit(graph: Graph, target: Node, smallest: int = 0) -> int:
    """Bytes that are copied together into `target`, at least `smallest`. Raises QapiError.

    See block/block-copy.c: block_copy_state_new() and block_copy_calculate_cluster_size().
    """
    if smallest > _INT64_MAX:
        raise QapiError(f"min-cluster-size too large: {smallest} > {_INT64_MAX}")
    if smallest & smallest - 1:
        raise QapiError(
            "Cannot create block-copy-state: min-cluster-size needs to be a power of 2"
        )
    least = max(smallest, _UNIT)
    if not target.driver.knows_info(target) and target.backing_chain_next() is None:
        traits, host = graph.process.profile.traits, graph.process.host
        tell = host.warn if traits.command_warnings_name_program else host.say
        tell(f"warning: {traits.backup_block_size_warning % least}")
    return max(least, target.driver.cluster_size(target))


@driver
class CopyBeforeWrite(FilterDriver):
    """What is about to be overwritten is kept in another node. See block/copy-before-write.c."""

    name = "copy-before-write"
    #: what has been kept, in units of `cluster`
    kept: Intervals
    cluster = _UNIT
    #: told how many bytes were kept by a write; a job counts them
    on_kept: Callable[[int], None] | None = None

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.kept = Intervals()
        #: units that somebody wants; None: all but those in `_dropped`
        self._wanted: Intervals | None = None
        #: units that the reader has no use for any more
        self._dropped = Intervals()
        self._breaks_snapshot = False
        #: keeping has gone wrong, and there is no old state to be read any more
        self._broken = False

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
        # no write takes so long here that it could time out
        options.pop("cbw-timeout", None)
        smallest = options.pop("min-cluster-size", 0)
        super().open(node, options)
        self.cluster = copying_unit(self.graph, target, smallest)
        if bitmap is not None:
            self._take_bitmap(node, bitmap)

    def _take_bitmap(self, node: Node, bitmap: Bitmap) -> None:
        """Only what the bitmap calls dirty now is kept and can be read."""
        if bitmap.size != base.length(node):
            raise QapiError(
                f"Bitmaps are of different sizes (destination size is {base.length(node)},"
                f" source size is {bitmap.size}) and can't be merged"
            )
        self._wanted = Intervals()
        for offset, count in bitmap.ranges():
            units = self._units(offset, offset + count)
            self._wanted.add(units.start, units.stop)

    def _units(self, offset: int, end: int) -> range:
        return range(offset // self.cluster, -(-end // self.cluster))

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Callable[[], None]:
        """Nothing can be changed: an option is the same or missing. Raises QapiError."""
        for name in ("bitmap", "on-cbw-error", "cbw-timeout", "min-cluster-size"):
            if options.pop(name, node.options.get(name)) != node.options.get(name):
                raise QapiError(f"Cannot change the option '{name}'")
        return lambda: None

    def exact_filename(self, node: Node) -> str | None:
        """That of what is below."""
        return exact_filename(self._below(node))

    # -- the guest's side ------------------------------------------------------------------------

    def _accessible(self, unit: int) -> bool:
        return unit not in self._dropped and (self._wanted is None or unit in self._wanted)

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
        from fakeqemu.model.block.jobs import copy_range as copying

        source, target = self._below(node), node.children["target"].node
        size = base.length(source)
        for unit in self._units(offset, min(offset + count, size)):
            if unit in self.kept or not self._accessible(unit):
                continue
            at = unit * self.cluster
            end = min(at + self.cluster, size)
            for piece in base.status_above(source, None, at, end):
                copying.copy(source, target, piece)
            self.kept.add(unit, unit + 1)
            if self.on_kept is not None:
                self.on_kept(end - at)

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
        units = self._units(offset, end)
        if self._broken or not all(self._accessible(unit) for unit in units):
            raise extents.BlockIoError("Permission denied")
        for unit in units:
            first, last = max(offset, unit * self.cluster), min(end, (unit + 1) * self.cluster)
            yield target if unit in self.kept else source, Range(first, last - first, extents.DATA)

    def drop(self, node: Node, offset: int, count: int) -> None:
        """The reader has no use for whole units of this any more."""
        first, end = -(-offset // self.cluster), (offset + count) // self.cluster
        if first >= end:
            return
        self._dropped.add(first, end)
        target = node.children["target"].node
        base.discard(target, first * self.cluster, (end - first) * self.cluster)

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int
    ) -> tuple[int, int]:
        """Nobody may write behind the filter; the target is ours to write."""
        if edge.name == "target":
            return perms.WRITE, perms.CONSISTENT_READ | perms.WRITE | perms.WRITE_UNCHANGED
        wanted, left = super().child_permissions(node, edge, perm, shared)
        if not node.parents:
            return wanted, left
        return wanted | perms.CONSISTENT_READ, left & ~(perms.WRITE | perms.RESIZE)


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
