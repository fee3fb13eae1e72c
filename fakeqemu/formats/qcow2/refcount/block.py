"""The numbers in a block of cluster counts, which have 1 to 64 bits each.

See docs/interop/qcow2.txt, "Refcount block"; block/qcow2-refcount.c: get_refcount_ro0() and the
like.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.formats.qcow2.tables import CachedTable

_TYPES = {8: "B", 16: "H", 32: "I", 64: "Q"}


class RefcountWidth:
    """Counts of so many bits."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        #: the highest count
        self.most = (1 << bits) - 1

    def get(self, block: CachedTable, slot: int) -> int:
        """One count."""
        if self.bits < 8:
            return block.data[slot * self.bits // 8] >> slot * self.bits % 8 & self.most
        width = self.bits // 8
        return int.from_bytes(block.data[slot * width : (slot + 1) * width], "big")

    def set(self, block: CachedTable, slot: int, count: int) -> None:
        """Change one count."""
        block.dirty = True
        if self.bits < 8:
            shift = slot * self.bits % 8
            byte = block.data[slot * self.bits // 8] & ~(self.most << shift) | count << shift
            block.data[slot * self.bits // 8] = byte
            return
        width = self.bits // 8
        block.data[slot * width : (slot + 1) * width] = count.to_bytes(width, "big")

    def get_row(self, block: CachedTable, slot: int, number: int) -> list[int]:
        """So many counts from `slot` on."""
        if self.bits < 8:
            return [self.get(block, each) for each in range(slot, slot + number)]
        width = self.bits // 8
        values = array(_TYPES[self.bits], bytes(block.data[slot * width : (slot + number) * width]))
        if sys.byteorder == "little":
            values.byteswap()
        return values.tolist()

    def set_row(self, block: CachedTable, slot: int, counts: list[int]) -> None:
        """Change the counts from `slot` on."""
        if self.bits < 8:
            for each, count in enumerate(counts, slot):
                self.set(block, each, count)
            return
        values = array(_TYPES[self.bits], counts)
        if sys.byteorder == "little":
            values.byteswap()
        width = self.bits // 8
        block.data[slot * width : (slot + len(counts)) * width] = values.tobytes()
        block.dirty = True

    def zeros(self, block: CachedTable, slot: int, most: int) -> int:
        """How many counts in a row are zero from `slot` on, of `most` that are looked at."""
        if self.bits < 8:
            counts = self.get_row(block, slot, most)
            return next((n for n, count in enumerate(counts) if count), most)
        width = self.bits // 8
        return block.zeros(slot * width, (slot + most) * width) // width
