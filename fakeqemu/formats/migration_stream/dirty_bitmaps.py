"""The `dirty-bitmap` section's own format: records of bitmaps begun, their bits, and their ends.

What a record means depends on the nodes of the loading machine, and QEMU decides as it reads:
most of what is wrong only makes it drop all bitmaps and read on. So the reader knows the
format, and asks a `Sink` for the rest.

See migration/block-dirty-bitmap.c: dirty_bitmap_load() and dirty_bitmap_load_header().
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import IntFlag
from typing import Protocol

from fakeqemu.formats.migration_stream.byte_reader import ByteReader, Parser
from fakeqemu.formats.migration_stream.errors import EINVAL, EIO, LoadError
from fakeqemu.qapi.json.utf8 import c_bytes

SECTION = "dirty-bitmap"
SECTION_VERSION = 1
SECTOR = 512
#: grains that one record of bits tells of at most
GRAINS_PER_RECORD = 8 << 10
#: most sectors that one record can tell of
_SECTOR_LIMIT = (1 << 32) - 1
#: most bytes of bits that one record is believed to have
_BITS_LIMIT = 10 << 10
#: bits come in multiples of this many bytes
ALIGNMENT = 32


class Flag(IntFlag):
    """What a record is, and which names it begins with."""

    EOS = 0x01
    ZEROES = 0x02
    BITMAP_NAME = 0x04
    NODE_NAME = 0x08
    START = 0x10
    COMPLETE = 0x20
    BITS = 0x40
    MORE = 0x80


class StartFlag(IntFlag):
    """What a bitmap is like; higher bits are refused."""

    ENABLED = 0x01
    PERSISTENT = 0x02
    #: once encoded to load it with the image; ignored
    AUTOLOAD = 0x04


class Sink(Protocol):
    """The loading machine's bitmaps. `report` prints a line; each may raise Fault."""

    def names(
        self, flags: Flag, node: str | None, bitmap: str | None, report: Callable[[str], None]
    ) -> None:
        """A record begins; the names are None if they are those of the last record."""

    def start(self, granularity: int, flags: int) -> None:
        """The bitmap is to be made."""

    def bits(
        self, first: int, count: int, data: bytes | None, report: Callable[[str], None]
    ) -> None:
        """Sectors, and the bits of their grains, None for zeros."""

    def complete(self) -> None:
        """The bitmap is whole."""

    def cancel(self) -> None:
        """Drop what is not whole, and everything that follows."""


def read(
    pull: ByteReader, version: int, sink: Sink | None, report: Callable[[str], None]
) -> Parser:
    """One part of the section, through its end mark. Raises LoadError.

    Without a `sink` everything is dropped.
    """
    try:
        if version != SECTION_VERSION:
            raise LoadError(EINVAL)
        while not (yield from _record(pull, sink, report)):
            pass
    except LoadError:
        if sink is not None:
            sink.cancel()
        raise


def _record(
    pull: ByteReader, sink: Sink | None, report: Callable[[str], None]
) -> Generator[None, None, bool]:
    """One record; whether it was the last of this part."""
    number = yield from pull.number(1)
    if number & Flag.MORE:
        # longer flags are foreseen, but only the last byte of them is ever kept
        number = yield from pull.number(1)
        if number & Flag.MORE:
            number = (yield from pull.number(2)) & 0xFF
    flags = Flag(number)
    names: list[str | None] = [None, None]
    for index, (flag, what) in enumerate(
        ((Flag.NODE_NAME, "node"), (Flag.BITMAP_NAME, "bitmap"))
    ):
        if flags & flag:
            names[index] = yield from pull.counted()
            if not names[index]:
                raise LoadError(EINVAL, reports=(f"Unable to read {what} alias string",))
    if sink is not None:
        sink.names(flags, names[0], names[1], report)
    if flags & Flag.START:
        granularity = yield from pull.number(4)
        about = yield from pull.number(1)
        if sink is not None:
            sink.start(granularity, about)
    elif flags & Flag.COMPLETE:
        if sink is not None:
            sink.complete()
    elif flags & Flag.BITS:
        yield from _bits(pull, flags, sink, report)
    if pull.error:
        raise LoadError(pull.error)
    return bool(flags & Flag.EOS)


def _bits(
    pull: ByteReader, flags: Flag, sink: Sink | None, report: Callable[[str], None]
) -> Parser:
    first = yield from pull.number(8)
    count = yield from pull.number(4)
    data: bytes | None = None
    if not flags & Flag.ZEROES:
        size = yield from pull.number(8)
        if size > _BITS_LIMIT:
            text = "Bitmap migration stream buffer allocation request is too large"
            raise LoadError(EIO, reports=(text,))
        here = yield from pull.want(size)
        data = yield from pull.get(size)
        if here < size:
            raise LoadError(EIO, reports=("Failed to read bitmap bits",))
    if sink is not None:
        sink.bits(first, count, data, report)


# -- writing -----------------------------------------------------------------------------------


class RecordWriter:
    """Makes records; a name is encoded only when it changes."""

    def __init__(self) -> None:
        self._node: object = None
        self._bitmap: object = None

    def start(
        self, bitmap: tuple[object, object], names: tuple[str, str], granularity: int, flags: int
    ) -> bytes:
        """A bitmap begins; `bitmap` is anything that tells its node and itself from others."""
        head = self._head(Flag.START, bitmap, names)
        return head + granularity.to_bytes(4, "big") + bytes([flags])

    def bits(
        self,
        bitmap: tuple[object, object],
        names: tuple[str, str],
        first: int,
        count: int,
        data: bytes | None,
    ) -> bytes:
        """Bits of `count` sectors from `first` on, None if they are all zero."""
        kind = Flag.BITS | (Flag.ZEROES if data is None else Flag(0))
        encoded = (
            self._head(kind, bitmap, names) + first.to_bytes(8, "big") + count.to_bytes(4, "big")
        )
        if data is None:
            return encoded
        padded = data.ljust(-(-len(data) // ALIGNMENT) * ALIGNMENT, b"\0")
        return encoded + len(padded).to_bytes(8, "big") + padded

    def complete(self, bitmap: tuple[object, object], names: tuple[str, str]) -> bytes:
        """A bitmap is whole."""
        return self._head(Flag.COMPLETE, bitmap, names)

    @staticmethod
    def end() -> bytes:
        """What ends a part of the section."""
        return bytes([Flag.EOS])

    def _head(
        self, flags: Flag, bitmap: tuple[object, object], names: tuple[str, str]
    ) -> bytes:
        encoded = b""
        if bitmap[0] is not self._node:
            self._node = bitmap[0]
            flags |= Flag.NODE_NAME
            encoded += _counted(names[0])
        if bitmap[1] is not self._bitmap:
            self._bitmap = bitmap[1]
            flags |= Flag.BITMAP_NAME
            encoded += _counted(names[1])
        return bytes([flags]) + encoded


def _counted(text: str) -> bytes:
    data = c_bytes(text)
    return bytes([len(data)]) + data


def grains_per_record(granularity: int) -> int:
    """How many grains, in whole words of 64, a record of bits tells of."""
    return min(GRAINS_PER_RECORD, _SECTOR_LIMIT * SECTOR // granularity // 64 * 64)


def longest_run(granularity: int) -> int:
    """Most grains, in whole records of bits, that a record of zeros can tell of."""
    record = grains_per_record(granularity)
    return _SECTOR_LIMIT * SECTOR // granularity // record * record
