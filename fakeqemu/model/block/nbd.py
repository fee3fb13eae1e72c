"""The NBD protocol's server side without I/O: bytes in, bytes out, requests to an export.

Fixed newstyle negotiation with structured replies and the `base:allocation` context, which is
what QEMU's own client asks for; no TLS, no extended headers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from fakeqemu.model.block.driver import DATA, HOLE, ZERO, Range
from fakeqemu.qapi.utf8 import c_bytes

INIT_MAGIC, OPTION_MAGIC = b"NBDMAGIC", b"IHAVEOPT"
REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC, SIMPLE_MAGIC, STRUCTURED_MAGIC = 0x25609513, 0x67446698, 0x668E33EF

FIXED_NEWSTYLE, NO_ZEROES = 1, 2

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS = 1, 2, 3, 5
OPT_INFO, OPT_GO, OPT_STRUCTURED, OPT_LIST_META, OPT_SET_META = 6, 7, 8, 9, 10
REP_ACK, REP_SERVER, REP_INFO, REP_META = 1, 2, 3, 4
REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_INVALID, REP_ERR_UNKNOWN = (
    1 << 31 | n for n in (1, 2, 3, 6)
)
INFO_EXPORT, INFO_NAME, INFO_BLOCK_SIZE = 0, 1, 3

#: transmission flags
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA = 1, 2, 4, 8
SEND_TRIM, SEND_ZEROES, SEND_DF, MULTI_CONN, SEND_CACHE, FAST_ZERO = 32, 64, 128, 256, 1024, 2048

CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_ZEROES, CMD_STATUS = (
    0, 1, 2, 3, 4, 5, 6, 7,
)  # fmt: skip
_REQUEST = struct.Struct(">IHHQQI")
_LARGEST = 32 << 20
_EPERM, _EINVAL, _EIO = 1, 22, 5
_DONE = 1
_MOST_EXTENTS = 1024
_CONTEXT, _CONTEXT_ID = "base:allocation", 1
_STATE_HOLE, _STATE_ZERO = 1, 2


class Target(Protocol):
    """One export, as a connection uses it."""

    name: str
    description: str
    writable: bool

    def size(self) -> int:
        """Bytes."""

    def read(self, offset: int, count: int) -> bytes:
        """Data."""

    def write(self, offset: int, data: bytes) -> None:
        """Write."""

    def zero(self, offset: int, count: int) -> None:
        """Write zeros."""

    def status(self, offset: int, end: int) -> Iterator[Range]:
        """What is where."""


@dataclass(frozen=True, slots=True)
class _Request:
    flags: int
    kind: int
    cookie: int
    offset: int
    length: int


class Connection:
    """One client. `send` takes bytes for it, `close` ends it."""

    def __init__(
        self,
        exports: Callable[[], dict[str, Target]],
        send: Callable[[bytes], None],
        close: Callable[[], None],
    ) -> None:
        self._exports = exports
        self._send, self._close = send, close
        self._buffer = bytearray()
        self._state: Callable[[], bool] = self._client_flags
        self._no_zeroes = False
        self._structured = False
        self._status_wanted = False
        self.target: Target | None = None

    def start(self) -> None:
        """Greet the client."""
        self._send(INIT_MAGIC + OPTION_MAGIC + struct.pack(">H", FIXED_NEWSTYLE | NO_ZEROES))

    def receive(self, data: bytes) -> None:
        """What came from the client."""
        self._buffer += data
        while self._state():
            pass

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    # -- negotiation -----------------------------------------------------------------------------

    def _client_flags(self) -> bool:
        if len(self._buffer) < 4:
            return False
        flags = struct.unpack(">I", self._take(4))[0]
        if flags & ~(FIXED_NEWSTYLE | NO_ZEROES):
            self._end()
            return False
        self._no_zeroes = bool(flags & NO_ZEROES)
        self._state = self._option
        return True

    def _option(self) -> bool:
        if len(self._buffer) < 16:
            return False
        magic, option, length = struct.unpack(">8sII", bytes(self._buffer[:16]))
        if magic != OPTION_MAGIC or length > _LARGEST:
            self._end()
            return False
        if len(self._buffer) < 16 + length:
            return False
        self._take(16)
        self._answer(option, self._take(length))
        return True

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        self._send(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data)

    def _answer(self, option: int, data: bytes) -> None:
        if option == OPT_EXPORT_NAME:
            self._export_name(data.decode(errors="replace"))
        elif option == OPT_ABORT:
            self._reply(option, REP_ACK)
            self._end()
        elif option == OPT_LIST:
            for target in self._exports().values():
                name = c_bytes(target.name)
                text = name + c_bytes(target.description)
                self._reply(option, REP_SERVER, struct.pack(">I", len(name)) + text)
            self._reply(option, REP_ACK)
        elif option in (OPT_INFO, OPT_GO):
            self._go(option, data)
        elif option == OPT_STRUCTURED:
            self._structured = True
            self._reply(option, REP_ACK)
        elif option in (OPT_LIST_META, OPT_SET_META):
            self._meta(option, data)
        elif option == OPT_STARTTLS:
            self._reply(option, REP_ERR_POLICY, b"TLS not configured")
        else:
            words = f"Unsupported option {option} ({_option_name(option)})"
            self._reply(option, REP_ERR_UNSUP, words.encode())

    def _flags(self, target: Target) -> int:
        flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_CACHE | MULTI_CONN
        if self._structured:
            flags |= SEND_DF
        if target.writable:
            return flags | SEND_TRIM | SEND_ZEROES | FAST_ZERO
        return flags | READ_ONLY

    def _export_name(self, name: str) -> None:
        target = self._exports().get(name)
        if target is None:
            self._end()
            return
        self._send(struct.pack(">QH", target.size(), self._flags(target)))
        if not self._no_zeroes:
            self._send(bytes(124))
        self._transmit(target)

    def _go(self, option: int, data: bytes) -> None:
        if len(data) < 6:
            self._reply(option, REP_ERR_INVALID, b"length too short")
            return
        length = struct.unpack_from(">I", data)[0]
        name = data[4 : 4 + length].decode(errors="replace")
        wanted = struct.unpack_from(f">{(len(data) - 6 - length) // 2}H", data, 6 + length)
        target = self._exports().get(name)
        if target is None:
            self._reply(option, REP_ERR_UNKNOWN, c_bytes(f"export '{name}' not present"))
            return
        if INFO_NAME in wanted:
            self._reply(option, REP_INFO, struct.pack(">H", INFO_NAME) + c_bytes(target.name))
        sizes = struct.pack(">HIII", INFO_BLOCK_SIZE, 1, 4096, _LARGEST)
        self._reply(option, REP_INFO, sizes)
        info = struct.pack(">HQH", INFO_EXPORT, target.size(), self._flags(target))
        self._reply(option, REP_INFO, info)
        self._reply(option, REP_ACK)
        if option == OPT_GO:
            self._transmit(target)

    def _meta(self, option: int, data: bytes) -> None:
        if not self._structured:
            text = b"request option requires structured replies"
            self._reply(option, REP_ERR_INVALID, text)
            return
        length = struct.unpack_from(">I", data)[0]
        at = 4 + length
        count = struct.unpack_from(">I", data, at)[0]
        at += 4
        queries = []
        for _ in range(count):
            size = struct.unpack_from(">I", data, at)[0]
            queries.append(data[at + 4 : at + 4 + size].decode(errors="replace"))
            at += 4 + size
        everything = option == OPT_LIST_META and (not queries or "base:" in queries)
        found = everything or _CONTEXT in queries
        if option == OPT_SET_META:
            self._status_wanted = found
        if found:
            number = _CONTEXT_ID if option == OPT_SET_META else 0
            self._reply(option, REP_META, struct.pack(">I", number) + _CONTEXT.encode())
        self._reply(option, REP_ACK)

    def _transmit(self, target: Target) -> None:
        self.target = target
        self._state = self._request

    # -- transmission ----------------------------------------------------------------------------

    def _request(self) -> bool:
        if len(self._buffer) < _REQUEST.size:
            return False
        magic, *fields = _REQUEST.unpack(bytes(self._buffer[: _REQUEST.size]))
        request = _Request(*fields)
        if magic != REQUEST_MAGIC or request.kind == CMD_DISC:
            self._end()
            return False
        extra = request.length if request.kind == CMD_WRITE else 0
        if extra > _LARGEST:
            self._end()
            return False
        if len(self._buffer) < _REQUEST.size + extra:
            return False
        self._take(_REQUEST.size)
        self._serve(request, self._take(extra))
        return True

    def _serve(self, request: _Request, data: bytes) -> None:
        target = self.target
        assert target is not None
        fault = self._fault(request, target)
        if fault:
            self._fail(request, fault)
            return
        try:
            if request.kind == CMD_READ:
                self._send_data(request, target.read(request.offset, request.length))
                return
            if request.kind == CMD_STATUS:
                self._send_status(request, target)
                return
            if request.kind == CMD_WRITE:
                target.write(request.offset, data)
            elif request.kind in (CMD_ZEROES, CMD_TRIM):
                target.zero(request.offset, request.length)
        except OSError as error:
            self._fail(request, error.errno or _EIO)
            return
        self._done(request)

    @staticmethod
    def _fault(request: _Request, target: Target) -> int:
        if request.kind not in (
            CMD_READ, CMD_WRITE, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_ZEROES, CMD_STATUS,
        ):  # fmt: skip
            return _EINVAL
        if request.kind in (CMD_WRITE, CMD_TRIM, CMD_ZEROES) and not target.writable:
            return _EPERM
        if request.kind != CMD_FLUSH and request.offset + request.length > target.size():
            return _EINVAL if request.kind != CMD_WRITE else 28
        if request.kind == CMD_READ and request.length > _LARGEST:
            return _EINVAL
        return 0

    def _done(self, request: _Request) -> None:
        if self._structured:
            self._chunk(request, _DONE, 0, b"")
        else:
            self._send(struct.pack(">IIQ", SIMPLE_MAGIC, 0, request.cookie))

    def _chunk(self, request: _Request, flags: int, kind: int, data: bytes) -> None:
        head = struct.pack(">IHHQI", STRUCTURED_MAGIC, flags, kind, request.cookie, len(data))
        self._send(head + data)

    def _fail(self, request: _Request, error: int) -> None:
        if self._structured:
            self._chunk(request, _DONE, 1 << 15 | 1, struct.pack(">IH", error, 0))
        else:
            self._send(struct.pack(">IIQ", SIMPLE_MAGIC, error, request.cookie))

    def _send_data(self, request: _Request, data: bytes) -> None:
        if not self._structured:
            self._send(struct.pack(">IIQ", SIMPLE_MAGIC, 0, request.cookie) + data)
        elif not data:
            self._chunk(request, _DONE, 0, b"")
        else:
            self._chunk(request, _DONE, 1, struct.pack(">Q", request.offset) + data)

    def _send_status(self, request: _Request, target: Target) -> None:
        if not self._status_wanted:
            self._fail(request, _EINVAL)
            return
        out = struct.pack(">I", _CONTEXT_ID)
        one = bool(request.flags & 1 << 3)
        states = {DATA: 0, ZERO: _STATE_HOLE | _STATE_ZERO, HOLE: _STATE_HOLE | _STATE_ZERO}
        pieces = target.status(request.offset, request.offset + request.length)
        for piece in islice(pieces, 1 if one else _MOST_EXTENTS):
            out += struct.pack(">II", piece.length, states[piece.kind])
        self._chunk(request, _DONE, 5, out)

    def _end(self) -> None:
        self._state = lambda: False
        self._buffer.clear()
        self._close()


def _option_name(option: int) -> str:
    names = {11: "extended headers"}
    return names.get(option, "<unknown>")
