"""Writing into a qcow2 image: which clusters a request goes to, and how tables follow.

The steps are those of block/qcow2-cluster.c: clusters that are used once are written in place,
as many as lie in a row; others are allocated, in a row with them where that can be; what a
request leaves of a cluster is copied; tables are changed last.
"""

from __future__ import annotations

import contextlib
import errno
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.qcow2.allocation import Allocator, L2Meta
from fakeqemu.formats.qcow2.header import LARGEST_L1
from fakeqemu.formats.qcow2.refcount.refcounts import failure
from fakeqemu.formats.qcow2.tables import COMPRESSED, COPIED, OFFSET, ZERO_FLAG, CachedTable
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.formats.qcow2.image import Qcow2

Fill = Callable[[int, int], bytes]

_SECTOR = 512
_INT_MAX = (1 << 31) - 1
#: where the header has the first-level table's size and offset
_L1_FIELDS = 36


@contextlib.contextmanager
def blaming(step: str) -> Iterator[None]:
    """Say in which step of qcow2_co_create() or qcow2_co_truncate() something went wrong."""
    try:
        yield
    except QapiError as error:
        raise error.prefixed(f"{step}: ") from None


class Writer:
    """The writing half of one image. Failures are BlockIoErrors."""

    def __init__(self, image: Qcow2) -> None:
        self._image = image
        self._allocator = Allocator(image)

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
        image.event("l1_grow_alloc_table")
        at = image.refcounts.allocate(length)
        try:
            image.refcounts.cache.flush()
            image.check_write(at, length)
            image.event("l1_grow_write_table")
            image.write_table(at, table)
            image.event("l1_grow_activate_table")
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
        image.event("l1_update")
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
            if old:
                image.event("l2_alloc_cow_read")
            data = bytes(image.l2_table(old).data) if old else bytes(image.cluster)
            table = image.l2_cache.get(at, empty=True)
            table.data[:] = data
            table.dirty = True
            image.event("l2_alloc_write")
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

    def resize(self, size: int) -> None:
        """Change the guest's size: qcow2_co_truncate(). Raises QapiError."""
        image = self._image
        if size % 512:
            raise QapiError("The new size must be a multiple of 512")
        if image.snapshots and image.header.version < 3:
            raise QapiError("Can't resize a v2 image which has snapshots")
        if size < image.header.size:
            first = -(-size // image.cluster) * image.cluster
            image.discard(first, -(-image.header.size // image.cluster) * image.cluster)
        else:
            with blaming("Failed to grow the L1 table"):
                self.grow_l1(-(-size // (image.cluster * image.l2_entries)), exact=True)
            if image.external_raw:
                self.allocate_all(image.header.size, size)
            elif image.external:
                image.data.truncate(size)
        image.header.size = size
        with blaming("Failed to update the image size"):
            image.write_header()
        image.settle()

    # -- requests ------------------------------------------------------------------------------

    def write(self, offset: int, data: bytes, fill: Fill) -> None:
        """Write; clusters written in part take the rest from `fill`."""
        image, done = self._image, 0
        while done < len(data):
            links: list[L2Meta] = []
            try:
                host, count = self._allocator.allocate(offset + done, len(data) - done, links)
                self._check_data(host, count)
            except BlockIoError:
                self._abort(links)
                raise
            try:
                self._copy_rest(links, fill)
                image.data.write(host, data[done : done + count])
                while links:
                    self._link(links[-1])
                    links.pop()
            except BlockIoError:
                self._abort(links)
                raise
            done += count

    def _check_data(self, host: int, count: int) -> None:
        """A data file has no metadata that a write could hit."""
        if not self._image.external:
            self._image.check_write(host, count)

    def allocate_all(self, start: int, size: int, mode: str = "off") -> None:
        """Take clusters for everything from `start` to `size`; the file reaches to the last.

        `mode`: a PreallocMode for what it lacks. See block/qcow2.c: preallocate_co(). Raises
        QapiError.
        """
        done, end = start, 0
        while done < size:
            links: list[L2Meta] = []
            try:
                step = "Allocating clusters failed"
                host, count = self._allocator.allocate(done, min(size - done, _INT_MAX), links)
                step = "Mapping clusters failed"
                self._copy_rest(links, lambda _at, length: bytes(length))
                while links:
                    self._link(links[-1])
                    links.pop()
            except BlockIoError as error:
                self._abort(links)
                raise error.prefixed(f"{step}: ") from None
            done, end = done + count, host + count
        if end > self._image.data.size():
            self._image.data.truncate(end, mode)

    def _abort(self, links: list[L2Meta]) -> None:
        for link in links:
            if not link.kept and not self._image.external:
                size = link.clusters * self._image.cluster
                self._image.refcounts.free(link.host, size, "never")

    def _copy_rest(self, links: list[L2Meta], fill: Fill) -> None:
        """Copy what a request leaves of the clusters it goes to."""
        image = self._image
        for link in links:
            last = -(-link.end // image.cluster) * image.cluster
            for start, end in ((0, link.start), (link.end, last)):
                if start == end:
                    continue
                image.event("cow_read")
                data = self._old_data(link.guest + start, end - start, fill)
                self._check_data(link.host + start, len(data))
                image.event("cow_write")
                image.data.write(link.host + start, data)

    def _old_data(self, offset: int, count: int, fill: Fill) -> bytes:
        """What is there now; zeros beyond the guest's end."""
        inside = max(0, min(count, self._image.header.size - offset))
        data = self._image.read(offset, inside, fill) if inside else b""
        return data + bytes(count - len(data))

    def _link(self, link: L2Meta) -> None:
        """Let tables lead to what was written, and count down what they led to."""
        image = self._image
        if image.lazy:
            image.mark_dirty()
        else:
            image.l2_cache.needs_first(image.refcounts.cache)
        table, slot = self.table_for(link.guest)
        old = table.entries(slot, slot + link.clusters)
        first = link.host | COPIED
        table.put_row(slot, range(first, first + link.clusters * image.cluster, image.cluster))
        if not link.kept:
            for entry in filter(None, old):
                self.drop(entry, "never")

    def write_compressed(self, offset: int, data: bytes, fill: Fill) -> None:
        """Write whole clusters compressed; what does not get smaller is written as it is."""
        image = self._image
        if image.external:
            raise failure(errno.ENOTSUP)
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
            image.event("l2_update_compressed")
            table.put(slot, place | sectors << image.packed_shift | COMPRESSED)
            image.check_write(place, len(packed))
            image.event("write_compressed")
            image.store.write(place, packed + bytes(-(place + len(packed)) % _SECTOR))

    def drop(self, entry: int, kind: str) -> None:
        """Count down what an entry that is gone led to: qcow2_free_any_cluster()."""
        image = self._image
        if image.external:
            if kind in image.discards and image.leads_to(entry):
                image.data.zero(entry & OFFSET, image.cluster)
        elif entry & COMPRESSED:
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
        if image.external_raw:
            image.data.zero(offset, count)
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
