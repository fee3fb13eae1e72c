"""qcow2 images: header, tables and clusters, read and written over any file.

Other programs look into these files themselves (libvirt parses headers, qemu-img checks
refcounts), so what is written here is a consistent image after each operation: clusters are
counted, tables linked last. Not done: external data files, encryption, sub-clusters, zstd.
This module opens an image and reads it; `qcow2write` writes clusters, `qcow2refcount` counts
them, `qcow2snapshots` keeps states, `qcow2check` repairs.

What a damaged image leads to is what it leads to in QEMU (block/qcow2-cluster.c): tables are
read when they are needed, and an entry that cannot be is `corrupt`.
"""

from __future__ import annotations

import contextlib
import struct
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fakeqemu.formats.extents import DATA, HOLE, ZERO, BlockIoError, Range
from fakeqemu.formats.qcow2.header import (
    CORRUPT,
    DIRTY,
    EXT_BITMAPS,
    EXTENDED_L2,
    LAZY_REFCOUNTS,
    Store,
    read_backing,
    read_extensions,
    read_fields,
)
from fakeqemu.formats.qcow2.refcounts import Refcounts, hex_of
from fakeqemu.formats.qcow2.tables import (
    COMPRESSED,
    OFFSET,
    ZERO_FLAG,
    CachedTable,
    Corrupted,
    Overlaps,
    TableCache,
)
from fakeqemu.formats.qcow2.write import Writer
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.formats.qcow2.snapshots import QCowSnapshot

#: where the header has the incompatible features
_INCOMPATIBLE_AT = 72

Fill = Callable[[int, int], bytes]


@contextlib.contextmanager
def blaming(step: str) -> Iterator[None]:
    """Say in which step of qcow2_co_create() or qcow2_co_truncate() something went wrong."""
    try:
        yield
    except QapiError as error:
        raise error.prefixed(f"{step}: ") from None


class Qcow2:
    """One open image. Reading and writing raise BlockIoError with the host's text.

    `prepare` is called between looking at the first-level table and at the counts, where QEMU
    looks at its own options; it may raise QapiError.
    """

    def __init__(
        self,
        store: Store,
        *,
        writable: bool = True,
        prepare: Callable[[Qcow2], None] | None = None,
    ) -> None:
        self.store = store
        self.writable = writable
        self.header = header = read_fields(store, writable=writable)
        self.cluster = header.cluster
        #: entries in a second-level table
        self.l2_entries = header.l2_entries
        #: at which bit of a compressed cluster's entry its length begins
        self.packed_shift = 62 - (header.cluster_bits - 8)
        self.snapshots: list[QCowSnapshot] = []
        #: bytes of the table of snapshots
        self.snapshots_size = 0
        #: whose freed clusters are given back to the host
        self.discards = frozenset({"always", "request", "snapshot"})
        #: called when the image turns out to be damaged; what goes to standard error
        self.on_corrupt: Corrupted = lambda _text, _fatal, _offset, _size: None
        self.say: Callable[[str], None] = lambda _text: None
        self._signalled = False
        #: whether nobody can use the image any more
        self.dead = False
        #: whether counts are written late, and the image is marked as dirty until then
        self.lazy = bool(header.compatible & LAZY_REFCOUNTS)
        #: whether discarded clusters stay where they are
        self.keep_references = False
        self.overlaps = Overlaps(self)
        self.l2_cache = TableCache(self, "active-l2")
        try:
            self.l1 = self.read_table(header.l1_offset, header.l1_size)
        except BlockIoError as error:
            raise error.prefixed("Could not read L1 table: ") from None
        self._count_l2(self.l1, 1)
        if prepare is not None:
            prepare(self)
        try:
            self.refcounts = Refcounts(self)
        except BlockIoError as error:
            raise error.prefixed("Could not initialize refcount handling: ") from None
        read_extensions(store, header)
        self.writer = Writer(self)

    def open_rest(self) -> None:
        """What comes after the data file: the backing file's name. Raises QapiError."""
        if self.header.crypt_method:
            raise QapiError(
                f"Missing CRYPTO header for crypt method {self.header.crypt_method}"
            )
        read_backing(self.store, self.header)

    @property
    def extended(self) -> bool:
        """Whether clusters have parts of their own."""
        return bool(self.header.incompatible & EXTENDED_L2)

    @property
    def directory(self) -> tuple[int, int, int] | None:
        """Number of bitmaps, bytes and offset of their directory; None where there is none."""
        for kind, data in self.header.extensions:
            if kind == EXT_BITMAPS:
                number, _, size, offset = struct.unpack(">IIQQ", data)
                return number, size, offset
        return None

    # -- damage --------------------------------------------------------------------------------

    def corrupt(
        self, text: str, offset: int = -1, size: int = -1, *, fatal: bool = True
    ) -> BlockIoError:
        """Note that the image is damaged; what to raise.

        `fatal`: whether it must not be used any more, which it may where it is only read. See
        block/qcow2.c: qcow2_signal_corruption().
        """
        fatal = fatal and self.writable
        if not self._signalled or (fatal and not self.header.incompatible & CORRUPT):
            self._signalled = True
            if fatal:
                self.say(
                    f"qcow2: Marking image as corrupt: {text}; further corruption events will"
                    " be suppressed"
                )
            else:
                self.say(
                    f"qcow2: Image is corrupt: {text}; further non-fatal corruption events will"
                    " be suppressed"
                )
            if fatal:
                self.header.incompatible |= CORRUPT
                try:
                    self.write_header()
                except QapiError as error:
                    self.say(error.desc)
                self.dead = True
            self.on_corrupt(text, fatal, offset, size)
        return BlockIoError()

    def overlap(self, offset: int, size: int, ignore: str = "") -> str:
        """How the metadata is called that a write would hit; empty: none."""
        return self.overlaps.find(offset, size, ignore)

    def check_write(self, offset: int, size: int, ignore: str = "") -> None:
        """Raise BlockIoError, and mark the image, if a write would hit metadata."""
        found = self.overlap(offset, size, ignore)
        if found:
            raise self.corrupt(
                f"Preventing invalid write on metadata (overlaps with {found})", offset, size
            )

    # -- tables --------------------------------------------------------------------------------

    def read_table(self, offset: int, entries: int) -> array[int]:
        """A table of 64-bit numbers."""
        found = array("Q", self.store.read(offset, entries * 8) if entries else b"")
        if sys.byteorder == "little":
            found.byteswap()
        return found

    def write_table(self, offset: int, table: array[int]) -> None:
        """Write a table."""
        data = array("Q", table)
        if sys.byteorder == "little":
            data.byteswap()
        self.store.write(offset, data.tobytes())

    def write_header(self) -> None:
        """Write the header as it is now."""
        self.store.write(0, self.header.pack().ljust(self.cluster, b"\0"))

    def set_l1(self, index: int, entry: int) -> None:
        """Change an entry of the first-level table, in memory."""
        self._count_l2(self.l1[index : index + 1], -1)
        self.l1[index] = entry
        self._count_l2(self.l1[index : index + 1], 1)

    def use_l1(self, table: array[int]) -> None:
        """Put another first-level table in place of this, in memory."""
        self._count_l2(self.l1, -1)
        self.l1 = table
        self._count_l2(self.l1, 1)

    def _count_l2(self, table: array[int], by: int) -> None:
        for entry in filter(None, table):
            if entry & OFFSET:
                self.overlaps.l2.add(entry & OFFSET, by)

    def flush(self) -> None:
        """Write all tables. Raises BlockIoError; what is dead is left as it is."""
        if self.dead:
            return
        failed = None
        caches = (self.l2_cache,) if self.lazy else (self.l2_cache, self.refcounts.cache)
        for cache in caches:
            try:
                cache.flush()
            except BlockIoError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def settle(self) -> None:
        """Write changed tables, except those that would overlap other metadata."""
        self.refcounts.cache.settle()
        self.l2_cache.settle()

    def mark_dirty(self) -> None:
        """Counts in the file may be wrong from now on. Raises BlockIoError."""
        if not self.header.incompatible & DIRTY:
            incompatible = self.header.incompatible | DIRTY
            self.store.write(_INCOMPATIBLE_AT, struct.pack(">Q", incompatible))
            self.header.incompatible = incompatible

    def mark_clean(self) -> None:
        """All counts are right. Raises BlockIoError."""
        if self.header.incompatible & DIRTY:
            self.header.incompatible &= ~DIRTY
            self.l2_cache.flush()
            self.refcounts.cache.flush()
            self.write_header()

    def l2_at(self, index: int) -> int:
        """Where second-level table number `index` is; 0: nowhere."""
        at = self.l1[index] & OFFSET if index < len(self.l1) else 0
        if at % self.cluster:
            raise self.corrupt(f"L2 table offset {at:#x} unaligned (L1 index: {hex_of(index)})")
        return at

    def l2_table(self, at: int) -> CachedTable:
        """The second-level table at a file offset."""
        if self.extended:
            raise NotModelledError("data in qcow2 images with extended L2 entries")
        return self.l2_cache.get(at)

    # -- data ----------------------------------------------------------------------------------

    def status(self, start: int, end: int) -> Iterator[Range]:
        """What the range is in this image: parts of one kind that lie together in the file.

        See block/qcow2-cluster.c: qcow2_get_host_offset() and count_contiguous_subclusters().
        """
        kind, first, at, next_host = "", start, start, 0
        covered = self.cluster * self.l2_entries
        while at < end:
            index, inside = divmod(at, covered)
            table_at = self.l2_at(index)
            if table_at:
                table = self.l2_table(table_at)
                step = self.cluster - at % self.cluster
                entry = table.entry(inside // self.cluster)
                now = self._kind(entry, table_at, inside)
                host = -1 if entry & COMPRESSED else entry & OFFSET
            else:
                step, now, host = covered - inside, HOLE, 0
            if (now != kind or host != next_host) and at > first:
                yield Range(first, at - first, kind)
                first = at
            # a compressed cluster stands alone
            kind, next_host = now, host + self.cluster if host > 0 else 0
            at = min(at + step, end)
        if at > first:
            yield Range(first, at - first, kind)

    def _kind(self, entry: int, table_at: int, inside: int) -> str:
        """What an entry says its cluster is. Raises BlockIoError for one that cannot be."""
        if entry & COMPRESSED:
            return DATA
        if entry & ZERO_FLAG:
            if self.header.version < 3:
                raise self.corrupt(
                    "Zero cluster entry found in pre-v3 image"
                    f" (L2 offset: {table_at:#x}, L2 index: {hex_of(inside // self.cluster)})"
                )
            kind = ZERO
        else:
            kind = DATA if entry & OFFSET else HOLE
        if (entry & OFFSET) % self.cluster:
            raise self.corrupt(
                f"Cluster allocation offset {entry & OFFSET:#x} unaligned"
                f" (L2 offset: {table_at:#x}, L2 index: {hex_of(inside // self.cluster)})"
            )
        return kind

    def entry(self, offset: int) -> int:
        """The second-level entry of the cluster at `offset`; 0 for none."""
        index, slot = divmod(offset >> self.header.cluster_bits, self.l2_entries)
        at = self.l2_at(index)
        return self.l2_table(at).entry(slot) if at else 0

    def read(self, offset: int, count: int, fill: Fill) -> bytes:
        """`count` bytes; `fill` gives what is not in this image."""
        out = bytearray()
        for piece in self.status(offset, offset + count):
            if piece.kind == ZERO:
                out += bytes(piece.length)
            elif piece.kind == HOLE:
                out += fill(piece.offset, piece.length)
            else:
                out += self._read_data(piece.offset, piece.length)
        return bytes(out)

    def _read_data(self, offset: int, count: int) -> bytes:
        out = bytearray()
        while count:
            inside = offset % self.cluster
            step = min(self.cluster - inside, count)
            entry = self.entry(offset)
            if entry & COMPRESSED:
                out += self._inflate(entry)[inside : inside + step]
            else:
                out += self.store.read((entry & OFFSET) + inside, step)
            offset, count = offset + step, count - step
        return bytes(out)

    def packed_place(self, entry: int) -> tuple[int, int]:
        """Offset and bytes of a compressed cluster."""
        at = entry & (1 << self.packed_shift) - 1
        sectors = (entry >> self.packed_shift & (1 << self.header.cluster_bits - 8) - 1) + 1
        return at, sectors * 512 - at % 512

    def _inflate(self, entry: int) -> bytes:
        if self.header.compression:
            raise NotModelledError("zstd compressed clusters")
        data = self.store.read(*self.packed_place(entry))
        try:
            found = zlib.decompressobj(-12).decompress(data, self.cluster)
        except zlib.error:
            raise BlockIoError from None
        if len(found) < self.cluster:
            raise BlockIoError
        return found

    # -- writing -------------------------------------------------------------------------------

    def write(self, offset: int, data: bytes, fill: Fill) -> None:
        """Write; clusters written in part take the rest from `fill`."""
        self._settled(lambda: self.writer.write(offset, data, fill))

    def write_compressed(self, offset: int, data: bytes, fill: Fill) -> None:
        """Write whole clusters compressed; what does not get smaller is written as it is."""
        self._settled(lambda: self.writer.write_compressed(offset, data, fill))

    def zero(self, offset: int, count: int, fill: Fill) -> None:
        """Make a range read as zeros: whole clusters by a flag, the rest by writing."""
        self._settled(lambda: self.writer.zero(offset, count, fill))

    def discard(self, start: int, end: int) -> None:
        """Forget the clusters of a range."""
        self._settled(lambda: self.writer.discard(start, end))

    def _settled(self, change: Callable[[], None]) -> None:
        try:
            change()
        finally:
            self.settle()

    def truncate(self, size: int) -> None:
        """Change the guest's size. Raises QapiError."""
        if size % 512:
            raise QapiError("The new size must be a multiple of 512")
        if self.snapshots and self.header.version < 3:
            raise QapiError("Can't resize a v2 image which has snapshots")
        if size < self.header.size:
            first = -(-size // self.cluster) * self.cluster
            self.discard(first, -(-self.header.size // self.cluster) * self.cluster)
        else:
            with blaming("Failed to grow the L1 table"):
                self.writer.grow_l1(-(-size // (self.cluster * self.l2_entries)), exact=True)
        self.header.size = size
        with blaming("Failed to update the image size"):
            self.write_header()
        self.settle()

    def set_backing(self, file: str, format: str) -> None:
        """Write which image lies below. Raises QapiError."""
        if len(c_bytes(file)) > 1023:
            raise QapiError("Backing file name too long")
        self.header.backing_file, self.header.backing_format = file, format
        self.write_header()
