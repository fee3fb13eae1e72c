"""Reading out of a qcow2 image: what its tables say of a range, and the data they lead to.

See block/qcow2-cluster.c: qcow2_get_host_offset() and count_contiguous_subclusters();
block/qcow2.c: qcow2_co_preadv_task().
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fakeqemu.formats.extents import DATA, HOLE, ZERO, BlockIoError, Range
from fakeqemu.formats.qcow2.tables import (
    COMPRESSED,
    COPIED,
    OFFSET,
    ZERO_FLAG,
    CachedTable,
    hex_of,
)
from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from fakeqemu.formats.qcow2.image import Qcow2

Fill = Callable[[int, int], bytes]

#: entries of the first-level table that are looked at together
_GAP = 4096


class Reader:
    """The reading half of one image. Failures are BlockIoErrors."""

    def __init__(self, image: Qcow2) -> None:
        self._image = image

    def status(self, start: int, end: int) -> Iterator[Range]:
        """What the range is in this image: parts of one kind that lie together in the file.

        See block/qcow2-cluster.c: qcow2_get_host_offset() and count_contiguous_subclusters().
        """
        image = self._image
        kind, first, at, next_host = "", start, start, 0
        covered = image.cluster * image.l2_entries
        while at < end:
            index, inside = divmod(at, covered)
            table_at = image.l2_at(index)
            if table_at:
                table = image.l2_table(table_at)
                entry = table.entry(inside // image.cluster)
                now = self._kind(entry, table_at, at)
                host = -1 if entry & COMPRESSED else entry & OFFSET
                row = self._row(table, inside // image.cluster, entry)
                step = row * image.cluster - at % image.cluster
            else:
                step, now, host, entry = self._gap(index) * covered - inside, HOLE, 0, 0
            if (now != kind or host != next_host) and at > first:
                yield Range(first, at - first, kind)
                first = at
            # a compressed cluster stands alone
            row_bytes = step + at % image.cluster
            kind, next_host = now, host + row_bytes if image.leads_to(entry) else 0
            at = min(at + step, end)
        if at > first:
            yield Range(first, at - first, kind)

    def _gap(self, index: int) -> int:
        """How many second-level tables are not there, from number `index` on."""
        piece = self._image.l1[index : index + _GAP].tobytes()
        return max(1, (len(piece) - len(piece.lstrip(b"\0"))) // 8)

    def _row(self, table: CachedTable, slot: int, entry: int) -> int:
        """How many clusters from `slot` on are certainly as the first one, and follow each other.

        Tables mostly lead to nothing, or to a row up to their end; of others, one at a time.
        """
        image = self._image
        if image.external:
            return 1
        most = image.l2_entries - slot
        if not entry:
            return table.zeros(slot * 8, image.l2_entries * 8) // 8
        if entry & ~OFFSET != COPIED or not entry & OFFSET:
            return 1
        if most > 1 and table.entry(slot + most - 1) == entry + (most - 1) * image.cluster:
            row = range(entry, entry + most * image.cluster, image.cluster)
            if table.entries(slot) == tuple(row):
                return most
        return 1

    def _kind(self, entry: int, table_at: int, at: int) -> str:
        """What an entry says its cluster is. Raises BlockIoError for one that cannot be.

        `at`: what offset it is for.
        """
        image = self._image
        index = hex_of(at // image.cluster % image.l2_entries)
        if entry & COMPRESSED:
            if image.external:
                raise image.corrupt(
                    "Compressed cluster entry found in image with external data file"
                    f" (L2 offset: {table_at:#x}, L2 index: {index})"
                )
            return DATA
        if entry & ZERO_FLAG:
            if image.header.version < 3:
                raise image.corrupt(
                    "Zero cluster entry found in pre-v3 image"
                    f" (L2 offset: {table_at:#x}, L2 index: {index})"
                )
            kind = ZERO
        else:
            kind = DATA if image.leads_to(entry) else HOLE
        if (entry & OFFSET) % image.cluster:
            raise image.corrupt(
                f"Cluster allocation offset {entry & OFFSET:#x} unaligned"
                f" (L2 offset: {table_at:#x}, L2 index: {index})"
            )
        guest = at - at % image.cluster
        if image.external and image.leads_to(entry) and entry & OFFSET != guest:
            raise image.corrupt(
                f"External data file host cluster offset {hex_of(entry & OFFSET)} does not match"
                f" guest cluster offset: {hex_of(guest)}, L2 index: {index})"
            )
        return kind

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
        image = self._image
        entry = image.entry(offset)
        if not entry & COMPRESSED:
            # what is one part lies together in the file
            return image.data.read((entry & OFFSET) + offset % image.cluster, count)
        out = bytearray()
        while count:
            inside = offset % image.cluster
            step = min(image.cluster - inside, count)
            out += self._inflate(image.entry(offset))[inside : inside + step]
            offset, count = offset + step, count - step
        return bytes(out)

    def _inflate(self, entry: int) -> bytes:
        image = self._image
        if image.header.compression:
            raise NotModelledError("zstd compressed clusters")
        image.event("read_compressed")
        data = image.store.read(*image.packed_place(entry))
        try:
            found = zlib.decompressobj(-12).decompress(data, image.cluster)
        except zlib.error:
            raise BlockIoError from None
        if len(found) < image.cluster:
            raise BlockIoError
        return found
