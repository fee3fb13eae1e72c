"""The directory of dirty bitmaps in a qcow2 image, and the tables that it leads to.

See block/qcow2-bitmap.c: bitmap_list_load(), update_header_sync() and bitmap_table_load().
"""

from __future__ import annotations

import errno
import struct
from array import array
from collections.abc import Iterator
from typing import Any

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.qcow2.header import BITMAPS
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.refcount.refcounts import failure
from fakeqemu.formats.qcow2.tables import OFFSET
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

_FIXED = struct.Struct(">QIIBBHI")
IN_USE, AUTO = 1, 2
_FLAG_NAMES = {IN_USE: "in-use", AUTO: "auto"}
_DIRTY_TYPE = 1
_ALL_ONES = 1
_RESERVED = 0xFF000000000001FE
#: limits (block/qcow2-bitmap.c): entries in a table, bytes of data, bits of a granularity, name
_LARGEST_TABLE, _LARGEST_DATA = 0x8000000, 0x20000000
_GRANULARITIES = 9, 31
_LONGEST_NAME = 1023


@dataclass
class BitmapEntry:
    """One bitmap in the directory."""

    table_offset: int
    table_size: int
    flags: int
    granularity_bits: int
    name: str

    def info(self) -> dict[str, Any]:
        """Qcow2BitmapInfo. See block/qcow2-bitmap.c: get_bitmap_info_flags()."""
        flags = [name for flag, name in _FLAG_NAMES.items() if self.flags & flag]
        return {"name": self.name, "granularity": 1 << self.granularity_bits, "flags": flags}


def read_directory(image: Qcow2) -> list[BitmapEntry]:
    """The directory. Raises QapiError. See block/qcow2-bitmap.c: bitmap_list_load()."""
    where = image.directory
    if where is None:
        return []
    number, size, at = where
    if size == 0:
        raise QapiError("Requested bitmap directory size is zero")
    try:
        data = image.store.read(at, size)
    except BlockIoError as error:
        raise error.prefixed("Failed to read bitmap directory: ") from None
    found: list[BitmapEntry] = []
    here = 0
    while here < size:
        if here + _FIXED.size > size:
            raise QapiError("Broken bitmap directory")
        if len(found) >= number:
            raise QapiError("More bitmaps found than specified in header extension")
        offset, entries, flags, kind, bits, name_length, extra = _FIXED.unpack_from(data, here)
        begin = here + _FIXED.size
        here += -(-(_FIXED.size + extra + name_length) // 8) * 8
        if here > size:
            raise QapiError("Broken bitmap directory")
        if extra:
            raise QapiError("Bitmap extra data is not supported")
        name = data[begin : begin + name_length].split(b"\0", 1)[0]
        entry = BitmapEntry(offset, entries, flags, bits, name.decode(errors="surrogateescape"))
        if name_length > _LONGEST_NAME or kind != _DIRTY_TYPE or not _possible(image, entry):
            raise QapiError(f"Bitmap '{entry.name}' doesn't satisfy the constraints")
        found.append(entry)
    if len(found) != number:
        raise QapiError("Less bitmaps found than specified in header extension")
    return found


def _possible(image: Qcow2, entry: BitmapEntry) -> bool:
    """Whether an entry's numbers can be: check_dir_entry()."""
    if not 0 < entry.table_size <= _LARGEST_TABLE or not entry.table_offset:
        return False
    if entry.table_offset % image.cluster or entry.flags & ~(IN_USE | AUTO):
        return False
    if not _GRANULARITIES[0] <= entry.granularity_bits <= _GRANULARITIES[1]:
        return False
    room = entry.table_size * image.cluster
    if room > _LARGEST_DATA:
        return False
    covered = room * 8 << entry.granularity_bits
    return bool(entry.flags & IN_USE) or image.header.size <= covered


def used_ranges(image: Qcow2) -> Iterator[tuple[int, int]]:
    """Offset and bytes of all that bitmaps take in an image. Raises QapiError."""
    if image.directory is None:
        return
    yield image.directory[2], image.directory[1]
    for entry in read_directory(image):
        yield entry.table_offset, entry.table_size * 8
        for value in filter(None, read_table(image, entry)):
            if value & OFFSET:
                yield value & OFFSET, image.cluster


def mark_in_use(image: Qcow2, entries: list[BitmapEntry]) -> None:
    """Say in the directory that what it leads to is old: update_ext_header_and_dir_in_place().

    The image says that it has no bitmaps while the directory is written.
    """
    assert image.directory is not None
    _, size, at = image.directory
    image.header.autoclear &= ~BITMAPS
    image.write_header()
    data = b"".join(packed(entry, entry.flags | IN_USE) for entry in entries)
    if size != len(data) or not at:
        raise failure(errno.EINVAL)
    image.check_write(at, size, ignore="bitmap-directory")
    image.store.write(at, data)
    image.write_header()
    image.header.autoclear |= BITMAPS
    image.write_header()


def packed(entry: BitmapEntry, flags: int) -> bytes:
    """An entry as it stands in the directory, with these flags."""
    name = c_bytes(entry.name)
    data = _FIXED.pack(
        entry.table_offset, entry.table_size, flags, _DIRTY_TYPE, entry.granularity_bits,
        len(name), 0,
    )  # fmt: skip
    data += name
    return data.ljust(-(-len(data) // 8) * 8, b"\0")


def read_table(image: Qcow2, entry: BitmapEntry) -> array[int]:
    """Where a bitmap's bits are. Raises BlockIoError. See bitmap_table_load()."""
    table = image.read_table(entry.table_offset, entry.table_size)
    for value in filter(None, table):
        at = value & OFFSET
        if value & _RESERVED or (at and (value & _ALL_ONES or at % image.cluster)):
            raise failure(errno.EINVAL)
    return table


def free_bitmap(image: Qcow2, entry: BitmapEntry) -> None:
    """Give back what a bitmap takes."""
    try:
        table = read_table(image, entry)
    except BlockIoError:
        return  # nobody can tell what it holds
    for value in table:
        if value & OFFSET:
            image.refcounts.free(value & OFFSET, image.cluster, "always")
    image.refcounts.free(entry.table_offset, entry.table_size * 8, "other")
