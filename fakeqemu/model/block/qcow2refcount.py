"""The cluster counts of a qcow2 image: who uses which cluster, and where free ones are."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.block.qcow2 import Qcow2


class Refcounts:
    """Counts of one image. New clusters come from the end of the file, or from freed ones."""

    def __init__(self, image: Qcow2) -> None:
        self._image = image
        header = image.header
        self.bits = 1 << header.refcount_order
        #: counts in one block
        self.per_block = image.cluster * 8 // self.bits
        entries = header.refcount_table_clusters * image.cluster // 8
        self._table = image.table(header.refcount_table_offset, entries)
        self._next = -(-image.store.size() // image.cluster)
        self._free: set[int] = set()

    # -- counting ------------------------------------------------------------------------------

    def get(self, index: int) -> int:
        """How often cluster `index` is used."""
        block, slot = divmod(index, self.per_block)
        at = self._table[block] if block < len(self._table) else 0
        if not at:
            return 0
        if self.bits < 8:
            byte = self._image.store.read(at + slot * self.bits // 8, 1)[0]
            return byte >> slot * self.bits % 8 & (1 << self.bits) - 1
        width = self.bits // 8
        return int.from_bytes(self._image.store.read(at + slot * width, width), "big")

    def _put(self, index: int, count: int) -> None:
        block, slot = divmod(index, self.per_block)
        at = self._block(block)
        store = self._image.store
        if self.bits < 8:
            where = at + slot * self.bits // 8
            shift = slot * self.bits % 8
            mask = (1 << self.bits) - 1 << shift
            byte = store.read(where, 1)[0] & ~mask | count << shift
            store.write(where, bytes([byte]))
            return
        width = self.bits // 8
        store.write(at + slot * width, count.to_bytes(width, "big"))

    def _block(self, block: int) -> int:
        """Where block number `block` of counts is, made if there is none."""
        if block >= len(self._table):
            self._grow(block + 1)
        if not self._table[block]:
            index = self._take(1)
            at = index * self._image.cluster
            self._table[block] = at
            self._image.store.write(at, bytes(self._image.cluster))
            header = self._image.header
            self._image.store.write(
                header.refcount_table_offset + block * 8, struct.pack(">Q", at)
            )
            self._put(index, 1)
        return self._table[block]

    def _grow(self, entries: int) -> None:
        image = self._image
        old = image.header.refcount_table_offset, image.header.refcount_table_clusters
        clusters = -(-entries * 8 // image.cluster) * 2
        index = self._take(clusters)
        self._table += [0] * (clusters * image.cluster // 8 - len(self._table))
        image.put_table(index * image.cluster, self._table)
        image.header.refcount_table_offset = index * image.cluster
        image.header.refcount_table_clusters = clusters
        image.write_header()
        for number in range(index, index + clusters):
            self._put(number, 1)
        self.change(old[0], old[1], -1)

    def change(self, offset: int, clusters: int, delta: int) -> None:
        """Count `clusters` from file offset `offset` on up or down."""
        first = offset // self._image.cluster
        for index in range(first, first + clusters):
            count = self.get(index) + delta
            self._put(index, count)
            if count == 0:
                self._free.add(index)
                self._image.store.zero(index * self._image.cluster, self._image.cluster)

    # -- finding room --------------------------------------------------------------------------

    def _take(self, clusters: int) -> int:
        if clusters == 1 and self._free:
            index = min(self._free)
            self._free.discard(index)
            return index
        index = self._next
        self._next += clusters
        return index

    def allocate(self, clusters: int) -> int:
        """The file offset of so many clusters in a row, counted once each and all zeros."""
        index = self._take(clusters)
        for number in range(index, index + clusters):
            self._put(number, 1)
        return index * self._image.cluster
