"""The file of mapped-ram: every page has its place, so there is more hole than data.

What is written first is a list of pieces: bytes, or a `Hole` to be sought over (or filled with
zeros). Pages of zeros are not written, their bits are not set, and their places stay holes; the
others are put in their places in the end, when it is known which they are. The pages of each
block begin at a multiple of 1 MiB in the *file*, so the offset at which the stream begins
counts.

See migration/ram.c: mapped_ram_setup_ramblock(), mapped_ram_read_header() and
read_ramblock_mapped_ram().
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.migration_stream.constants import PAGE_SIZE
from fakeqemu.formats.migration_stream.events import MappedRam
from fakeqemu.formats.migration_stream.source import SourceBlock
from fakeqemu.formats.migration_stream.writer import StreamWriter, be32, be64

VERSION = 1
HEADER_SIZE = 4 + 8 + 8 + 8
ALIGNMENT = 1 << 20


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes of the file that are not written and read as zeros."""

    size: int


def place(block: SourceBlock, at: int) -> MappedRam:
    """Where a block goes whose header stands at file offset `at`."""
    bits = -(-block.size // PAGE_SIZE)
    bitmap_offset = at + HEADER_SIZE
    bitmap_size = -(-bits // 64) * 8
    pages_offset = -(-(bitmap_offset + bitmap_size) // ALIGNMENT) * ALIGNMENT
    return MappedRam(PAGE_SIZE, bitmap_offset, pages_offset)


def ram_setup(
    writer: StreamWriter, at: int, places: dict[str, MappedRam] | None = None
) -> Iterator[bytes | Hole]:
    """The `ram` section's first part, to be written from file offset `at` on.

    `places` gets to know where each block went.
    """
    data = writer.ram_start()
    at += len(data)
    for block in writer.source.blocks:
        entry = writer.ram_block(block)
        data += entry
        at += len(entry)
        header = place(block, at)
        if places is not None:
            places[block.name] = header
        data += be32(VERSION) + be64(header.page_size)
        data += be64(header.bitmap_offset) + be64(header.pages_offset)
        yield data
        data = b""
        after = header.pages_offset + block.size
        yield Hole(after - at - HEADER_SIZE)
        at = after
    yield data + writer.ram_setup_end()


def content(header: MappedRam, pages: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """(file offset, bytes) of the pages of a block that are not zero, and of their bits."""
    bits: dict[int, int] = {}
    for number, page in sorted(pages.items()):
        bits[number // 8] = bits.get(number // 8, 0) | 1 << number % 8
        yield header.pages_offset + number * PAGE_SIZE, page
    for at, byte in bits.items():
        yield header.bitmap_offset + at, bytes([byte])
