"""qcow2 images: header, tables and clusters, read and written over any file.

Other programs look into these files themselves (libvirt parses headers, qemu-img checks
refcounts), so what is written here is a consistent image after each operation: clusters are
counted, tables linked last. Not done: sub-clusters, zstd.
This module opens an image and has its tables; `read` and `write` go through them to clusters,
`allocation` finds clusters for what is written, `refcounts` counts them, `snapshots` keeps states,
`check` repairs.

What a damaged image leads to is what it leads to in QEMU (block/qcow2-cluster.c): tables are
read when they are needed, and an entry that cannot be is `corrupt`.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from array import array
from collections.abc import Callable, Iterator

from fakeqemu.formats.extents import BlockIoError, Range
from fakeqemu.formats.qcow2.header import (
    CORRUPT,
    DIRTY,
    EXT_BITMAPS,
    EXTENDED_L2,
    EXTERNAL_DATA,
    LAZY_REFCOUNTS,
    RAW_DATA,
    Store,
    read_backing,
    read_extensions,
    read_fields,
)
from fakeqemu.formats.qcow2.read import Reader
from fakeqemu.formats.qcow2.refcount.refcounts import Refcounts
from fakeqemu.formats.qcow2.tables import (
    COMPRESSED,
    COPIED,
    OFFSET,
    ZERO_FLAG,
    CachedTable,
    Corrupted,
    Overlaps,
    QCowSnapshot,
    TableCache,
    hex_of,
)
from fakeqemu.formats.qcow2.write import Writer
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

#: where the header has the incompatible features
_INCOMPATIBLE_AT = 72

Fill = Callable[[int, int], bytes]


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
        #: where data are: another file, or the same through a cipher
        self.data: Store = store
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
        #: whether the image is this process's, and not one that migrates to it
        self.active: Callable[[], bool] = lambda: True
        #: called with what is about to be done, as block/blkdebug.c has events for it
        self.event: Callable[[str], None] = lambda _name: None
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
        self._reader = Reader(self)
        self.writer = Writer(self)

    def open_rest(self) -> None:
        """What comes after the data file: the backing file's name. Raises QapiError."""
        if self.header.crypt_method and self.header.crypto is None:
            raise QapiError(
                f"Missing CRYPTO header for crypt method {self.header.crypt_method}"
            )
        read_backing(self.store, self.header)

    @property
    def extended(self) -> bool:
        """Whether clusters have parts of their own."""
        return bool(self.header.incompatible & EXTENDED_L2)

    @property
    def external(self) -> bool:
        """Whether data are in a file of their own, each cluster at the guest's offset."""
        return bool(self.header.incompatible & EXTERNAL_DATA)

    @property
    def external_raw(self) -> bool:
        """Whether that file alone reads as the guest's disk does."""
        return self.external and bool(self.header.autoclear & RAW_DATA)

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

        `fatal`: whether it must not be used any more, which it may where it cannot be written. See
        block/qcow2.c: qcow2_signal_corruption().
        """
        fatal = fatal and self.writable and self.active()
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
        """What the range is in this image: parts of one kind that lie together in the file."""
        return self._reader.status(start, end)

    def read(self, offset: int, count: int, fill: Fill) -> bytes:
        """`count` bytes; `fill` gives what is not in this image."""
        return self._reader.read(offset, count, fill)

    def leads_to(self, entry: int) -> bool:
        """Whether an entry leads to a cluster, at offset 0 of a data file too."""
        if entry & COMPRESSED:
            return False
        return bool(entry & OFFSET or (self.external and entry & COPIED and not entry & ZERO_FLAG))

    def entry(self, offset: int) -> int:
        """The second-level entry of the cluster at `offset`; 0 for none."""
        index, slot = divmod(offset >> self.header.cluster_bits, self.l2_entries)
        at = self.l2_at(index)
        return self.l2_table(at).entry(slot) if at else 0

    def packed_place(self, entry: int) -> tuple[int, int]:
        """Offset and bytes of a compressed cluster."""
        at = entry & (1 << self.packed_shift) - 1
        sectors = (entry >> self.packed_shift & (1 << self.header.cluster_bits - 8) - 1) + 1
        return at, sectors * 512 - at % 512

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

    def set_backing(self, file: str, format: str) -> None:
        """Write which image lies below. Raises QapiError."""
        if len(c_bytes(file)) > 1023:
            raise QapiError("Backing file name too long")
        if file and self.external_raw:
            raise QapiError(os.strerror(errno.EINVAL))
        self.header.backing_file, self.header.backing_format = file, format
        self.write_header()
