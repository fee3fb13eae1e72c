"""The return path: messages from destination to source on the main channel.

Sans I/O as the rest: `ReturnPathReader` for the source, functions that give bytes for the
destination. A message's header says its length; a bitmap follows its message unframed.

See migration/migration.c: migrate_send_rp_message() and source_return_path_thread();
migration/ram.c: ram_dirty_bitmap_reload().
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from enum import IntEnum

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.migration_stream.byte_reader import Parser
from fakeqemu.formats.migration_stream.channels.feed_reader import FeedReader, FormatError
from fakeqemu.qapi.json.utf8 import c_bytes
from fakeqemu.traits import Traits


class Message(IntEnum):
    """Kinds of messages; the names are those QEMU prints."""

    SHUT = 1
    PONG = 2
    REQ_PAGES_ID = 3
    REQ_PAGES = 4
    RECV_BITMAP = 5
    RESUME_ACK = 6
    SWITCHOVER_ACK = 7


_LENGTH = {
    Message.SHUT: 4,
    Message.PONG: 4,
    Message.REQ_PAGES: 12,
    Message.RESUME_ACK: 4,
    Message.SWITCHOVER_ACK: 0,
}
_LENGTH_LIMIT = 512
_BITMAP_END = 0x0123_4567_89AB_CDEF
#: most bytes of a bitmap of received pages: that of 16 TiB
_BITMAP_LIMIT = 1 << 29
_RESUME_ACK = 1


@dataclass(frozen=True, slots=True)
class Shut:
    """The destination is through; not zero if something went wrong there."""

    status: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to a ping."""

    value: int


@dataclass(frozen=True, slots=True)
class RequestPages:
    """A page is missing; `block` is None if it is that of the last request."""

    block: str | None
    #: offset into the block and length, in bytes
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class ReceivedBitmap:
    """Which pages of a block have come; pieces of the bitmap without a bit are not kept."""

    block: str
    #: bits, rounded up to 64
    pages: int
    received: int
    #: first page of a piece, and its bits, eight to a byte from the lowest on
    pieces: tuple[tuple[int, bytes], ...] = ()

    def numbers(self) -> Iterator[int]:
        """The pages that have come, in order."""
        for first, piece in self.pieces:
            for at, byte in enumerate(piece):
                if byte:
                    yield from (first + at * 8 + bit for bit in range(8) if byte >> bit & 1)


@dataclass(frozen=True, slots=True)
class ResumeAck:
    """The destination agrees to resume a paused postcopy."""


@dataclass(frozen=True, slots=True)
class SwitchoverAck:
    """The destination is ready for the source to stop."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The return path failed; `text` is QEMU's error."""

    text: str


Answer = Shut | Pong | RequestPages | ReceivedBitmap | ResumeAck | SwitchoverAck | Broken


class ReturnPathReader(FeedReader[Answer]):
    """Reads answers. `done` after `Shut` or `Broken`."""

    def __init__(self, traits: Traits) -> None:
        self._last = (
            Message.SWITCHOVER_ACK if traits.stream_switchover_start else Message.RESUME_ACK
        )
        super().__init__()

    def _failed(self, text: str) -> Answer:
        return Broken(text)

    def _parse(self) -> Parser:
        pull = self._pull
        while True:
            kind = yield from pull.number(2)
            size = yield from pull.number(2)
            if pull.error:
                raise FormatError("Channel error: Input/output error")
            if not 0 < kind <= self._last:
                raise FormatError(f"Received invalid message 0x{kind:04x} length 0x{size:04x}")
            message = Message(kind)
            wanted = _LENGTH.get(message, size)
            if size != wanted or size > _LENGTH_LIMIT:
                shown = _LENGTH.get(message, (1 << 64) - 1)
                raise FormatError(
                    f"Received '{message.name}' message (0x{kind:04x}) with"
                    f"incorrect length {size} expecting {shown}"
                )
            here = yield from pull.want(size)
            data = yield from pull.get(size)
            if here != size:
                raise FormatError(
                    f"Failed reading data for message 0x{kind:04x} read {here} expected {size}"
                )
            yield from self._message(message, data)
            if message is Message.SHUT:
                return

    def _message(self, message: Message, data: bytes) -> Generator[None, None, None]:
        value = int.from_bytes(data[:4], "big")
        if message is Message.SHUT:
            self._out.append(Shut(value))
        elif message is Message.PONG:
            self._out.append(Pong(value))
        elif message in (Message.REQ_PAGES, Message.REQ_PAGES_ID):
            self._out.append(self._request(message, data))
        elif message is Message.RECV_BITMAP:
            yield from self._bitmap(data)
        elif message is Message.RESUME_ACK:
            if value != _RESUME_ACK:
                raise FormatError(f"illegal resume_ack value {value}")
            self._out.append(ResumeAck())
        else:
            self._out.append(SwitchoverAck())

    def _request(self, message: Message, data: bytes) -> RequestPages:
        start, length = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:12], "big")
        if message is Message.REQ_PAGES:
            return RequestPages(None, start, length)
        wanted = 13 + (data[12] if len(data) > 12 else 0)
        if len(data) != wanted:
            raise FormatError(f"Req_Page_id with length {len(data)} expecting {wanted}")
        return RequestPages(data[13:].decode("utf-8", "replace"), start, length)

    def _bitmap(self, data: bytes) -> Generator[None, None, None]:
        if not data:
            raise FormatError("MIG_RP_MSG_RECV_BITMAP missing block name")
        block = data[1 : 1 + data[0]].decode("utf-8", "replace")
        size = yield from self._pull.number(8)
        if size > _BITMAP_LIMIT:
            raise FormatError(f"ramblock '{block}' bitmap size mismatch (0x{size:x} != 0x0)")
        left, ones, pieces = size, 0, []
        while left:
            piece = yield from self._pull.get(min(left, 1 << 16))
            left -= len(piece)
            new = int.from_bytes(piece, "big").bit_count()
            if new:
                pieces.append(((size - left - len(piece)) * 8, piece))
            ones += new
            if self._pull.error:
                raise FormatError(f"read bitmap failed for ramblock '{block}': (size 0x{size:x})")
        mark = yield from self._pull.number(8)
        if mark != _BITMAP_END:
            raise FormatError(f"ramblock '{block}' end mark incorrect: 0x{mark:x}")
        self._out.append(ReceivedBitmap(block, size * 8, ones, tuple(pieces)))


# -- writing -----------------------------------------------------------------------------------


def _message(kind: Message, payload: bytes = b"") -> bytes:
    return kind.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


def shut(status: int = 0) -> bytes:
    """The last message; `status` is not zero if loading failed."""
    return _message(Message.SHUT, status.to_bytes(4, "big"))


def pong(value: int) -> bytes:
    """The answer to a ping."""
    return _message(Message.PONG, value.to_bytes(4, "big"))


def received_bitmap(
    block: str, size: int, received: Iterable[int] = (), page_size: int = 4096
) -> bytes:
    """Tell which pages of a block of `size` bytes have come."""
    name = c_bytes(block)
    pages = (size + page_size - 1) // page_size
    length = (pages + 63) // 64 * 8
    bits = bytearray(length)
    for number in received:
        bits[number // 8] |= 1 << number % 8
    bitmap = length.to_bytes(8, "big") + bits + _BITMAP_END.to_bytes(8, "big")
    return _message(Message.RECV_BITMAP, bytes([len(name)]) + name) + bitmap


def resume_ack() -> bytes:
    """Ready to go on with a broken postcopy."""
    return _message(Message.RESUME_ACK, _RESUME_ACK.to_bytes(4, "big"))


def switchover_ack() -> bytes:
    """Ready for the source to stop."""
    return _message(Message.SWITCHOVER_ACK)
