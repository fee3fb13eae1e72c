"""The server's end of a WebSocket: the HTTP request that begins it, then frames. No I/O.

See io/channel-websock.c; RFC 6455.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1

#: bytes of a frame's payload at most, and of the request that begins a connection
MOST_PAYLOAD = 8192
MOST_REQUEST = 4096
_MOST_HEADERS = 32
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_LENGTH = 24
_VERSION = b"13"
_PROTOCOL = b"binary"
_END = b"\r\n\r\n"

_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_CONTROL = 8
_FIN = _MASKED = 0x80
#: lengths that say that the real one follows, in so many bytes
_LONG = {126: 2, 127: 8}
_NORMAL, _PROTOCOL_ERROR, _INVALID_DATA, _POLICY = 1000, 1002, 1003, 1008


class _BadRequestError(Exception):
    """The request is answered with this status line, and these headers behind the usual ones."""

    def __init__(self, status: str = "400 Bad Request", more: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.more = more or ("Sec-WebSocket-Version: 13\r\n" if status[0:3] == "400" else "")


class _BrokenFrameError(Exception):
    """The connection ends with a close frame of this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.frame = _frame(_CLOSE, code.to_bytes(2, "big") + reason.encode())


class WebSocketServer:
    """One client's connection, as bytes that come and bytes that are to be sent."""

    def __init__(self, date: str) -> None:
        #: the time as HTTP writes it, for the reply to the request
        self._date = date
        self._input = bytearray()
        #: kind of the frame that has begun, which those without a kind continue
        self._kind = 0
        #: payload of it that is still to come
        self._left = 0
        self._mask = b""
        #: whether the request has been answered, and frames are exchanged
        self.open = False
        #: whether nothing more is read: the connection ends when the last reply has been sent
        self.over = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What the client has said with `data`, and what is to be sent for it."""
        self._input += data
        reply = bytearray()
        if not self.open and not self.over:
            reply += self._request()
        said = bytearray()
        try:
            while self.open and not self.over and self._input and self._next(said, reply):
                pass
        except _BrokenFrameError as broken:
            reply += broken.frame
            self.over = True
        return bytes(said), bytes(reply)

    def frames(self, data: bytes) -> bytes:
        """`data` as it is sent to the client."""
        pieces = (data[at : at + MOST_PAYLOAD] for at in range(0, len(data), MOST_PAYLOAD))
        return b"".join(_frame(_BINARY, piece) for piece in pieces)

    # -- the request -------------------------------------------------------------------------

    def _request(self) -> bytes:
        """The reply to the request once all of it is there."""
        end = self._input.find(_END, 0, MOST_REQUEST)
        try:
            if end < 0:
                if len(self._input) < MOST_REQUEST:
                    return b""
                raise _BadRequestError("403 Request Entity Too Large")
            # as a string of C, it ends at a NUL
            text = bytes(self._input[:end]).split(b"\0")[0]
            del self._input[: end + len(_END)]
            accepted = _accepted(text)
        except _BadRequestError as refused:
            self.over = True
            if not refused.status:
                return b""
            return self._reply(refused.status, "Connection: close\r\n" + refused.more)
        self.open = True
        return self._reply("101 Switching Protocols", accepted)

    def _reply(self, status: str, headers: str) -> bytes:
        lines = f"HTTP/1.1 {status}\r\nServer: QEMU VNC\r\nDate: {self._date}\r\n{headers}"
        # the one for a bad request lacks the empty line
        end = "" if status[0:3] == "400" else "\r\n"
        return (lines + end).encode("latin-1")

    # -- frames ------------------------------------------------------------------------------

    def _next(self, said: bytearray, reply: bytearray) -> bool:
        """Take what there is of a frame; False if more has to come first."""
        if not self._left and not self._header():
            return False
        length = self._left
        if len(self._input) < length:
            if self._kind & _CONTROL:
                return False
            length = len(self._input) - len(self._input) % 4
            if not length:
                return False
        self._left -= length
        payload = _unmasked(self._input[:length], self._mask)
        del self._input[:length]
        if self._kind == _BINARY:
            said += payload
        elif self._kind == _PING:
            reply += _frame(_PONG, payload)
        return True

    def _header(self) -> bool:
        """Take a frame's header; False if it is not all there. Raises _BrokenFrameError."""
        if len(self._input) < 6:
            return False
        first, second = self._input[:2]
        kind = first & 0xF or self._kind
        self._kind = kind
        if kind == _CLOSE:
            raise _BrokenFrameError(_NORMAL, "peer requested close")
        if not first & _FIN and kind != _BINARY:
            raise _BrokenFrameError(_POLICY, "only binary frames may be fragmented")
        if kind not in (_BINARY, _PING, _PONG):
            only = "only binary, close, ping, and pong frames are supported"
            raise _BrokenFrameError(_INVALID_DATA, only)
        if not second & _MASKED:
            raise _BrokenFrameError(_PROTOCOL_ERROR, "client frames must be masked")
        length = second & 0x7F
        more = _LONG.get(length, 0)
        if more and kind & _CONTROL:
            raise _BrokenFrameError(_PROTOCOL_ERROR, "control frame is too large")
        if len(self._input) < 6 + more:
            return False
        if more:
            length = int.from_bytes(self._input[2 : 2 + more], "big")
        self._left = length
        self._mask = bytes(self._input[2 + more : 6 + more])
        del self._input[: 6 + more]
        return True


def _accepted(text: bytes) -> str:
    """The headers that accept a request. Raises _BadRequestError."""
    line, *rest = text.split(b"\r\n")
    if not rest:
        raise _BadRequestError
    method, blank, line = line.partition(b" ")
    if not blank:
        raise _BadRequestError("")  # nothing is said to such a client
    path, blank, version = line.partition(b" ")
    if method != b"GET" or not blank:
        raise _BadRequestError
    if path != b"/":
        raise _BadRequestError("404 Not Found")
    if version != b"HTTP/1.1" or len(rest) > _MOST_HEADERS:
        raise _BadRequestError
    headers: dict[bytes, bytes] = {}
    for each in rest:
        name, colon, value = each.partition(b":")
        if not colon:
            raise _BadRequestError
        headers.setdefault(name.lower(), value.lstrip(b" "))
    return _answer(headers)


def _answer(headers: dict[bytes, bytes]) -> str:
    """The same of a request's headers. Raises _BadRequestError."""
    try:
        version, key, _host, connection, upgrade = (
            headers[name]
            for name in (
                b"sec-websocket-version", b"sec-websocket-key", b"host", b"connection", b"upgrade",
            )
        )  # fmt: skip
    except KeyError:
        raise _BadRequestError from None
    protocols = headers.get(b"sec-websocket-protocol")
    if protocols is not None and _PROTOCOL not in protocols:
        raise _BadRequestError
    if version != _VERSION or len(key) != _KEY_LENGTH:
        raise _BadRequestError
    if b"upgrade" not in (each.strip().lower() for each in connection.split(b",")):
        raise _BadRequestError
    if upgrade.lower() != b"websocket":
        raise _BadRequestError
    proof = b64encode(sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    accepted = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {proof}\r\n"
    return accepted + ("" if protocols is None else "Sec-WebSocket-Protocol: binary\r\n")


def _frame(kind: int, payload: bytes) -> bytes:
    """A whole frame as a server sends it: without a mask."""
    size = len(payload)
    if size < 126:
        return bytes([_FIN | kind, size]) + payload
    marker = 126 if size < 1 << 16 else 127
    return bytes([_FIN | kind, marker]) + size.to_bytes(_LONG[marker], "big") + payload


def _unmasked(data: bytes | bytearray, mask: bytes) -> bytes:
    if not data:
        return b""
    repeated = mask * (len(data) // 4 + 1)
    size = len(data)
    number = int.from_bytes(data, "big") ^ int.from_bytes(repeated[:size], "big")
    return number.to_bytes(size, "big")
