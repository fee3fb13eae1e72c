"""The cluster counts of a qcow2 image: who uses which cluster, and where free ones are.

As block/qcow2-refcount.c does it: the first free cluster is taken, wherever it is; blocks of
counts are made where they are missing; what fails is taken back. So a damaged image leads to
the clusters that QEMU would take, and to what QEMU says about them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from array import array
from collections import Counter
from typing import TYPE_CHECKING

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.qcow2.header import LARGEST_REFTABLE
from fakeqemu.formats.qcow2.refcount.block import RefcountWidth
from fakeqemu.formats.qcow2.tables import CachedTable, TableCache, hex_of

if TYPE_CHECKING:
    from fakeqemu.formats.qcow2.image import Qcow2

_OFFSET = 0xFFFFFFFFFFFFFE00
#: offsets that fit into tables end here, and those of compressed clusters by the size of clusters
_FARTHEST = (1 << 56) - 1
#: where the header has the refcount table's offset and clusters
_HEADER_FIELDS = 48


class _SearchAgain(Exception):  # noqa: N818 - nothing failed
    """Room that was found went to a block of counts."""


def failure(number: int) -> BlockIoError:
    """What went wrong, as the host calls it."""
    return BlockIoError(os.strerror(number))


class Refcounts:
    """Counts of one image. Failures are BlockIoErrors."""

    def __init__(self, image: Qcow2) -> None:
        self._image = image
        header = image.header
        self._width = RefcountWidth(1 << header.refcount_order)
        self.most = self._width.most
        #: counts in one block
        self.per_block = image.cluster * 8 // self._width.bits
        image.event("reftable_load")
        self.table = image.read_table(
            header.refcount_table_offset, header.refcount_table_clusters * image.cluster // 8
        )
        self._count_blocks(self.table, 1)
        self.cache = TableCache(image, "refcount-block")
        #: no cluster before this is free
        self._free = 0
        #: where the last compressed cluster ends; 0: at no place to go on from
        self._packed_to = 0
        #: clusters that are free now and whose room on disk is to be given back; whether that
        #: waits for an operation to be done
        self._freed: list[int] = []
        self._holding = False

    def _count_blocks(self, table: array[int], by: int) -> None:
        for entry in filter(None, table):
            if entry & _OFFSET:
                self._image.overlaps.refblocks.add(entry & _OFFSET, by)

    def replace(self, table: array[int]) -> None:
        """Use another table, which the header leads to already."""
        self._count_blocks(self.table, -1)
        self.table = table
        self._count_blocks(table, 1)

    def packed(self, number: int, counts: Counter[int]) -> bytes:
        """Block `number` as it is for these counts, by cluster."""
        block = CachedTable(bytearray(self._image.cluster))
        first = number * self.per_block
        for index, count in counts.items():
            if count and first <= index < first + self.per_block:
                self._width.set(block, index - first, count)
        return bytes(block.data)

    # -- counting ------------------------------------------------------------------------------

    def _block_at(self, number: int) -> int:
        """Where block `number` is; 0: nowhere."""
        if number >= len(self.table):
            return 0
        at = self.table[number] & _OFFSET
        if at % self._image.cluster:
            raise self._image.corrupt(
                f"Refblock offset {at:#x} unaligned (reftable index: {hex_of(number)})"
            )
        return at

    def get(self, index: int) -> int:
        """How often cluster `index` is used."""
        block, slot = divmod(index, self.per_block)
        at = self._block_at(block)
        return self._width.get(self.cache.get(at), slot) if at else 0

    def _free_row(self, index: int, most: int) -> int:
        """How many clusters in a row are free from `index` on; `most`: as many as are wanted."""
        found = 0
        while found < most:
            number, slot = divmod(index + found, self.per_block)
            room = min(self.per_block - slot, most - found)
            at = self._block_at(number)
            free = self._width.zeros(self.cache.get(at), slot, room) if at else room
            found += free
            if free < room:
                break
        return found

    def counts(self, block: int) -> list[int]:
        """All counts of a block. Raises BlockIoError."""
        at = self._block_at(block)
        if not at:
            return [0] * self.per_block
        return self._width.get_row(self.cache.get(at), 0, self.per_block)

    def update(self, offset: int, length: int, by: int, kind: str = "never") -> None:
        """Count the clusters of a range up or down; what fails is taken back.

        `kind`: who lets go of them: `never`, `always`, `request`, `snapshot`, `other`; whether
        the file is told of those that are free then is the user's choice.
        """
        try:
            self._update(offset, length, by, kind)
        except _SearchAgain:
            raise failure(errno.EAGAIN) from None

    def _update(self, offset: int, length: int, by: int, kind: str) -> None:
        if not length:
            return
        if by < 0:
            self.cache.needs_first(self._image.l2_cache)
        cluster = self._image.cluster
        first, last = offset // cluster, (offset + length - 1) // cluster
        index = first
        try:
            while index <= last:
                end = min(last + 1, (index // self.per_block + 1) * self.per_block)
                index = self._change(index, end, by, kind)
        except (BlockIoError, _SearchAgain) as error:
            if isinstance(error, _SearchAgain):
                self._free = min(self._free, first)
            if not self._holding:
                self._freed.clear()
            self._take_back(offset, index, by)
            raise
        if not self._holding:
            self._tell_freed()

    def _take_back(self, offset: int, index: int, by: int) -> None:
        done = index * self._image.cluster - offset
        if done > 0:
            try:
                self._update(offset, done, -by, "never")
            except (BlockIoError, _SearchAgain):
                return  # some clusters are lost to the image, no more

    def _change(self, index: int, end: int, by: int, kind: str) -> int:
        """Change the counts of clusters that one block counts, from `index` to `end`.

        Gives `end`, or the first that cannot be changed, which fails when it is asked for alone.
        """
        number, slot = divmod(index, self.per_block)
        block = self._own_block(index, number)
        block.dirty = True
        counts = [count + by for count in self._width.get_row(block, slot, end - index)]
        low, high = min(counts), max(counts)
        if low < 0 or high > self.most:
            good = next(n for n, count in enumerate(counts) if not 0 <= count <= self.most)
            if not good:
                raise failure(errno.EINVAL)
            del counts[good:]
        self._width.set_row(block, slot, counts)
        if not low:
            self._let_go([n for n, count in enumerate(counts, index) if not count], kind)
        return index + len(counts)

    def _let_go(self, indexes: list[int], kind: str) -> None:
        """Nobody uses these clusters any more."""
        self._free = min(self._free, indexes[0])
        cluster = self._image.cluster
        places = [index * cluster for index in indexes]
        self._image.l2_cache.forget(places)
        self.cache.forget(places)
        if kind in self._image.discards:
            self._freed += places

    # -- freed room on disk --------------------------------------------------------------------

    def hold_discards(self) -> None:
        """Keep what is freed from now on until `release_discards`."""
        self._holding = True

    def release_discards(self, *, failed: bool) -> None:
        """Let the file know what is free now, unless what freed it failed."""
        self._holding = False
        if failed:
            self._freed.clear()
        self._tell_freed()

    def _tell_freed(self) -> None:
        for at in self._freed:
            with contextlib.suppress(BlockIoError):  # nothing depends on it
                self._image.store.zero(at, self._image.cluster)
        self._freed.clear()

    # -- blocks --------------------------------------------------------------------------------

    def _own_block(self, index: int, number: int) -> CachedTable:
        """The block that counts cluster `index`, made if there is none."""
        at = self._block_at(number)
        if at:
            return self.cache.get(at)
        image = self._image
        image.event("refblock_alloc")
        image.l2_cache.flush()
        new = self._find(1)
        if new == 0:
            raise image.corrupt("Preventing invalid allocation of refcount block at offset 0")
        where = new // image.cluster
        if where // self.per_block == number:
            block = self.cache.get(new, empty=True)
            self._width.set(block, where % self.per_block, 1)
        else:
            self._update(new, image.cluster, 1, "never")
            self.cache.flush()
            block = self.cache.get(new, empty=True)
        block.dirty = True
        image.event("refblock_alloc_write")
        self.cache.flush()
        if number < len(self.table):
            image.event("refblock_alloc_hookup")
            at = image.header.refcount_table_offset + number * 8
            image.store.write(at, struct.pack(">Q", new))
            image.overlaps.refblocks.add(new)
            self.table[number] = new
        else:
            used = -(-max(index + 1, where + 1) // self.per_block)
            self._grow(used * self.per_block * image.cluster, number=number, block_at=new)
        raise _SearchAgain

    def reserve(self, start: int, clusters: int) -> int:
        """Have all blocks of counts that so many clusters from file offset `start` on need.

        Gives the offset behind them. Beyond `start` nothing is.
        """
        return self._grow(start, clusters, exact=True)

    def _grow(
        self, start: int, clusters: int = 0, number: int = 0, block_at: int = 0,
        *, exact: bool = False,
    ) -> int:  # fmt: skip
        """Another table from file offset `start` on, beyond which nothing is; where it ends.

        It counts `clusters` more, with room to grow unless it is to be `exact`; `block_at` is
        where block `number` is already. See block/qcow2-refcount.c: qcow2_refcount_area().
        """
        image = self._image
        blocks = self._blocks_for(start // image.cluster + clusters, exact=exact)
        entries = blocks if exact else blocks + -(-blocks // 2)
        per_cluster = image.cluster // 8
        entries = -(-entries // per_cluster) * per_cluster
        if entries * 8 > LARGEST_REFTABLE * 8:
            raise failure(errno.EFBIG)
        table = self.table[:entries]
        table.extend([0] * (entries - len(table)))
        if block_at:
            table[number] = block_at
        area = start // image.cluster // self.per_block
        missing = [each for each in range(area, blocks) if not table[each]]
        table_at = start + len(missing) * image.cluster
        end = (table_at + entries * 8) // image.cluster
        for place, each in enumerate(missing):
            table[each] = start + place * image.cluster
            self.cache.get(table[each], empty=True).dirty = True
        for each in range(area, blocks):
            block = self.cache.get(table[each])
            first = each * self.per_block
            last = min(first + self.per_block, end)
            slot = max(first, start // image.cluster) - first
            if last - first > slot:
                self._width.set_row(block, slot, [1] * (last - first - slot))
        self.cache.flush()
        image.write_table(table_at, table)
        clusters = entries // per_cluster
        image.store.write(_HEADER_FIELDS, struct.pack(">QI", table_at, clusters))
        old = image.header.refcount_table_offset, len(self.table) * 8
        self.replace(table)
        image.header.refcount_table_offset = table_at
        image.header.refcount_table_clusters = clusters
        self.free(*old, "other")
        return end * image.cluster

    def _blocks_for(self, clusters: int, *, exact: bool) -> int:
        """Blocks that count so many clusters, themselves and their table.

        See block/qcow2.c: qcow2_refcount_metadata_size().
        """
        per_cluster = self._image.cluster // 8
        blocks = table = 0
        while True:
            wanted = -(-(clusters + blocks + table) // self.per_block)
            wide = -(-wanted // per_cluster)
            if not exact:
                wide = -(-3 * wide // 2)
            if (wanted, wide) == (blocks, table):
                return blocks
            blocks, table = wanted, wide

    # -- finding room --------------------------------------------------------------------------

    def _find(self, clusters: int, farthest: int = _FARTHEST) -> int:
        """The file offset of so many free clusters in a row; they are not counted yet."""
        while (found := self._free_row(self._free, clusters)) < clusters:
            self._free = self._next_free(self._free + found + 1)
        self._free += clusters
        cluster = self._image.cluster
        if self._free - 1 > farthest // cluster:
            raise failure(errno.EFBIG)
        return (self._free - clusters) * cluster

    def _next_free(self, index: int) -> int:
        """The first free cluster from `index` on, or the next block's first."""
        block, slot = divmod(index, self.per_block)
        try:
            return block * self.per_block + self.counts(block).index(0, slot)
        except ValueError:
            return (block + 1) * self.per_block

    def allocate(self, size: int) -> int:
        """The file offset of clusters for so many bytes, counted once each."""
        self._image.event("cluster_alloc")
        while True:
            at = self._find(-(-size // self._image.cluster))
            try:
                self._update(at, size, 1, "never")
            except _SearchAgain:
                continue
            return at

    def allocate_at(self, offset: int, clusters: int) -> int:
        """Take those of `clusters` at `offset` that are free, up to the first that is not."""
        cluster = self._image.cluster
        while True:
            free = self._free_row(offset // cluster, clusters)
            try:
                self._update(offset, free * cluster, 1, "never")
            except _SearchAgain:
                continue
            return free

    def allocate_bytes(self, size: int) -> int:
        """Where so many compressed bytes go: behind those before, if there is room."""
        self._image.event("cluster_alloc_bytes")
        image = self._image
        cluster, at = image.cluster, self._packed_to
        if at and self.get(at // cluster) == self.most:
            at = 0
        room = cluster - at % cluster
        while True:
            if not at or room < size:
                new = self._find(1, min((1 << image.packed_shift) - 1, _FARTHEST))
                if new == 0:
                    raise image.corrupt(
                        "Preventing invalid allocation of compressed cluster at offset 0"
                    )
                if not at or -(-at // cluster) * cluster != new:
                    at, room = new, cluster
                else:
                    room += cluster
            try:
                self._update(at, size, 1, "never")
            except _SearchAgain:
                at = 0
                continue
            break
        image.l2_cache.needs_first(self.cache)
        self._packed_to = at + size if (at + size) % cluster else 0
        return at

    def free(self, offset: int, size: int, kind: str) -> None:
        """Count clusters down; what goes wrong is said, and clusters are lost."""
        self._image.event("cluster_free")
        try:
            self.update(offset, size, -1, kind)
        except BlockIoError as error:
            self._image.say(f"qcow2_free_clusters failed: {error.desc}")
