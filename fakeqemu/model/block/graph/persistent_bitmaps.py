"""Persistent dirty bitmaps in a qcow2 image: read when it is opened, written when it is closed.

See block/qcow2-bitmap.c: qcow2_load_dirty_bitmaps(), qcow2_store_persistent_dirty_bitmaps() and
bitmap_list_load().
"""

from __future__ import annotations

import errno
import struct
from array import array
from typing import TYPE_CHECKING

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.intervals import Intervals, runs_of_bits
from fakeqemu.formats.qcow2.bitmap_directory import (
    AUTO,
    IN_USE,
    BitmapEntry,
    free_bitmap,
    mark_in_use,
    packed,
    read_directory,
    read_table,
)
from fakeqemu.formats.qcow2.header import BITMAPS, EXT_BITMAPS
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.refcount.refcounts import failure
from fakeqemu.formats.qcow2.tables import OFFSET
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.dirty_bitmaps import find_on
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node

#: intervals of one bitmap that we keep: a small image can say that every other one of four
#: thousand million bits is dirty, and costs QEMU a bit each, but us two numbers
_MOST_INTERVALS = 1 << 22


def load_bitmaps(node: Node, image: Qcow2) -> None:
    """Make the image's bitmaps the node's, and mark them as in use if it will be written.

    Raises QapiError; the node has none of them then.
    """
    entries = read_directory(image)
    made: list[Bitmap] = []
    update = False
    for entry in entries:
        if find_on(node, entry.name) is not None:
            if entry.flags & IN_USE:
                continue  # it has come by migration, and is newer
            raise QapiError(f"Bitmap already exists: {entry.name}")
        bitmap = Bitmap(node, entry.name, 1 << entry.granularity_bits, image.header.size)
        bitmap.persistent = bitmap.stored = True
        bitmap.enabled = bool(entry.flags & AUTO)
        bitmap.read_only = node.read_only
        bitmap.inconsistent = bool(entry.flags & IN_USE)
        if bitmap.inconsistent:
            bitmap.enabled = False
        else:
            update = True
            try:
                _read_bits(image, entry, bitmap)
            except QapiError:
                node.bitmaps[:] = [each for each in node.bitmaps if each not in made]
                raise
        node.bitmaps.insert(0, bitmap)
        made.append(bitmap)
    if update and not node.read_only and not node.inactive:
        try:
            mark_in_use(image, entries)
        except BlockIoError as error:
            node.bitmaps[:] = [each for each in node.bitmaps if each not in made]
            raise error.prefixed("Can't update bitmap directory: ") from None


def _read_bits(image: Qcow2, entry: BitmapEntry, bitmap: Bitmap) -> None:
    try:
        table = read_table(image, entry)
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
            at = value & OFFSET
            if not value:
                continue
            first = index * covered
            if not at:
                grains.add(first, min(first + covered, total))
                continue
            data = image.store.read(at, image.cluster)
            # before they are taken apart, which costs time
            if grains.pieces + runs_of_bits(data) > _MOST_INTERVALS:
                raise NotModelledError(f"bitmaps with more than {_MOST_INTERVALS} dirty parts")
            grains.append_bits(first, data)
    except BlockIoError as error:
        raise error.prefixed(f"Could not read bitmap '{entry.name}' from image: ") from None
    bitmap.restore(grains)
    bitmap.resize(bitmap.size)


def store_bitmaps(node: Node, image: Qcow2, *, release: bool = False) -> None:
    """Write the node's persistent bitmaps, and then give back what the image held of them.

    Others that the image has stay. `release`: the node has them no longer, as the image is
    another process's from now on. Raises QapiError, BlockIoError.
    """
    entries = read_directory(image)
    known = {entry.name: entry for entry in entries}
    stored: dict[str, Bitmap] = {}
    dropped: list[BitmapEntry] = []
    for bitmap in node.bitmaps:
        name = bitmap.name
        if not (bitmap.persistent and name) or bitmap.inconsistent or bitmap.skip_store:
            continue
        if bitmap.read_only:
            continue
        flags = AUTO if bitmap.enabled else 0
        bits = bitmap.granularity.bit_length() - 1
        old = known.get(name)
        if old is None:
            entries.append(BitmapEntry(0, 0, flags, bits, name))
        elif old.flags & IN_USE:
            dropped.append(old)
            entries[entries.index(old)] = BitmapEntry(0, 0, flags, bits, name)
        else:
            raise QapiError(f"Bitmap '{name}' already exists in the image")
        stored[name] = bitmap
    if not stored:
        return
    for entry in entries:
        if entry.name in stored:
            entry.table_offset, entry.table_size = _write_bits(image, stored[entry.name])
    _write_directory(image, entries)
    for entry in dropped:
        free_bitmap(image, entry)
    if release:
        node.bitmaps[:] = [bitmap for bitmap in node.bitmaps if bitmap.name not in stored]


def _write_directory(image: Qcow2, entries: list[BitmapEntry]) -> None:
    """Write a directory, and the header that says where it is, and give back the old one.

    See block/qcow2-bitmap.c: update_ext_header_and_dir(). Raises BlockIoError.
    """
    before = image.directory
    others = [e for e in image.header.extensions if e[0] != EXT_BITMAPS]
    autoclear = image.header.autoclear & ~BITMAPS
    if entries:
        directory = b"".join(packed(entry, entry.flags) for entry in entries)
        offset = image.refcounts.allocate(len(directory))
        image.check_write(offset, len(directory))
        image.store.write(offset, directory)
        data = struct.pack(">IIQQ", len(entries), 0, len(directory), offset)
        others.append((EXT_BITMAPS, data))
        autoclear |= BITMAPS
    image.header.extensions, image.header.autoclear = others, autoclear
    image.write_header()
    if before is not None:
        image.refcounts.free(before[2], before[1], "other")


def remove_stored(image: Qcow2, name: str) -> None:
    """Take a bitmap out of the image, if it is there. Raises BlockIoError.

    See block/qcow2-bitmap.c: qcow2_co_remove_persistent_dirty_bitmap().
    """
    entries = read_directory(image)
    gone = next((entry for entry in entries if entry.name == name), None)
    if gone is None:
        return
    left = [entry for entry in entries if entry is not gone]
    _write_directory(image, left)
    free_bitmap(image, gone)


def reopen_read_only(node: Node, image: Qcow2) -> None:
    """Write the bitmaps, which do not change from now on. Raises QapiError."""
    store_bitmaps(node, image)
    for bitmap in node.bitmaps:
        if bitmap.persistent:
            bitmap.read_only = True


def reopen_writable(node: Node, image: Qcow2) -> None:
    """Let bitmaps change that could not, and say in the image that its own are old.

    What goes wrong is printed: the node is open already. See qcow2_reopen_bitmaps_rw().
    """
    warn = node.driver.graph.process.host.warn
    still = [b for b in node.bitmaps if b.persistent and b.read_only]
    if not still:
        return
    try:
        entries = read_directory(image)
        if any(not entry.flags & IN_USE for entry in entries):
            mark_in_use(image, entries)
    except QapiError as error:
        warn(
            f"{node.driver.name}: Failed to make dirty bitmaps writable:"
            f" Cannot update bitmap directory: {error.desc}"
        )
        return
    for bitmap in still:
        bitmap.read_only = False


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
