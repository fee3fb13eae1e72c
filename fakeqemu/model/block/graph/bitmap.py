"""One dirty bitmap: which grains of a node were written since some moment.

See block/dirty-bitmap.c: struct BdrvDirtyBitmap; util/hbitmap.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.intervals import Intervals
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node

#: most bytes of bits that a digest is made of (as many as an image may hold), and at a time
_MOST_DIGESTED, _PIECE = 0x20000000, 1 << 20


class Bitmap:
    """One bitmap; bits are kept as intervals of dirty grains."""

    def __init__(self, node: Node, name: str | None, granularity: int, size: int) -> None:
        self.node = node
        self.name = name
        self.granularity = granularity
        self.size = size
        self.persistent = False
        self.enabled = True
        #: records instead while a backup uses it
        self.successor: Bitmap | None = None
        #: in use by a job or an export
        self.busy = False
        self.inconsistent = False
        self.read_only = False
        #: whether the image holds a copy of it
        self.stored = False
        self._grains = Intervals()
        #: called after the guest's writes that it records: a job follows them
        self.on_mark: Callable[[], None] | None = None
        #: it has gone along with a migration: the image is not to have it any more
        self.skip_store = False

    # -- bits --------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Dirty bytes, in whole grains: util/hbitmap.c: hbitmap_count()."""
        return self._grains.total * self.granularity

    def mark(self, offset: int, count: int) -> None:
        """The range was written."""
        if self.enabled and count:
            self.add(offset, count)
            if self.on_mark is not None:
                self.on_mark()

    def add(self, offset: int, count: int) -> None:
        """Make a range dirty."""
        first, last = offset // self.granularity, (offset + count - 1) // self.granularity
        self._grains.add(first, last + 1)

    def add_grains(self, grains: Intervals) -> None:
        """Make grains dirty."""
        for first, end in grains:
            self._grains.add(first, end)

    def remove(self, first: int, end: int) -> None:
        """Grains from `first` to below `end` are not dirty any more."""
        self._grains.remove(first, end)

    def clear(self) -> Intervals:
        """Nothing is dirty; gives the grains that were, for `restore`."""
        before, self._grains = self._grains, Intervals()
        return before

    def restore(self, grains: Intervals) -> None:
        """Put back what `clear` gave."""
        self._grains = grains

    def copy_bits(self) -> Intervals:
        """The dirty grains."""
        return self._grains.copy()

    def ranges(self, offset: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """Offset and length of what is dirty from `offset` to below `end`, or that of the node."""
        end = self.size if end is None else min(end, self.size)
        grain = self.granularity
        # what is made dirty or clean in the meantime does not change what is given
        for first, last in list(self._grains.within(offset // grain, -(-end // grain))):
            begin = max(first * grain, offset)
            yield begin, min(last * grain, end) - begin

    def next_dirty_area(self, offset: int, end: int) -> tuple[int, int] | None:
        """Offset and length of the first part that is dirty from `offset` to below `end`.

        See block/dirty-bitmap.c: bdrv_dirty_bitmap_next_dirty_area().
        """
        end, grain = min(end, self.size), self.granularity
        found = next(self._grains.within(offset // grain, -(-end // grain)), None)
        if found is None:
            return None
        begin = max(found[0] * grain, offset)
        return begin, min(found[1] * grain, end) - begin

    def merge(self, other: Bitmap) -> None:
        """Make dirty what is dirty in `other`."""
        if other.granularity == self.granularity:
            self._grains |= other._grains
            return
        for offset, count in other.ranges():
            self.add(offset, count)

    def resize(self, size: int) -> None:
        """The node has another size."""
        self._grains.clip(-(-size // self.granularity))
        self.size = size

    def sha256(self) -> str:
        """Digest of the bits in words of 64, as QEMU's lowest level keeps them."""
        import hashlib

        grains = -(-self.size // self.granularity)
        size = -(-grains // 64) * 8
        if size > _MOST_DIGESTED:
            raise NotModelledError(f"the digest of a bitmap of more than {_MOST_DIGESTED} bytes")
        digest = hashlib.sha256()
        for at in range(0, size, _PIECE):
            digest.update(self._grains.to_bits(at * 8, min(_PIECE, size - at)))
        return digest.hexdigest()

    # -- what it shows -------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """BlockDirtyInfo."""
        found: dict[str, Any] = {"name": self.name} if self.name is not None else {}
        found.update(
            {
                "granularity": self.granularity,
                "count": self.count,
                "recording": (self.successor or self).enabled,
                "busy": self.busy,
                "persistent": self.persistent and not self.skip_store,
            }
        )
        if self.inconsistent:
            found["inconsistent"] = True
        return found

    def check(self, *, busy: bool = True, inconsistent: bool = True, ro: bool = True) -> None:
        """Raise QapiError if the bitmap is busy, read-only or inconsistent.

        See bdrv_dirty_bitmap_check().
        """
        if busy and self.busy:
            raise QapiError(
                f"Bitmap '{self.name}' is currently in use by another operation"
                " and cannot be used"
            )
        if ro and self.read_only:
            raise QapiError(f"Bitmap '{self.name}' is readonly and cannot be modified")
        if inconsistent and self.inconsistent:
            raise QapiError(
                f"Bitmap '{self.name}' is inconsistent and cannot be used",
                "Try block-dirty-bitmap-remove to delete this bitmap from disk",
            )
