"""Tables of a qcow2 image that are read when they are needed, and written back later.

QEMU keeps second-level tables and blocks of cluster counts in caches and writes them when it
flushes (block/qcow2-cache.c). So a table that must not be written, because it lies where other
metadata is, is found out then: by a flush, and not by the request that changed the table. What
can be written is written at the end of each request, so that other programs find it in the file.
"""

from __future__ import annotations

import contextlib
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.qcow2.header import BITMAPS, LARGEST_L1, Header, Store, validate_table
from fakeqemu.qapi.errors import QapiError

COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO_FLAG = 1
OFFSET = 0x00FFFFFFFFFFFE00
_SECOND = 10**9
#: bytes that all tables of one kind may take in memory
_ROOM = 32 << 20


@dataclass
class QCowSnapshot:
    """One internal snapshot."""

    id: str
    name: str
    #: seconds since 1970, and nanoseconds beyond
    date_sec: int
    date_nsec: int
    #: the guest's clock in nanoseconds
    vm_clock: int
    vm_state_size: int = 0
    l1_offset: int = 0
    l1_size: int = 0
    size: int = 0
    #: instructions counted; -1: not counted
    icount: int = -1
    #: bytes the table has of what came later than the format; what it has beyond, as it is
    known: int = 24
    extra: bytes = b""

    def info(self) -> dict[str, Any]:
        """SnapshotInfo."""
        found: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "vm-state-size": self.vm_state_size,
            "date-sec": self.date_sec,
            "date-nsec": self.date_nsec,
            "vm-clock-sec": self.vm_clock // _SECOND,
            "vm-clock-nsec": self.vm_clock % _SECOND,
        }
        if self.icount >= 0:
            found["icount"] = self.icount
        return found


class TableOwner(Protocol):
    """What tables need of their image."""

    header: Header
    store: Store
    cluster: int
    #: called with what is about to be done
    event: Callable[[str], None]
    snapshots: list[QCowSnapshot]
    snapshots_size: int

    @property
    def directory(self) -> tuple[int, int, int] | None:
        """Number of bitmaps, bytes and offset of their directory."""

    def read_table(self, offset: int, entries: int) -> array[int]:
        """A table of 64-bit numbers."""

    def overlap(self, offset: int, size: int, ignore: str = "") -> str:
        """How the metadata is called that a write would hit."""

    def check_write(self, offset: int, size: int, ignore: str = "") -> None:
        """Raise BlockIoError if a write would hit metadata."""


class CachedTable:
    """One table: `cluster` bytes. `changed`: where those of its cache are that are not written."""

    def __init__(
        self, data: bytearray, offset: int = -1, changed: set[CachedTable] | None = None
    ) -> None:
        self.data = data
        self.offset = offset
        #: grows with each use; the cache writes in this order
        self.used = 0
        self._changed = set() if changed is None else changed

    @property
    def dirty(self) -> bool:
        """Whether it is to be written."""
        return self in self._changed

    @dirty.setter
    def dirty(self, dirty: bool) -> None:
        if dirty:
            self._changed.add(self)
        else:
            self._changed.discard(self)

    def entry(self, slot: int) -> int:
        """A 64-bit number of it."""
        found: int = struct.unpack_from(">Q", self.data, slot * 8)[0]
        return found

    def put(self, slot: int, value: int) -> None:
        """Change a 64-bit number."""
        struct.pack_into(">Q", self.data, slot * 8, value)
        self.dirty = True

    def entries(self, first: int = 0, end: int | None = None) -> tuple[int, ...]:
        """All of them, or those from slot `first` to `end`."""
        end = len(self.data) // 8 if end is None else end
        return struct.unpack_from(f">{end - first}Q", self.data, first * 8)

    def put_row(self, slot: int, row: range) -> None:
        """Change as many entries as `row` has numbers."""
        struct.pack_into(f">{len(row)}Q", self.data, slot * 8, *row)
        self.dirty = True

    def zeros(self, start: int, end: int) -> int:
        """How many bytes from `start` on, and before `end`, are zeros."""
        return end - start - len(self.data[start:end].lstrip(b"\0"))


class TableCache:
    """All tables of one kind that are in memory. `ignored`: what they may lie on: themselves."""

    def __init__(self, image: TableOwner, ignored: str) -> None:
        self._image = image
        self._ignored = ignored
        self._tables: dict[int, CachedTable] = {}
        self._changed: set[CachedTable] = set()
        self._uses = 0
        self._most = max(4, _ROOM // image.cluster)
        #: the cache that has to be written first
        self.depends: TableCache | None = None

    def get(self, offset: int, *, empty: bool = False) -> CachedTable:
        """The table at a file offset; `empty`: new, all zeros. Raises BlockIoError."""
        found = None if empty else self._tables.pop(offset, None)
        if found is None:
            size = self._image.cluster
            if not empty and self._ignored == "active-l2":
                self._image.event("l2_load")
            data = bytearray(size if empty else self._image.store.read(offset, size))
            if empty:
                self.forget((offset,))
            found = CachedTable(data, offset, self._changed)
            if len(self._tables) >= self._most:
                self._evict()
        self._tables[offset] = found
        self._uses += 1
        found.used = self._uses
        return found

    def _evict(self) -> None:
        offset, table = next(iter(self._tables.items()))
        self._write(table)
        del self._tables[offset]

    def forget(self, offsets: Iterable[int]) -> None:
        """What is at these places is no table any more."""
        for offset in self._tables.keys() & offsets:
            self._tables.pop(offset).dirty = False

    def clear(self) -> None:
        """Drop the cache."""
        self._tables.clear()
        self._changed.clear()

    def _unwritten(self) -> list[CachedTable]:
        """What has changed, in order of its last use."""
        return sorted(self._changed, key=lambda table: table.used)

    def needs_first(self, other: TableCache) -> None:
        """Let `other` be written before this is, from now on.

        What stands in the way of writing what `other` waits for is left to the next flush, as
        QEMU's callers do not look at what qcow2_cache_set_dependency() returns.
        """
        with contextlib.suppress(BlockIoError):
            if other.depends is not None:
                other._write_dependency()
            if self.depends is not None and self.depends is not other:
                self._write_dependency()
            self.depends = other

    def _write_dependency(self) -> None:
        assert self.depends is not None
        self.depends.flush()
        self.depends = None

    def flush(self) -> None:
        """Write what has changed; what cannot be written keeps its place. Raises BlockIoError."""
        failed: BlockIoError | None = None
        for table in self._unwritten():
            try:
                self._write(table)
            except BlockIoError as error:
                if failed is None or not failed.nospace:
                    failed = error
        if failed is not None:
            raise failed

    def _write(self, table: CachedTable) -> None:
        if not table.dirty:
            return
        if self.depends is not None:
            self._write_dependency()
        self._image.check_write(table.offset, len(table.data), ignore=self._ignored)
        self._image.store.write(table.offset, bytes(table.data))
        table.dirty = False

    def settle(self) -> None:
        """Write what overlaps no metadata; the rest waits for a flush, which raises the error."""
        for table in self._unwritten():
            if not self._image.overlap(table.offset, len(table.data), self._ignored):
                try:
                    self._image.store.write(table.offset, bytes(table.data))
                except BlockIoError:
                    continue
                table.dirty = False


@dataclass
class Places:
    """Which clusters the tables of one kind lie in, by the table that leads to them."""

    cluster: int
    _used: Counter[int] = field(default_factory=Counter)

    def add(self, offset: int, by: int = 1) -> None:
        """A table of one cluster begins at `offset`, or with -1 does no more."""
        first, last = offset // self.cluster, (offset + self.cluster - 1) // self.cluster
        for index in range(first, last + 1):
            self._used[index] += by
            if not self._used[index]:
                del self._used[index]

    def hit(self, offset: int, size: int) -> bool:
        """Whether one of them is in the range, whose ends are those of clusters."""
        first, end = offset // self.cluster, (offset + size) // self.cluster
        if end - first > len(self._used):
            return any(first <= index < end for index in self._used)
        return any(index in self._used for index in range(first, end))


#: what must not be written over, in the order in which it is looked at, and how it is called
_CHECKS = (
    ("main-header", "qcow2_header"),
    ("active-l1", "active L1 table"),
    ("refcount-table", "refcount table"),
    ("snapshot-table", "snapshot table"),
    ("inactive-l1", "inactive L1 table"),
    ("active-l2", "active L2 table"),
    ("refcount-block", "refcount block"),
    ("inactive-l2", "inactive L2 table"),
    ("bitmap-directory", "bitmap directory"),
)
_NAMES = dict(_CHECKS)
_CONSTANT = ("main-header", "active-l1", "refcount-table", "snapshot-table", "bitmap-directory")
#: what `overlap-check` may say; `cached` where it says nothing
TEMPLATES = {
    "none": frozenset[str](),
    "constant": frozenset(_CONSTANT),
    "cached": frozenset((*_CONSTANT, "active-l2", "refcount-block", "inactive-l1")),
    "all": frozenset(_NAMES),
}


class Overlaps:
    """Whether a write would hit metadata.

    See block/qcow2-refcount.c: qcow2_check_metadata_overlap().

    Places that tables lead to are counted when the tables change, not looked for at each write:
    a table may have four million entries.
    """

    def __init__(self, image: TableOwner) -> None:
        self._image = image
        #: what is looked at
        self.checks = TEMPLATES["cached"]
        self.l2 = Places(image.cluster)
        self.refblocks = Places(image.cluster)

    def find(self, offset: int, size: int, ignore: str = "") -> str:
        """How the metadata is called that a write would hit; empty: none. Raises BlockIoError."""
        if not size:
            return ""
        cluster = self._image.cluster
        if "main-header" in self.checks and offset < cluster:
            return _NAMES["main-header"]
        end = -(-(offset + size) // cluster) * cluster
        offset -= offset % cluster
        for name, text in _CHECKS[1:]:
            if name in self.checks and name != ignore and self._hit(name, offset, end - offset):
                return text
        return ""

    def _hit(self, name: str, offset: int, size: int) -> bool:
        if name == "active-l2":
            return self.l2.hit(offset, size)
        if name == "refcount-block":
            return self.refblocks.hit(offset, size)
        return any(
            length and offset < at + length and at < offset + size
            for at, length in self._ranges(name)
        )

    def _ranges(self, name: str) -> Iterator[tuple[int, int]]:
        """Offset and length of tables that are where the header or snapshots say."""
        image, header = self._image, self._image.header
        if name == "active-l1":
            yield header.l1_offset, header.l1_size * 8
        elif name == "refcount-table":
            yield header.refcount_table_offset, header.refcount_table_clusters * image.cluster
        elif name == "snapshot-table":
            yield header.snapshots_offset, image.snapshots_size
        elif name == "inactive-l1":
            for each in image.snapshots:
                yield each.l1_offset, each.l1_size * 8
        elif name == "bitmap-directory":
            if header.autoclear & BITMAPS:
                _, length, at = image.directory or (0, 0, 0)
                # nothing at offset 0 is, in QEMU's ranges_overlap(), all that there is
                yield at, length if length or at else 1 << 64
        else:
            for each in image.snapshots:
                place = each.l1_offset, each.l1_size, 8
                try:
                    validate_table(header, "", place, LARGEST_L1)
                except QapiError:
                    raise BlockIoError from None
                for entry in image.read_table(each.l1_offset, each.l1_size):
                    if entry & OFFSET:
                        yield entry & OFFSET, image.cluster


#: called when an image turns out to be damaged: text, whether it cannot be used any more,
#: offset and bytes of the write that was refused (-1: none)
Corrupted = Callable[[str, bool, int, int], None]


def hex_of(number: int) -> str:
    """As C's %#x writes it: 0 without a prefix."""
    return f"{number:#x}" if number else "0"
