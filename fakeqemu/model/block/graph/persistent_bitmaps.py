"""Persistent dirty bitmaps in a qcow2 image: read when it is opened, written when it is closed."""

from __future__ import annotations

import errno
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.intervals import Intervals
from fakeqemu.formats.qcow2.header import BITMAPS, EXT_BITMAPS
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.refcounts import failure
from fakeqemu.model.block.graph.dirty_bitmaps import Bitmap, find_on
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node

_FIXED = struct.Struct(">QIIBBHI")
_IN_USE, _AUTO = 1, 2
_DIRTY_TYPE = 1
_OFFSET = 0x00FFFFFFFFFFFE00
_ALL_ONES = 1
_RESERVED = 0xFF000000000001FE
#: limits (block/qcow2-bitmap.c): entries in a table, bytes of data, bits of a granularity, name
_LARGEST_TABLE, _LARGEST_DATA = 0x8000000, 0x20000000
_GRANULARITIES = 9, 31
_LONGEST_NAME = 1023
#: intervals of one bitmap that we keep: a small image can say that every other one of four
#: thousand million bits is dirty, and costs QEMU a bit each, but us two numbers
_MOST_INTERVALS = 1 << 22


@dataclass
class _Entry:
    table_offset: int
    table_size: int
    flags: int
    granularity_bits: int
    name: str


def _entries(image: Qcow2) -> list[_Entry]:
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
    found: list[_Entry] = []
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
        entry = _Entry(offset, entries, flags, bits, name.decode(errors="surrogateescape"))
        if name_length > _LONGEST_NAME or kind != _DIRTY_TYPE or not _possible(image, entry):
            raise QapiError(f"Bitmap '{entry.name}' doesn't satisfy the constraints")
        found.append(entry)
    if len(found) != number:
        raise QapiError("Less bitmaps found than specified in header extension")
    return found


def _possible(image: Qcow2, entry: _Entry) -> bool:
    """Whether an entry's numbers can be: check_dir_entry()."""
    if not 0 < entry.table_size <= _LARGEST_TABLE or not entry.table_offset:
        return False
    if entry.table_offset % image.cluster or entry.flags & ~(_IN_USE | _AUTO):
        return False
    if not _GRANULARITIES[0] <= entry.granularity_bits <= _GRANULARITIES[1]:
        return False
    room = entry.table_size * image.cluster
    if room > _LARGEST_DATA:
        return False
    covered = room * 8 << entry.granularity_bits
    return bool(entry.flags & _IN_USE) or image.header.size <= covered


def used_ranges(image: Qcow2) -> Iterator[tuple[int, int]]:
    """Offset and bytes of all that bitmaps take in an image. Raises QapiError."""
    if image.directory is None:
        return
    yield image.directory[2], image.directory[1]
    for entry in _entries(image):
        yield entry.table_offset, entry.table_size * 8
        for value in filter(None, _table(image, entry)):
            if value & _OFFSET:
                yield value & _OFFSET, image.cluster


def load_bitmaps(node: Node, image: Qcow2) -> None:
    """Make the image's bitmaps the node's, and mark them as in use if it will be written.

    Raises QapiError; the node has none of them then.
    """
    entries = _entries(image)
    made: list[Bitmap] = []
    update = False
    for entry in entries:
        if find_on(node, entry.name) is not None:
            if entry.flags & _IN_USE:
                continue  # it has come by migration, and is newer
            raise QapiError(f"Bitmap already exists: {entry.name}")
        bitmap = Bitmap(node, entry.name, 1 << entry.granularity_bits, image.header.size)
        bitmap.persistent = bitmap.stored = True
        bitmap.enabled = bool(entry.flags & _AUTO)
        bitmap.read_only = node.read_only
        bitmap.inconsistent = bool(entry.flags & _IN_USE)
        if bitmap.inconsistent:
            bitmap.enabled = False
        else:
            update = True
            try:
                _read_bits(image, entry, bitmap)
            except QapiError:
                node.bitmaps[:] = [each for each in node.bitmaps if each not in made]
                raise
        node.bitmaps.append(bitmap)
        made.append(bitmap)
    if update and not node.read_only and not node.inactive:
        try:
            _mark_in_use(image, entries)
        except BlockIoError as error:
            node.bitmaps[:] = [each for each in node.bitmaps if each not in made]
            raise error.prefixed("Can't update bitmap directory: ") from None


def _mark_in_use(image: Qcow2, entries: list[_Entry]) -> None:
    """Say in the directory that what it leads to is old: update_ext_header_and_dir_in_place().

    The image says that it has no bitmaps while the directory is written.
    """
    assert image.directory is not None
    _, size, at = image.directory
    image.header.autoclear &= ~BITMAPS
    image.write_header()
    data = b"".join(_packed(entry, entry.flags | _IN_USE) for entry in entries)
    if size != len(data) or not at:
        raise failure(errno.EINVAL)
    image.check_write(at, size, ignore="bitmap-directory")
    image.store.write(at, data)
    image.write_header()
    image.header.autoclear |= BITMAPS
    image.write_header()


def _packed(entry: _Entry, flags: int) -> bytes:
    name = c_bytes(entry.name)
    data = _FIXED.pack(
        entry.table_offset, entry.table_size, flags, _DIRTY_TYPE, entry.granularity_bits,
        len(name), 0,
    )  # fmt: skip
    data += name
    return data.ljust(-(-len(data) // 8) * 8, b"\0")


def _table(image: Qcow2, entry: _Entry) -> array[int]:
    """Where a bitmap's bits are. Raises BlockIoError. See bitmap_table_load()."""
    table = image.read_table(entry.table_offset, entry.table_size)
    for value in filter(None, table):
        at = value & _OFFSET
        if value & _RESERVED or (at and (value & _ALL_ONES or at % image.cluster)):
            raise failure(errno.EINVAL)
    return table


def _read_bits(image: Qcow2, entry: _Entry, bitmap: Bitmap) -> None:
    try:
        table = _table(image, entry)
    except BlockIoError as error:
        start = f"Could not read bitmap_table table from image for bitmap '{entry.name}': "
        raise error.prefixed(start) from None
    covered = image.cluster * 8
    total = -(-image.header.size >> entry.granularity_bits)
    grains = Intervals()
    try:
        # bits are stored by the 64, so that a table may have room for more than there are
        if len(table) != -(-(-(-total // 64) * 8) // image.cluster):
            raise failure(errno.EINVAL)
        for index, value in enumerate(table):
            at = value & _OFFSET
            if not value:
                continue
            first = index * covered
            if at:
                grains.append_bits(first, image.store.read(at, image.cluster))
            else:
                grains.add(first, min(first + covered, total))
            if grains.pieces > _MOST_INTERVALS:
                raise NotModelledError(f"bitmaps with more than {_MOST_INTERVALS} dirty parts")
    except BlockIoError as error:
        raise error.prefixed(f"Could not read bitmap '{entry.name}' from image: ") from None
    bitmap.restore(grains)
    bitmap.resize(bitmap.size)


def store_bitmaps(node: Node, image: Qcow2) -> None:
    """Write the node's persistent bitmaps in place of those the image holds."""
    kept = [b for b in node.bitmaps if b.persistent and b.name and not b.skip_store]
    old = _entries(image)
    if not kept and not old:
        return
    for entry in old:
        _free(image, entry)
    where = image.directory
    if where is not None:
        image.refcounts.free(where[2], where[1], "other")
    directory = b""
    for bitmap in reversed(kept):
        assert bitmap.name is not None
        offset, size = _write_bits(image, bitmap)
        flags = (_AUTO if bitmap.enabled else 0) | (_IN_USE if bitmap.inconsistent else 0)
        bits = bitmap.granularity.bit_length() - 1
        directory += _packed(_Entry(offset, size, flags, bits, bitmap.name), flags)
    others = [e for e in image.header.extensions if e[0] != EXT_BITMAPS]
    image.header.autoclear &= ~BITMAPS
    if kept:
        offset = image.refcounts.allocate(len(directory))
        image.check_write(offset, len(directory))
        image.store.write(offset, directory)
        data = struct.pack(">IIQQ", len(kept), 0, len(directory), offset)
        others.append((EXT_BITMAPS, data))
        image.header.autoclear |= BITMAPS
    image.header.extensions = others
    image.write_header()


def _free(image: Qcow2, entry: _Entry) -> None:
    try:
        table = _table(image, entry)
    except BlockIoError:
        return  # nobody can tell what it holds
    for value in table:
        if value & _OFFSET:
            image.refcounts.free(value & _OFFSET, image.cluster, "always")
    image.refcounts.free(entry.table_offset, entry.table_size * 8, "other")


def _write_bits(image: Qcow2, bitmap: Bitmap) -> tuple[int, int]:
    """Offset and size of the bitmap's table."""
    covered = image.cluster * 8
    grains = -(-bitmap.size // bitmap.granularity)
    table = array("Q", [0]) * -(-grains // covered)
    dirty = bitmap.copy_bits()
    for index in dirty.units(covered):
        table[index] = image.refcounts.allocate(image.cluster)
        image.check_write(table[index], image.cluster)
        image.store.write(table[index], dirty.to_bits(index * covered, image.cluster))
    offset = image.refcounts.allocate(max(1, len(table) * 8))
    image.check_write(offset, len(table) * 8)
    image.write_table(offset, table)
    return offset, len(table)
