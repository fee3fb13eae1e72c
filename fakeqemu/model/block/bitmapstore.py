"""Persistent dirty bitmaps in a qcow2 image: read when it is opened, written when it is closed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fakeqemu.model.block.bitmaps import Bitmap, find_on
from fakeqemu.model.block.qcow2 import Qcow2
from fakeqemu.qapi.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.block.node import Node

_EXTENSION = 0x23852875
_AUTOCLEAR = 1
_FIXED = struct.Struct(">QIIBBHI")
_IN_USE, _AUTO = 1, 2
_DIRTY_TYPE = 1
_OFFSET = 0x00FFFFFFFFFFFE00
_ALL_ONES = 1


@dataclass
class _Entry:
    table_offset: int
    table_size: int
    flags: int
    granularity_bits: int
    name: str


def _directory(image: Qcow2) -> tuple[int, int, int] | None:
    """Number, size and offset of the directory; None where there is none in force."""
    if not image.header.autoclear & _AUTOCLEAR:
        return None
    for kind, data in image.header.extensions:
        if kind == _EXTENSION:
            number, _, size, offset = struct.unpack(">IIQQ", data[:24])
            return number, size, offset
    return None


def _entries(image: Qcow2) -> list[_Entry]:
    where = _directory(image)
    if where is None:
        return []
    number, _, at = where
    found = []
    for _ in range(number):
        fields = _FIXED.unpack(image.store.read(at, _FIXED.size))
        offset, size, flags, _, bits, name_length, extra = fields
        name = image.store.read(at + _FIXED.size + extra, name_length).decode()
        found.append(_Entry(offset, size, flags, bits, name))
        at += -(-(_FIXED.size + extra + name_length) // 8) * 8
    return found


def load_bitmaps(node: Node, image: Qcow2) -> None:
    """Make the image's bitmaps the node's, and mark them as in use if it will be written."""
    entries = _entries(image)
    for entry in entries:
        if find_on(node, entry.name) is not None:
            continue  # it has come by migration, and is newer
        bitmap = Bitmap(node, entry.name, 1 << entry.granularity_bits, image.header.size)
        bitmap.persistent = bitmap.stored = True
        bitmap.enabled = bool(entry.flags & _AUTO)
        bitmap.read_only = node.read_only
        bitmap.inconsistent = bool(entry.flags & _IN_USE)
        if bitmap.inconsistent:
            bitmap.enabled = False
        else:
            _read_bits(image, entry, bitmap)
        node.bitmaps.append(bitmap)
    where = _directory(image)
    if where is not None and not node.read_only and not node.inactive:
        at = where[2]
        for entry in entries:
            image.store.write(at + 12, struct.pack(">I", entry.flags | _IN_USE))
            at += -(-(_FIXED.size + len(c_bytes(entry.name))) // 8) * 8


def _read_bits(image: Qcow2, entry: _Entry, bitmap: Bitmap) -> None:
    covered = image.cluster * 8
    grains: set[int] = set()
    for index, value in enumerate(image.table(entry.table_offset, entry.table_size)):
        at = value & _OFFSET
        if not at:
            if value & _ALL_ONES:
                grains.update(range(index * covered, (index + 1) * covered))
            continue
        for byte, bits in enumerate(image.store.read(at, image.cluster)):
            if bits:
                first = index * covered + byte * 8
                grains.update(first + bit for bit in range(8) if bits >> bit & 1)
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
    where = _directory(image)
    if where is not None:
        image.refcounts.change(where[2], -(-where[1] // image.cluster), -1)
    directory = b""
    for bitmap in reversed(kept):
        assert bitmap.name is not None
        offset, size = _write_bits(image, bitmap)
        name = c_bytes(bitmap.name)
        flags = (_AUTO if bitmap.enabled else 0) | (_IN_USE if bitmap.inconsistent else 0)
        entry_bytes = _FIXED.pack(
            offset, size, flags, _DIRTY_TYPE, bitmap.granularity.bit_length() - 1, len(name), 0
        )
        entry_bytes += name
        directory += entry_bytes.ljust(-(-len(entry_bytes) // 8) * 8, b"\0")
    others = [e for e in image.header.extensions if e[0] != _EXTENSION]
    image.header.autoclear &= ~_AUTOCLEAR
    if kept:
        offset = image.refcounts.allocate(-(-len(directory) // image.cluster))
        image.store.write(offset, directory)
        data = struct.pack(">IIQQ", len(kept), 0, len(directory), offset)
        others.append((_EXTENSION, data))
        image.header.autoclear |= _AUTOCLEAR
    image.header.extensions = others
    image.write_header()


def _free(image: Qcow2, entry: _Entry) -> None:
    for value in image.table(entry.table_offset, entry.table_size):
        if value & _OFFSET:
            image.refcounts.change(value & _OFFSET, 1, -1)
    if entry.table_offset:
        clusters = max(1, -(-entry.table_size * 8 // image.cluster))
        image.refcounts.change(entry.table_offset, clusters, -1)


def _write_bits(image: Qcow2, bitmap: Bitmap) -> tuple[int, int]:
    """Offset and size of the bitmap's table."""
    covered = image.cluster * 8
    grains = -(-bitmap.size // bitmap.granularity)
    table = [0] * -(-grains // covered)
    pieces: dict[int, bytearray] = {}
    for grain in bitmap.copy_bits():
        index, bit = divmod(grain, covered)
        piece = pieces.setdefault(index, bytearray(image.cluster))
        piece[bit // 8] |= 1 << bit % 8
    for index, piece in pieces.items():
        table[index] = image.refcounts.allocate(1)
        image.store.write(table[index], bytes(piece))
    offset = image.refcounts.allocate(max(1, -(-len(table) * 8 // image.cluster)))
    image.put_table(offset, table)
    return offset, len(table)
