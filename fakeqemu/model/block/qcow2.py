"""qcow2 images: header, tables and clusters, read and written over any file.

Other programs look into these files themselves (libvirt parses headers, qemu-img checks
refcounts), so what is written here is a consistent image after each operation: clusters are
counted, tables linked last. Not done: external data files, encryption, sub-clusters, zstd.
The tables' mechanics; internal snapshots are in `qcow2snapshots`.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterator

from fakeqemu.model.block.driver import DATA, HOLE, ZERO, Range, check_length
from fakeqemu.model.block.qcow2header import EXTENDED_L2, Header, Store, parse_header
from fakeqemu.model.block.qcow2refcount import Refcounts
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.utf8 import c_bytes

_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_OFFSET = 0x00FFFFFFFFFFFE00
_ZERO_FLAG = 1

_SECTOR = 512
#: bytes of the longest first-level table
_LARGEST_L1 = 32 << 20

@contextlib.contextmanager
def _blaming(step: str) -> Iterator[None]:
    """Say in which step of qcow2_co_create() or qcow2_co_truncate() something went wrong."""
    try:
        yield
    except QapiError as error:
        raise error.prefixed(f"{step}: ") from None


Fill = Callable[[int, int], bytes]


class Qcow2:
    """One open image."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.header = parse_header(store)
        self.cluster = 1 << self.header.cluster_bits
        #: entries in a second-level table
        self.l2_entries = self.cluster // (16 if self.extended else 8)
        self.refcounts = Refcounts(self)
        self._l1: list[int] = self.table(self.header.l1_offset, self.header.l1_size)
        self._l2: dict[int, list[int]] = {}
        #: where the last compressed cluster ends; 0: none was written
        self._packed_to = 0

    @property
    def extended(self) -> bool:
        """Whether clusters have parts of their own."""
        return bool(self.header.incompatible & EXTENDED_L2)

    # -- creation ------------------------------------------------------------------------------

    @classmethod
    def create(cls, store: Store, header: Header) -> Qcow2:
        """Write an empty image of `header`'s size into an empty store."""
        cluster = 1 << header.cluster_bits
        size, header.size = header.size, 0
        header.refcount_table_offset, header.refcount_table_clusters = cluster, 1
        entry = 16 if header.incompatible & EXTENDED_L2 else 8
        covered = cluster * (cluster // entry)
        l1_size = -(-size // covered)
        header.l1_size, header.l1_offset = 0, 3 * cluster
        with _blaming("Could not write qcow2 header"):
            store.truncate(0)
            store.write(0, header.pack().ljust(cluster, b"\0"))
        with _blaming("Could not write refcount table"):
            store.write(cluster, struct.pack(">Q", 2 * cluster).ljust(2 * cluster, b"\0"))
        image = cls(store)
        with _blaming("Could not allocate clusters for qcow2 header and refcount table"):
            image.refcounts.change(0, 3, 1)
        with _blaming("Could not resize image"):
            check_length(size)
            image.header.size = size
            with _blaming("Failed to grow the L1 table"):
                image.grow_l1(l1_size, first=True)
        return image

    # -- tables --------------------------------------------------------------------------------

    def table(self, offset: int, entries: int) -> list[int]:
        """A table of 64-bit numbers."""
        if not entries:
            return []
        return list(struct.unpack(f">{entries}Q", self.store.read(offset, entries * 8)))

    def put_table(self, offset: int, table: list[int]) -> None:
        """Write a table."""
        self.store.write(offset, struct.pack(f">{len(table)}Q", *table))

    def write_header(self) -> None:
        """Write the header as it is now."""
        packed = self.header.pack()
        self.store.write(0, packed.ljust(min(self.cluster, 4096), b"\0"))

    @property
    def l1(self) -> list[int]:
        """The first-level table."""
        return self._l1

    def use_l1(self, table: list[int]) -> None:
        """Put another first-level table of the same size in place of this."""
        self._l1 = table
        self._l2.clear()
        self.put_table(self.header.l1_offset, table)

    def grow_l1(self, entries: int, *, first: bool = False) -> None:
        """Make the first-level table longer."""
        if entries <= len(self._l1) and not first:
            return
        if entries * 8 > _LARGEST_L1:
            raise QapiError("File too large")
        old_offset, old_size = self.header.l1_offset, len(self._l1)
        clusters = max(1, -(-entries * 8 // self.cluster))
        offset = self.refcounts.allocate(clusters)
        grown = self._l1 + [0] * (entries - old_size)
        self.put_table(offset, grown)
        self.header.l1_offset, self.header.l1_size = offset, entries
        self.write_header()
        self._l1 = grown
        if not first and old_size:
            self.refcounts.change(old_offset, max(1, -(-old_size * 8 // self.cluster)), -1)

    def _l2_table(self, offset: int) -> list[int]:
        found = self._l2.get(offset)
        if found is None:
            if self.extended:
                raise NotModelledError("data in qcow2 images with extended L2 entries")
            found = self._l2[offset] = self.table(offset, self.l2_entries)
        return found

    def forget_tables(self) -> None:
        """Read second-level tables anew from now on."""
        self._l2.clear()

    def entry(self, offset: int) -> int:
        """The second-level entry of the cluster at `offset`; 0 for none."""
        index, slot = divmod(offset >> self.header.cluster_bits, self.l2_entries)
        at = self._l1[index] & _OFFSET if index < len(self._l1) else 0
        return self._l2_table(at)[slot] if at else 0

    def _set_entry(self, offset: int, value: int) -> None:
        index, slot = divmod(offset >> self.header.cluster_bits, self.l2_entries)
        at = self._own_l2(index)
        self._l2_table(at)[slot] = value
        self.store.write(at + slot * 8, struct.pack(">Q", value))

    def _own_l2(self, index: int) -> int:
        """Where the second-level table is, once it is this state's alone."""
        if index >= len(self._l1):
            self.grow_l1(index + 1)
        entry = self._l1[index]
        if entry & _COPIED:
            return entry & _OFFSET
        at = self.refcounts.allocate(1)
        old = entry & _OFFSET
        table = list(self._l2_table(old)) if old else [0] * self.l2_entries
        self.put_table(at, table)
        self._l2[at] = table
        self._l1[index] = at | _COPIED
        self.store.write(self.header.l1_offset + index * 8, struct.pack(">Q", at | _COPIED))
        if old:
            self.refcounts.change(old, 1, -1)
        return at

    # -- data ----------------------------------------------------------------------------------

    def status(self, start: int, end: int) -> Iterator[Range]:
        """What the range is in this image, neighbours of one kind put together."""
        kind, first, at = "", start, start
        while at < end:
            index = at // (self.cluster * self.l2_entries)
            if index >= len(self._l1) or not self._l1[index] & _OFFSET:
                step = (index + 1) * self.cluster * self.l2_entries - at
                now = HOLE
            else:
                step = self.cluster - at % self.cluster
                now = self._kind(self.entry(at))
            if now != kind and at > first:
                yield Range(first, at - first, kind)
                first = at
            kind = now
            at = min(at + step, end)
        if at > first:
            yield Range(first, at - first, kind)

    def _kind(self, entry: int) -> str:
        if entry & _COMPRESSED:
            return DATA
        if entry & _ZERO_FLAG and self.header.version >= 3:
            return ZERO
        return DATA if entry & _OFFSET else HOLE

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
            if entry & _COMPRESSED:
                out += self._inflate(entry)[inside : inside + step]
            else:
                out += self.store.read((entry & _OFFSET) + inside, step)
            offset, count = offset + step, count - step
        return bytes(out)

    def _inflate(self, entry: int) -> bytes:
        if self.header.compression:
            raise NotModelledError("zstd compressed clusters")
        bits = 62 - (self.header.cluster_bits - 8)
        at = entry & (1 << bits) - 1
        sectors = (entry >> bits & (1 << self.header.cluster_bits - 8) - 1) + 1
        data = self.store.read(at, sectors * 512 - at % 512)
        return zlib.decompressobj(-12).decompress(data, self.cluster).ljust(self.cluster, b"\0")

    def write(self, offset: int, data: bytes, fill: Fill) -> None:
        """Write; clusters written in part take the rest from `fill`."""
        position = 0
        while position < len(data):
            at = offset + position
            inside = at % self.cluster
            step = min(self.cluster - inside, len(data) - position)
            self._write_cluster(at - inside, inside, data[position : position + step], fill)
            position += step

    def _write_cluster(self, start: int, inside: int, data: bytes, fill: Fill) -> None:
        entry = self.entry(start)
        kind = self._kind(entry)
        own = entry & _COPIED and kind == DATA and not entry & _COMPRESSED
        if own:
            self.store.write((entry & _OFFSET) + inside, data)
            return
        if len(data) < self.cluster:
            end = min(self.cluster, max(self.header.size - start, 0))
            whole = bytearray(self.read(start, end, fill).ljust(self.cluster, b"\0"))
            whole[inside : inside + len(data)] = data
            data = bytes(whole)
        at = self.refcounts.allocate(1)
        self.store.write(at, data)
        self._set_entry(start, at | _COPIED)
        self._drop(entry)

    def write_compressed(self, offset: int, data: bytes, fill: Fill) -> None:
        """Write whole clusters compressed; what does not get smaller is written as it is."""
        for at in range(0, len(data), self.cluster):
            piece = data[at : at + self.cluster]
            deflate = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -12)
            packed = deflate.compress(piece.ljust(self.cluster, b"\0")) + deflate.flush()
            if len(packed) >= self.cluster:
                self.write(offset + at, piece, fill)
                continue
            old = self.entry(offset + at)
            place = self._room_for(len(packed))
            tail = -(place + len(packed)) % _SECTOR
            self.store.write(place, packed + bytes(tail))
            sectors = (place + len(packed) - 1) // _SECTOR - place // _SECTOR
            shift = 62 - (self.header.cluster_bits - 8)
            self._set_entry(offset + at, place | sectors << shift | _COMPRESSED)
            self._drop(old)

    def _room_for(self, count: int) -> int:
        """Where so many compressed bytes go: behind those before, if the cluster has room."""
        at = self._packed_to
        used = at % self.cluster
        if not used or used + count > self.cluster or not self.refcounts.get(at // self.cluster):
            at = self.refcounts.allocate(1)
        else:
            self.refcounts.change(at - at % self.cluster, 1, 1)
        self._packed_to = at + count
        return at

    def _drop(self, entry: int) -> None:
        """Count down what an entry that is gone led to."""
        if entry & _COMPRESSED:
            bits = 62 - (self.header.cluster_bits - 8)
            at = entry & (1 << bits) - 1
            sectors = (entry >> bits & (1 << self.header.cluster_bits - 8) - 1) + 1
            first = at // self.cluster
            last = (at - at % 512 + sectors * 512 - 1) // self.cluster
            self.refcounts.change(first * self.cluster, last - first + 1, -1)
        elif entry & _OFFSET:
            self.refcounts.change(entry & _OFFSET, 1, -1)

    def zero(self, offset: int, count: int, fill: Fill) -> None:
        """Make a range read as zeros: whole clusters by a flag, the rest by writing."""
        end = offset + count
        while offset < end:
            inside = offset % self.cluster
            step = min(self.cluster - inside, end - offset)
            whole = inside == 0 and (step == self.cluster or offset + step >= self.header.size)
            if not whole or self.header.version < 3:
                self.write(offset, bytes(step), fill)
            elif (entry := self.entry(offset)) != _ZERO_FLAG:
                self._set_entry(offset, _ZERO_FLAG)
                self._drop(entry)
            offset += step

    def discard(self, start: int, end: int) -> None:
        """Forget the clusters of a range."""
        for piece in list(self.status(start, end)):
            if piece.kind == HOLE:
                continue
            for at in range(piece.offset, piece.end, self.cluster):
                entry = self.entry(at)
                self._set_entry(at, 0)
                self._drop(entry)

    def truncate(self, size: int) -> None:
        """Change the guest's size. Raises QapiError."""
        if size % 512:
            raise QapiError("The new size must be a multiple of 512")
        if self.header.snapshot_count and self.header.version < 3:
            raise QapiError("Can't resize a v2 image which has snapshots")
        if size < self.header.size:
            first = -(-size // self.cluster) * self.cluster
            self.discard(first, -(-self.header.size // self.cluster) * self.cluster)
        else:
            with _blaming("Failed to grow the L1 table"):
                self.grow_l1(-(-size // (self.cluster * self.l2_entries)))
        self.header.size = size
        with _blaming("Failed to update the image size"):
            self.write_header()

    def set_backing(self, file: str, format: str) -> None:
        """Write which image lies below. Raises QapiError."""
        if len(c_bytes(file)) > 1023:
            raise QapiError("Backing file name too long")
        self.header.backing_file, self.header.backing_format = file, format
        self.write_header()
