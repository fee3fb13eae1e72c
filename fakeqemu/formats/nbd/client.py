"""The NBD protocol's client side without I/O: bytes in, bytes out, a reply for each request.

A connection is a negotiation (`client_handshake`) that ends in requests and replies. There is no
TLS and there are no extended headers. See block/nbd.c: nbd_co_do_receive_one_chunk() and
nbd/client.c: nbd_receive_reply().
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Generator

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats.nbd import wire
from fakeqemu.formats.nbd.client_handshake import ExportInfo, ProtocolError, negotiate

_CUT_OFF = "Unexpected end-of-file before all bytes were read"


@dataclass(slots=True)
class Answer:
    """What a server answered to one request."""

    #: an errno of the host; 0: it did what it was asked for
    error: int = 0
    data: bytes = b""
    #: lengths and flags, of a block status
    extents: list[tuple[int, int]] = field(default_factory=list)


#: the connection was lost, or never came about
LOST = Answer(errno.EIO)


@dataclass(slots=True)
class _Request:
    kind: int
    offset: int
    count: int
    answered: Callable[[Answer], None]
    answer: Answer = field(default_factory=Answer)
    #: what a read has brought so far
    buffer: bytearray = field(default_factory=bytearray)


class Client:
    """One connection to an export.

    `done(error)` is called once: "" when requests can be made. `lost()` follows when they cannot
    be made any more; what is under way is then in `pending`.
    """

    def __init__(
        self,
        name: str,
        context: str,
        send: Callable[[bytes], None],
        done: Callable[[str], None],
        lost: Callable[[], None],
    ) -> None:
        self._send = send
        self._done: Callable[[str], None] | None = done
        self._lost = lost
        self.export = ExportInfo(name, context)
        self._buffer = bytearray()
        self._receiving = False
        self._reader: Generator[int, bytes, None] = self._read_all()
        self._needed = next(self._reader)
        self._cookie = 0
        #: cookie -> what is under way
        self.pending: dict[int, _Request] = {}
        #: why the connection is of no use any more
        self.error = ""
        #: what the server has said about it, for people to read
        self.hint = ""
        #: whether that was the server's fault, so that nobody should try again
        self.broken = False

    # -- requests --------------------------------------------------------------------------------

    def request(
        self, kind: int, offset: int, count: int, data: bytes, answered: Callable[[Answer], None]
    ) -> None:
        """Ask for `kind` of a range; `answered` follows unless the connection is lost."""
        self._cookie += 1
        self.pending[self._cookie] = _Request(kind, offset, count, answered)
        head = wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, kind, self._cookie, offset, count)
        self._send(head + data)

    def say_goodbye(self) -> None:
        """Tell the server that nothing more will come."""
        if not self.error:
            self.error = "closed"
            self._send(wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.CMD_DISC, 0, 0, 0))

    # -- what comes ------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """What the server sent."""
        self._buffer += data
        if self._receiving:
            # what we say next may be answered within the call that says it
            return
        self._receiving = True
        try:
            self._read_on()
        finally:
            self._receiving = False

    def _read_on(self) -> None:
        while not self.error and len(self._buffer) >= self._needed:
            piece = bytes(self._buffer[: self._needed])
            del self._buffer[: self._needed]
            try:
                self._needed = self._reader.send(piece)
            except ProtocolError as error:
                self.hint = error.hint
                self.fail(str(error), broken=True)

    def hung_up(self, error: str | None) -> None:
        """The server has gone."""
        self.fail(error or f"Failed to read {self.export.reads}: {_CUT_OFF}")

    def fail(self, text: str, *, broken: bool = False) -> None:
        """The connection is of no use any more."""
        if self.error:
            return
        self.error, self.broken = text, broken
        self._buffer.clear()
        done, self._done = self._done, None
        if done is not None:
            done(text)
        else:
            self._lost()

    def _read_all(self) -> Generator[int, bytes, None]:
        yield from negotiate(self.export, self._send)
        done, self._done = self._done, None
        if done is not None:
            done("")
        while True:
            yield from self._reply()

    def _reply(self) -> Generator[int, bytes, None]:
        """See nbd/client.c: nbd_receive_reply()."""
        magic = struct.unpack(">I", (yield 4))[0]
        if magic == wire.SIMPLE_MAGIC:
            error, cookie = struct.unpack(">IQ", (yield 12))
            request = self._of(cookie)
            if request.kind == wire.CMD_STATUS:
                raise ProtocolError("Protocol error: simple reply when structured reply was needed")
            if request.kind == wire.CMD_READ and not error:
                if self.export.structured:
                    raise ProtocolError("Protocol error: simple reply when structured reply")
                request.buffer += yield request.count
            self._finish(cookie, request, error)
        elif magic == wire.STRUCTURED_MAGIC:
            flags, kind, cookie, length = struct.unpack(">HHQI", (yield 16))
            if not self.export.structured:
                raise ProtocolError("unexpected structured reply")
            if length > wire.LARGEST + 8:
                raise ProtocolError("Payload too large")
            request = self._of(cookie)
            self._chunk(request, kind, (yield length))
            if flags & wire.CHUNK_DONE:
                self._finish(cookie, request, 0)
        else:
            raise ProtocolError(f"invalid magic (got {magic:#x})")

    def _of(self, cookie: int) -> _Request:
        request = self.pending.get(cookie)
        if request is None:
            raise ProtocolError("unexpected cookie value")
        return request

    def _finish(self, cookie: int, request: _Request, error: int) -> None:
        answer = request.answer
        if error:
            answer.error = wire.system_error(error)
        if request.kind == wire.CMD_READ and not answer.error:
            if len(request.buffer) != request.count:
                raise ProtocolError("Protocol error: reply does not have the whole range")
            answer.data = bytes(request.buffer)
        del self.pending[cookie]
        request.answered(answer)

    def _chunk(self, request: _Request, kind: int, payload: bytes) -> None:
        """See block/nbd.c: nbd_co_do_receive_one_chunk() and its users."""
        if kind & 1 << 15:
            if len(payload) < 6:
                raise ProtocolError("Protocol error: invalid payload for structured error")
            error = int.from_bytes(payload[:4], "big")
            if not error:
                raise ProtocolError(
                    "Protocol error: server sent structured error chunk with error = 0"
                )
            request.answer.error = request.answer.error or wire.system_error(error)
        elif kind == wire.CHUNK_NONE:
            if payload:
                raise ProtocolError("Protocol error: NBD_REPLY_TYPE_NONE chunk with payload")
        elif request.kind == wire.CMD_READ and kind in (wire.CHUNK_DATA, wire.CHUNK_HOLE):
            self._read_chunk(request, kind, payload)
        elif request.kind == wire.CMD_STATUS and kind == wire.CHUNK_STATUS:
            self._status_chunk(request, payload)
        else:
            raise ProtocolError(f"Unexpected reply type: {kind}")

    @staticmethod
    def _read_chunk(request: _Request, kind: int, payload: bytes) -> None:
        if len(payload) < 8 or (kind == wire.CHUNK_HOLE and len(payload) != 12):
            raise ProtocolError("Protocol error: invalid payload for data or hole")
        at = int.from_bytes(payload[:8], "big") - request.offset
        count = len(payload) - 8
        if kind == wire.CHUNK_HOLE:
            count = int.from_bytes(payload[8:], "big")
        if not 0 <= at <= request.count - count or not count:
            raise ProtocolError("Protocol error: server sent chunk exceeding requested region")
        buffer = request.buffer
        if len(buffer) < at + count:
            buffer += bytes(at + count - len(buffer))
        buffer[at : at + count] = payload[8:] if kind == wire.CHUNK_DATA else bytes(count)

    def _status_chunk(self, request: _Request, payload: bytes) -> None:
        """See block/nbd.c: nbd_parse_blockstatus_payload()."""
        if len(payload) < 12 or len(payload) % 8 != 4:
            raise ProtocolError("Protocol error: invalid payload for NBD_REPLY_TYPE_BLOCK_STATUS")
        context, *numbers = struct.unpack(f">{len(payload) // 4}I", payload)
        if context != self.export.context_id:
            raise ProtocolError(
                f"Protocol error: unexpected context id {context} for NBD_REPLY_TYPE_BLOCK_STATUS,"
                f" when negotiated context id is {self.export.context_id}"
            )
        left = request.count
        for length, flags in zip(numbers[::2], numbers[1::2], strict=True):
            if not length:
                raise ProtocolError("Protocol error: server sent status chunk with zero length")
            if left:
                request.answer.extents.append((min(length, left), flags))
                left -= min(length, left)


def text_of(answer: Answer) -> str:
    """An answer's error in words."""
    return os.strerror(answer.error)
