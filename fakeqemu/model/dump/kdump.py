"""A dump in the compressed format of kdump: headers, two bitmaps of pages, a description of each
page, the pages.

The flattened form is a row of (offset, size, bytes) for tools that put the file together later;
the raw form is that file. All zero pages share one.

See dump/dump.c: create_kdump_vmcore(), write_dump_header(), write_dump_bitmap() and
write_dump_pages().
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from fakeqemu.model.boards.guest_memory import PAGE
from fakeqemu.model.dump.elf import DumpLayout
from fakeqemu.model.dump.output import Piece, Zeros

if TYPE_CHECKING:
    from fakeqemu.model.boards.guest_memory import GuestMemory

_COMPRESSED_ZLIB = 1
_FAST = 1
#: dump everything but nothing twice
_DUMP_LEVEL = 1
_VERSION = 6
_FLAT_HEADER = 4096
_MACHINE_AT = 4 * 65
_UTSNAME = 6 * 65
#: bytes of what is written at a time
_CACHE = 4 * PAGE


#: one thing written: where, what, and what is said when it cannot be
_Record = tuple[int, bytes, str]


def flattened(
    memory: GuestMemory, machine: str, dumped: DumpLayout
) -> Iterator[tuple[list[Piece], str]]:
    """The form that can go through a pipe, in parts, and what is said of one that fails.

    `machine`: what the header calls the architecture.
    """
    start = b"makedumpfile".ljust(16, b"\0") + struct.pack(">QQ", 1, 1)
    yield [start.ljust(_FLAT_HEADER, b"\0")], "dump: failed to write start flat header"
    for failure, records in groupby(_records(memory, machine, dumped), itemgetter(2)):
        pieces: list[Piece] = []
        for offset, data, _ in records:
            pieces += [struct.pack(">QQ", offset, len(data)), data]
        yield pieces, failure
    yield [b"\xff" * 16], "dump: failed to write end flat header"


def raw(
    memory: GuestMemory, machine: str, dumped: DumpLayout
) -> Iterator[tuple[list[Piece], str]]:
    """The file itself, likewise."""
    at = 0
    in_order = sorted(_records(memory, machine, dumped), key=itemgetter(0))
    for failure, records in groupby(in_order, itemgetter(2)):
        pieces: list[Piece] = []
        for offset, data, _ in records:
            if offset > at:
                pieces.append(Zeros(offset - at))
            pieces.append(data)
            at = offset + len(data)
        yield pieces, failure


def _records(memory: GuestMemory, machine: str, dumped: DumpLayout) -> Iterator[_Record]:
    """What is written, in QEMU's order; see dump/dump.c: create_kdump_vmcore()."""
    limit = dumped.segments[-1].end // PAGE
    bitmap_size = -(-limit // (8 * PAGE)) * PAGE
    sub_size = 104 if dumped.wide else 84
    sub_blocks = -(-(sub_size + len(dumped.notes)) // PAGE)
    header = _main_header(dumped, machine.encode(), limit, sub_blocks, bitmap_size // PAGE * 2)
    yield 0, header, "dump: failed to write disk dump header"
    sub_header = _sub_header(dumped, limit, PAGE + sub_size)
    yield PAGE, sub_header, "dump: failed to write kdump sub header"
    yield PAGE + sub_size, dumped.notes, "dump: failed to write notes"
    at = PAGE + sub_blocks * PAGE
    bitmap = _bitmap(dumped, bitmap_size)
    for offset in range(0, bitmap_size, PAGE):
        part = bitmap[offset : offset + PAGE]
        word = "set" if offset + PAGE < bitmap_size else "sync"
        for start in (at, at + bitmap_size):
            yield start + offset, part, f"dump: failed to {word} dump_bitmap"
    at += 2 * bitmap_size
    descriptions, data = _pages(memory, dumped, at)
    for piece, name in ((descriptions, "page desc"), (data, "page data")):
        for offset in range(0, len(piece), _CACHE):
            part = bytes(piece[offset : offset + _CACHE])
            yield at + offset, part, f"dump: failed to write {name}"
        at += len(piece)


def _main_header(
    dumped: DumpLayout, machine: bytes, limit: int, sub_blocks: int, bitmap_blocks: int
) -> bytes:
    utsname = (bytes(_MACHINE_AT) + machine).ljust(_UTSNAME, b"\0")
    timestamp = bytes(22 if dumped.wide else 10)
    numbers = struct.pack(
        "<10I", _COMPRESSED_ZLIB, PAGE, sub_blocks, bitmap_blocks, min(limit, 0xFFFFFFFF),
        0, 0, 0, 0, dumped.cpus,
    )  # fmt: skip
    return b"KDUMP   " + struct.pack("<I", _VERSION) + utsname + timestamp + numbers


def _sub_header(dumped: DumpLayout, limit: int, notes_at: int) -> bytes:
    size = len(dumped.notes)
    if dumped.wide:
        return struct.pack(
            "<QIIQQQQQQQQQQQ", 0, _DUMP_LEVEL, 0, 0, 0, 0, 0, notes_at, size, 0, 0, 0, 0, limit
        )
    return struct.pack(
        "<IIIIIQIQIQIQQQ", 0, _DUMP_LEVEL, 0, 0, 0, 0, 0, notes_at, size, 0, 0, 0, 0, limit
    )


def _bitmap(dumped: DumpLayout, size: int) -> bytes:
    bits = 0
    for segment in dumped.segments:
        first, last = segment.start // PAGE, segment.end // PAGE
        bits |= ((1 << (last - first)) - 1) << first
    return bits.to_bytes(size, "little")


def _pages(memory: GuestMemory, dumped: DumpLayout, at: int) -> tuple[bytearray, bytearray]:
    """The descriptions, which begin at `at`, and the pages behind them."""
    data_at = at + dumped.total // PAGE * 24
    zero = struct.pack("<QIIQ", data_at, PAGE, 0, 0)
    descriptions, data = bytearray(), bytearray(PAGE)
    for segment in dumped.segments:
        next_page = segment.start
        for address, page in memory.written(segment.start, segment.size):
            descriptions += zero * ((address - next_page) // PAGE)
            packed = zlib.compress(page, _FAST)
            flag = _COMPRESSED_ZLIB if len(packed) < PAGE else 0
            stored = packed if flag else page
            descriptions += struct.pack("<QIIQ", data_at + len(data), len(stored), flag, 0)
            data += stored
            next_page = address + PAGE
        descriptions += zero * ((segment.end - next_page) // PAGE)
    return descriptions, data
