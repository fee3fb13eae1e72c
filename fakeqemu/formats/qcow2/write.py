"""Writing into a qcow2 image: which clusters a request goes to, and how tables follow.

The steps are those of block/qcow2-cluster.c: clusters that are used once are written in place,
as many as lie in a row; others are allocated, in a row with them where that can be; what a
request leaves of a cluster is copied; tables are changed last.
"""

from __future__ import annotations

import errno
import struct
import zlib
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.qcow2.header import LARGEST_L1
from fakeqemu.formats.qcow2.refcounts import failure
from fakeqemu.formats.qcow2.tables import COMPRESSED, COPIED, OFFSET, ZERO_FLAG, CachedTable

if TYPE_CHECKING:
    from fakeqemu.formats.qcow2.image import Qcow2

Fill = Callable[[int, int], bytes]

_SECTOR = 512
_INT_MAX = (1 << 31) - 1
#: where the header has the first-level table's size and offset
_L1_FIELDS = 36


@dataclass(slots=True)
class _Link:
    """Clusters in a row that tables have to lead to once their data is written."""

    #: offset of the first in the guest's view, and in the file
    guest: int
    host: int
    clusters: int
    #: whether the tables lead there already
    kept: bool
    #: the part of them that the request writes
    start: int
    end: int


class Writer:
    """The writing half of one image. Failures are BlockIoErrors."""

    def __init__(self, image: Qcow2) -> None:
        self._image = image

    # -- tables --------------------------------------------------------------------------------

    def grow_l1(self, entries: int, *, exact: bool = False) -> None:
        """Make the first-level table longer: qcow2_grow_l1_table()."""
        image = self._image
        size = len(image.l1)
        if entries <= size:
            return
        if entries > _INT_MAX // 8:
            raise failure(errno.EFBIG)
        if not exact:
            size = size or 1
            while entries > size:
                size = -(-size * 3 // 2)
            entries = size
        if entries > LARGEST_L1 // 8:
            raise failure(errno.EFBIG)
        table = image.l1 + array("Q", [0]) * (entries - len(image.l1))
        length = entries * 8
        at = image.refcounts.allocate(length)
        try:
            image.refcounts.cache.flush()
            image.check_write(at, length)
            image.write_table(at, table)
            image.store.write(_L1_FIELDS, struct.pack(">IQ", entries, at))
        except BlockIoError:
            image.refcounts.free(at, length, "other")
            raise
        old_at, old_size = image.header.l1_offset, len(image.l1)
        image.use_l1(table)
        image.header.l1_offset, image.header.l1_size = at, entries
        image.refcounts.free(old_at, old_size * 8, "other")

    def write_l1_entry(self, index: int) -> None:
        """Write an entry of the first-level table as it is in memory."""
        image = self._image
        at = image.header.l1_offset + index * 8
        image.check_write(at, 8, ignore="active-l1")
        image.store.write(at, struct.pack(">Q", image.l1[index]))

    def _own_l2(self, index: int) -> int:
        """Where second-level table `index` is, once it is this state's alone."""
        image = self._image
        if index >= len(image.l1):
            self.grow_l1(index + 1)
        old = image.l2_at(index)
        if image.l1[index] & COPIED:
            return old
        before = image.l1[index]
        at = image.refcounts.allocate(image.cluster)
        try:
            if at == 0:
                raise image.corrupt("Preventing invalid allocation of L2 table at offset 0")
            image.refcounts.cache.flush()
            data = bytes(image.l2_table(old).data) if old else bytes(image.cluster)
            table = image.l2_cache.get(at, empty=True)
            table.data[:] = data
            table.dirty = True
            image.l2_cache.flush()
            image.set_l1(index, at | COPIED)
            self.write_l1_entry(index)
        except BlockIoError:
            image.set_l1(index, before)
            if at:
                image.refcounts.free(at, image.cluster, "always")
            raise
        if old:
            image.refcounts.free(old, image.cluster, "other")
        return at

    def table_for(self, offset: int) -> tuple[CachedTable, int]:
        """The table, made our own, that has the entry of the cluster at `offset`; and its slot."""
        image = self._image
        index, slot = divmod(offset >> image.header.cluster_bits, image.l2_entries)
        at = self._own_l2(index)
        if not at:
            # an entry that says it is used once and leads nowhere: QEMU asserts
            raise BlockIoError
        return image.l2_table(at), slot

    # -- requests ------------------------------------------------------------------------------

    def write(self, offset: int, data: bytes, fill: Fill) -> None:
        """Write; clusters written in part take the rest from `fill`."""
        image, done = self._image, 0
        while done < len(data):
            links: list[_Link] = []
            try:
                host, count = self._allocate(offset + done, len(data) - done, links)
                image.check_write(host, count)
            except BlockIoError:
                self._abort(links)
                raise
            try:
                self._copy_rest(links, fill)
                image.store.write(host, data[done : done + count])
                while links:
                    self._link(links[-1])
                    links.pop()
            except BlockIoError:
                self._abort(links)
                raise
            done += count

    def allocate_all(self, size: int) -> int:
        """Take clusters for everything up to `size`; where the last ends in the file.

        See block/qcow2.c: preallocate_co(). Raises QapiError.
        """
        done = end = 0
        while done < size:
            links: list[_Link] = []
            try:
                step = "Allocating clusters failed"
                host, count = self._allocate(done, min(size - done, _INT_MAX), links)
                step = "Mapping clusters failed"
                self._copy_rest(links, lambda _at, length: bytes(length))
                while links:
                    self._link(links[-1])
                    links.pop()
            except BlockIoError as error:
                self._abort(links)
                raise error.prefixed(f"{step}: ") from None
            done, end = done + count, host + count
        return end

    def _abort(self, links: list[_Link]) -> None:
        for link in links:
            if not link.kept:
                size = link.clusters * self._image.cluster
                self._image.refcounts.free(link.host, size, "never")

    def _allocate(self, offset: int, count: int, links: list[_Link]) -> tuple[int, int]:
        """Where the first bytes of a request go, and how many of them: qcow2_alloc_host_offset().

        What tables have to learn of it is put into `links`, also where this fails.
        """
        first: int | None = None
        expected: int | None = None
        done = 0
        while done < count:
            got = self._in_place(offset + done, count - done, expected, links)
            if got is None:
                got = self._anew(offset + done, count - done, expected, links)
            host, step = got
            if not step:
                break
            if first is None:
                first = host
            done += step
            expected = host + step
        assert first is not None
        return first, done

    def _in_place(
        self, guest: int, count: int, expected: int | None, links: list[_Link]
    ) -> tuple[int, int] | None:
        """Use clusters that are this state's alone; None where there are none: handle_copied()."""
        image = self._image
        table, slot = self.table_for(guest)
        entry = table.entry(slot)
        at, inside = entry & OFFSET, guest % image.cluster
        if self._needs_new(entry):
            return None
        if at % image.cluster:
            what = "Preallocated zero" if entry & ZERO_FLAG else "Data"
            raise image.corrupt(
                f"{what} cluster offset {at:#x} unaligned (guest offset: {_hex(guest)})"
            )
        if expected is not None and at + inside != expected:
            return 0, 0
        wanted = -(-(inside + count) // image.cluster)
        clusters, zeros = 0, False
        for each in range(slot, min(slot + wanted, image.l2_entries)):
            entry = table.entry(each)
            if self._needs_new(entry) or entry & OFFSET != at + clusters * image.cluster:
                break
            zeros = zeros or bool(entry & ZERO_FLAG)
            clusters += 1
        step = min(count, clusters * image.cluster - inside)
        if zeros:
            links.append(_Link(guest - inside, at, clusters, True, inside, inside + step))
        return at + inside, step

    @staticmethod
    def _needs_new(entry: int) -> bool:
        return not (entry & COPIED and entry & OFFSET) or bool(entry & COMPRESSED)

    def _anew(
        self, guest: int, count: int, expected: int | None, links: list[_Link]
    ) -> tuple[int, int]:
        """Allocate clusters, in a row with those before: handle_alloc()."""
        image = self._image
        table, slot = self.table_for(guest)
        inside = guest % image.cluster
        wanted = min(-(-(inside + count) // image.cluster), image.l2_entries - slot)
        clusters = 0
        while clusters < wanted and self._needs_new(table.entry(slot + clusters)):
            clusters += 1
        if expected is None:
            at = image.refcounts.allocate(clusters * image.cluster)
        else:
            at = expected - expected % image.cluster
            clusters = image.refcounts.allocate_at(at, clusters)
            if not clusters:
                return 0, 0
        step = min(count, clusters * image.cluster - inside)
        links.append(_Link(guest - inside, at, clusters, False, inside, inside + step))
        return at + inside, step

    def _copy_rest(self, links: list[_Link], fill: Fill) -> None:
        """Copy what a request leaves of the clusters it goes to."""
        image = self._image
        for link in links:
            last = -(-link.end // image.cluster) * image.cluster
            for start, end in ((0, link.start), (link.end, last)):
                if start == end:
                    continue
                data = self._old_data(link.guest + start, end - start, fill)
                image.check_write(link.host + start, len(data))
                image.store.write(link.host + start, data)

    def _old_data(self, offset: int, count: int, fill: Fill) -> bytes:
        """What is there now; zeros beyond the guest's end."""
        inside = max(0, min(count, self._image.header.size - offset))
        data = self._image.read(offset, inside, fill) if inside else b""
        return data + bytes(count - len(data))

    def _link(self, link: _Link) -> None:
        """Let tables lead to what was written, and count down what they led to."""
        image = self._image
        if image.lazy:
            image.mark_dirty()
        else:
            image.l2_cache.needs_first(image.refcounts.cache)
        table, slot = self.table_for(link.guest)
        old = []
        for number in range(link.clusters):
            old.append(table.entry(slot + number))
            table.put(slot + number, link.host + number * image.cluster | COPIED)
        if not link.kept:
            for entry in filter(None, old):
                self.drop(entry, "never")

    def write_compressed(self, offset: int, data: bytes, fill: Fill) -> None:
        """Write whole clusters compressed; what does not get smaller is written as it is."""
        image = self._image
        for at in range(0, len(data), image.cluster):
            piece = data[at : at + image.cluster]
            deflate = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -12)
            packed = deflate.compress(piece.ljust(image.cluster, b"\0")) + deflate.flush()
            if len(packed) >= image.cluster:
                self.write(offset + at, piece, fill)
                continue
            table, slot = self.table_for(offset + at)
            if table.entry(slot) & OFFSET:
                raise BlockIoError  # compressed clusters replace nothing
            place = image.refcounts.allocate_bytes(len(packed))
            sectors = (place + len(packed) - 1) // _SECTOR - place // _SECTOR
            table.put(slot, place | sectors << image.packed_shift | COMPRESSED)
            image.check_write(place, len(packed))
            image.store.write(place, packed + bytes(-(place + len(packed)) % _SECTOR))

    def drop(self, entry: int, kind: str) -> None:
        """Count down what an entry that is gone led to: qcow2_free_any_cluster()."""
        image = self._image
        if entry & COMPRESSED:
            image.refcounts.free(*image.packed_place(entry), kind)
        elif at := entry & OFFSET:
            if at % image.cluster:
                image.corrupt(f"Cannot free unaligned cluster {at:#x}", fatal=False)
            else:
                image.refcounts.free(at, image.cluster, kind)

    def zero(self, offset: int, count: int, fill: Fill) -> None:
        """Make a range read as zeros: whole clusters by a flag, the rest by writing."""
        image = self._image
        end = offset + count
        while offset < end:
            inside = offset % image.cluster
            step = min(image.cluster - inside, end - offset)
            whole = inside == 0 and (step == image.cluster or offset + step >= image.header.size)
            if not whole or image.header.version < 3:
                self.write(offset, bytes(step), fill)
            else:
                table, slot = self.table_for(offset)
                entry = table.entry(slot)
                keep = image.keep_references and not entry & COMPRESSED
                wanted = entry | ZERO_FLAG if keep else ZERO_FLAG
                if entry != wanted:
                    table.put(slot, wanted)
                    if not keep:
                        self.drop(entry, "request")
            offset += step

    def discard(self, start: int, end: int) -> None:
        """Forget the clusters of a range."""
        image = self._image
        covered = image.cluster * image.l2_entries
        at = start
        while at < end:
            index, inside = divmod(at, covered)
            if index >= len(image.l1) or not image.l2_at(index):
                at = (index + 1) * covered
                continue
            table, slot = self.table_for(at)
            if entry := table.entry(slot):
                table.put(slot, 0)
                self.drop(entry, "request")
            at += image.cluster - inside % image.cluster


def _hex(number: int) -> str:
    return f"{number:#x}" if number else "0"
