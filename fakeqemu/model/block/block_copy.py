"""Copying between nodes, zeros as zeros; which clusters of a node are still to be copied.

See block/block-copy.c: block_copy_state_new(), block_copy_task_create() and
block_copy_task_entry().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fakeqemu.formats import extents
from fakeqemu.formats.extents import CHUNK, DATA, HOLE, BlockIoError, Range
from fakeqemu.formats.intervals import Intervals
from fakeqemu.model.block.copy_range import Copier, Ranges, Waits
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.node import Node
from fakeqemu.qapi.errors import QapiError

#: bytes that are copied together at least
UNIT = 65536
_INT64_MAX = (1 << 63) - 1


def copying_unit(target: Node, smallest: int = 0) -> int:
    """Bytes that are copied together into `target`, at least `smallest`. Raises QapiError.

    See block/block-copy.c: block_copy_calculate_cluster_size().
    """
    if smallest > _INT64_MAX:
        raise QapiError(f"min-cluster-size too large: {smallest} > {_INT64_MAX}")
    if smallest & smallest - 1:
        raise QapiError(
            "Cannot create block-copy-state: min-cluster-size needs to be a power of 2"
        )
    least = max(smallest, UNIT)
    if not target.driver.knows_info(target) and target.backing_chain_next() is None:
        process = target.driver.graph.process
        traits, host = process.profile.traits, process.host
        tell = host.warn if traits.command_warnings_name_program else host.say
        tell(f"warning: {traits.backup_block_size_warning % least}")
    return max(least, target.driver.cluster_size(target))


def whole_grains(ranges: Iterator[Range], grain: int, end: int) -> Iterator[Range]:
    """Ranges cut at multiples of `grain`; one of which parts differ is data.

    See block/mirror.c: mirror_iteration().
    """
    at = -1
    for each in ranges:
        at = each.offset if at < 0 else at
        length = each.end - at if each.end == end else (each.end - at) // grain * grain
        if length > 0:
            yield Range(at, length, each.kind)
            at += length
        if at < each.end:
            length = min(grain, end - at)
            yield Range(at, length, DATA)
            at += length


def read(source: Node, offset: int, count: int) -> bytes:
    """Read; a failure says that it was one. Raises BlockIoError."""
    try:
        return base.read(source, offset, count)
    except BlockIoError as error:
        error.operation = "read"
        raise


def copy(source: Node, target: Node, piece: Range) -> None:
    """Make `target` read like `source` in a piece."""
    count = min(piece.length, base.length(target) - piece.offset)
    if count <= 0:
        return
    data = read(source, piece.offset, count) if piece.kind == DATA else None
    with target.driver.graph.waiting.sending_ahead():
        if data is not None:
            base.write(target, piece.offset, data)
        else:
            base.zero(target, piece.offset, count)


def can_unmap(target: Node) -> bool:
    """Whether a node can be made zeros without cost."""
    return target.discard == "unmap" and all(
        node.driver.name in ("file", "qcow2", "raw") for node in target.subtree()
    )


def reads_zeros(job: Copier, node: Node, size: int) -> Waits[bool]:
    """Whether nothing but zeros can be read from a node: block/io.c: bdrv_co_is_all_zeroes()."""
    images = node.skip_filters().driver.supports_backing
    pieces = yield from Ranges(
        job, lambda at: base.status_above(node, None, at, size, holes=True)
    ).all()
    holes = (extents.ZERO, HOLE) if images else (extents.ZERO,)
    return all(piece.kind in holes for piece in pieces)


class WholeClusters:
    """The clusters of a mirror's target that it has to write whole at first.

    They are where its header names a backing image that nobody has opened yet, and the job's
    granularity is finer. See block/mirror.c: mirror_run() and mirror_cow_align().
    """

    def __init__(self, target: Node, granularity: int) -> None:
        self._granularity = granularity
        cluster = target.driver.cluster_size(target)
        alone = bool(target.backing_file) and target.backing_chain_next() is None
        self._cluster = cluster if alone and granularity < cluster else 0
        self._written = Intervals()

    def widened(self, piece: Range, size: int) -> Range:
        """What is to be copied where a piece is, in a source of `size` bytes."""
        if not self._cluster:
            return piece
        first, last = self._grains(piece)
        if first in self._written and last - 1 in self._written:
            return piece
        start = piece.offset // self._cluster * self._cluster
        end = min(-(-piece.end // self._cluster) * self._cluster, size)
        whole = (start, end) == (piece.offset, piece.end)
        return Range(start, end - start, piece.kind if whole else DATA)

    def written(self, piece: Range) -> None:
        """A piece has been copied."""
        if self._cluster:
            self._written.add(*self._grains(piece))

    def _grains(self, piece: Range) -> tuple[int, int]:
        return piece.offset // self._granularity, -(-piece.end // self._granularity)


class BlockCopy:
    """What is left to copy is dirty in `bitmap`, which has no name and lies on a node."""

    #: called with the bytes of the clusters that were copied; below 0: they are to be once more
    on_progress: Callable[[int], None] | None = None
    #: bytes a second; 0: no limit, and zeros are not cut to chunks
    speed = 0
    compress = False
    #: whether what has been copied is discarded in the source
    discard_source = False

    def __init__(self, source: Node, target: Node, filter_node: Node, cluster: int) -> None:
        """All is to be copied."""
        self._source, self._target = source, target
        self._cluster = cluster
        #: the longest piece of data, in bytes
        self.chunk = max(cluster, CHUNK)
        on_filter = filter_node.driver.graph.process.profile.traits.copy_bitmap_on_filter
        self.bitmap = bitmaps.create(filter_node if on_filter else source, None, cluster)
        self.bitmap.enabled = False
        self.bitmap.add(0, self.bitmap.size)

    def only(self, wanted: Bitmap) -> None:
        """Only what the other bitmap calls dirty is to be copied."""
        self.bitmap.clear()
        self.bitmap.merge(wanted)

    def keep_clusters(self, clusters: Intervals) -> None:
        """Of what is to be copied, only these clusters are."""
        self.bitmap.restore(self.bitmap.copy_bits() & clusters)

    def close(self) -> None:
        """Nothing more will be copied."""
        bitmaps.remove(self.bitmap)

    def next_task(self, start: int, end: int) -> Range | None:
        """The first piece that is to be copied together. Raises BlockIoError, MustWaitError."""
        area = self.bitmap.next_dirty_area(start, end)
        if area is None:
            return None
        start, count = area
        status = self._status(start, start + count)
        task = next(whole_grains(status, self._cluster, self.bitmap.size))
        length = task.length
        if task.kind == DATA or self.speed:
            length = min(length, self._cluster if self.compress else self.chunk)
        return Range(start, length, task.kind)

    def _status(self, start: int, end: int) -> Iterator[Range]:
        """What is to be read, or is zeros; a protocol that does not tell is read."""
        lowest = [*self._source.chain()][-1].skip_filters()
        hole = extents.ZERO if lowest.driver.supports_backing else DATA
        for part in base.status_above(self._source, None, start, end, holes=True):
            kind = hole if part.kind == HOLE else part.kind
            yield Range(part.offset, part.length, kind)

    def run(self, task: Range) -> None:
        """Copy what is still to be copied of a piece; if that goes wrong, all of it still is.

        Raises BlockIoError, MustWaitError.
        """
        copied = []
        try:
            for offset, count in list(self.bitmap.ranges(task.offset, task.end)):
                self._copy(Range(offset, count, task.kind))
                clusters = offset // self._cluster, -(-(offset + count) // self._cluster)
                self.bitmap.remove(*clusters)
                copied.append(clusters)
                self._progress(*clusters)
                if self.discard_source:
                    end = min(offset + count, base.length(self._source))
                    base.discard(self._source, offset, end - offset)
        except BlockIoError:
            self.bitmap.add_grains(Intervals(copied))
            for first, end in copied:
                self._progress(end, first)
            raise

    def _copy(self, piece: Range) -> None:
        if not self.compress or piece.kind != DATA:
            copy(self._source, self._target, piece)
            return
        data = read(self._source, piece.offset, piece.length)
        with self._target.driver.graph.waiting.sending_ahead():
            base.write_compressed(self._target, piece.offset, data)

    def _progress(self, first: int, end: int) -> None:
        if self.on_progress is not None:
            self.on_progress((end - first) * self._cluster)
