"""The remote framebuffer protocol as one VNC client speaks it, without a socket.

Versions 3.3 to 3.8, no authentication or a password, the raw encoding, changes of size. What
VNC offers beyond is not asked for by clients that are not offered it; keys and pointers are
noted for the tester.

See ui/vnc.c: vnc_connect(), protocol_version(), protocol_client_init() and protocol_client_msg().
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from typing import Protocol

from fakeqemu.formats import des
from fakeqemu.formats.image import Picture
from fakeqemu.formats.rfb_pixels import PixelFormat
from fakeqemu.qapi.json.utf8 import c_bytes

NONE, PASSWORD = 1, 2
_INVALID = 0
_ACCEPTED, _REJECTED = struct.pack(">I", 0), struct.pack(">I", 1)
_REASON = b"Authentication failed\0"
_RAW, _DESKTOP_SIZE, _XVP = 0, -223, -309
#: of what a server says of the power: version 1, what follows fails, or can be asked for
_XVP_FAIL, _XVP_INIT = b"\xfa\0\1\0", b"\xfa\0\1\1"
_MAX_CUT_TEXT = 1 << 20
#: message -> bytes of it in all, for those of fixed length
_FIXED = {0: 20, 3: 10, 4: 8, 5: 6, 250: 4}
_SET_PIXEL_FORMAT, _SET_ENCODINGS, _UPDATE, _KEY, _POINTER, _CUT_TEXT = 0, 2, 3, 4, 5, 6
_POWER, _DESKTOP, _QEMU = 250, 251, 255
#: QEMU's own messages: kind -> bytes in all
_QEMU_SIZES = {0: 12, 1: 4}
_VERSIONS = {3: 3, 4: 3, 5: 3, 7: 7, 8: 8}

Need = Generator[int, bytes, None]


class RfbServer(Protocol):
    """What a client's session asks of the display it is connected to."""

    #: how clients prove themselves: NONE, PASSWORD or another number of the protocol
    auth: int
    #: whether they may switch the machine off, in the way of xvp
    power_control: bool

    @property
    def title(self) -> str:
        """What the desktop is called."""

    def picture(self) -> Picture:
        """What is to be seen."""

    def challenge(self) -> bytes:
        """Sixteen unpredictable bytes."""

    def key(self) -> bytes | None:
        """The password as far as it counts, None if no password is good now."""

    def initialized(self, client: RfbClient, *, shared: bool) -> bool:
        """The client wants to see the desktop; whether it may."""

    def input(self, kind: str, data: bytes) -> None:
        """A key or pointer event, as it came."""

    def switch_power(self, action: int) -> bool:
        """What xvp asks for by a number: whether there is such an action."""


class _HangUp(Exception):  # noqa: N818 - the end of a session, not an error
    """The client is to be disconnected."""


class RfbClient:
    """One client's session. `send` and `close` are its connection.

    While `is_full` no picture is sent, however often it is asked for; `refresh` makes up for it.
    """

    def __init__(
        self,
        server: RfbServer,
        send: Callable[[bytes], None],
        close: Callable[[], None],
        *,
        skip_auth: bool = False,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_full = is_full
        self._server = server
        self._send = send
        self._close = close
        self._auth = NONE if skip_auth else server.auth
        self._minor = 3
        self._format = PixelFormat()
        self._encodings: tuple[int, ...] = ()
        self._size = (0, 0)
        self._shown: Picture | None = None
        #: whether an update was asked for that nothing has come for yet, and one of everything
        self._waits = self._waits_for_all = False
        self._buffer = bytearray()
        self._session = self._talk()
        self._needed: int | None = None

    def start(self) -> None:
        """Say hello."""
        self._send(b"RFB 003.008\n")
        self._needed = next(self._session)

    def receive(self, data: bytes) -> None:
        """Bytes have come from the client."""
        self._buffer += data
        while self._needed is not None and len(self._buffer) >= self._needed:
            piece = bytes(self._buffer[: self._needed])
            del self._buffer[: self._needed]
            try:
                self._needed = self._session.send(piece)
            except (StopIteration, _HangUp):
                self._needed = None
                self._close()

    def refresh(self) -> None:
        """The picture may have changed: show it to a client that waits for that."""
        if self._waits and self._needed is not None:
            self._update()

    # -- the session -------------------------------------------------------------------------

    def _talk(self) -> Need:
        yield from self._handshake()
        shared = yield 1
        if not self._server.initialized(self, shared=shared != b"\0"):
            return
        while True:
            yield from self._message()

    def _handshake(self) -> Need:
        version = yield 12
        if version[:4] != b"RFB " or version[7:8] != b"." or version[11:] != b"\n":
            raise _HangUp
        numbers = version[4:7] + version[8:11]
        if not numbers.isdigit():
            raise _HangUp
        minor = _VERSIONS.get(int(version[8:11]))
        if int(version[4:7]) != 3 or minor is None:
            self._send(struct.pack(">I", _INVALID))
            raise _HangUp
        self._minor = minor
        if minor == 3:
            if self._auth not in (NONE, PASSWORD):
                self._send(struct.pack(">I", _INVALID))
                raise _HangUp
            self._send(struct.pack(">I", self._auth))
        else:
            self._send(bytes([1, self._auth]))
            if (yield 1) != bytes([self._auth]):
                self._reject()
            if self._auth == NONE and minor == 8:
                self._send(_ACCEPTED)
        if self._auth == PASSWORD:
            yield from self._ask_password()
        elif self._auth != NONE:
            self._reject()

    def _ask_password(self) -> Need:
        challenge = self._server.challenge()
        self._send(challenge)
        answer = yield len(challenge)
        key = self._server.key()
        if key is None or answer != des.encrypt(_mirrored(key), challenge):
            self._reject()
        self._send(_ACCEPTED)

    def _reject(self) -> None:
        self._send(_REJECTED)
        if self._minor == 8:
            self._send(struct.pack(">I", len(_REASON)) + _REASON)
        raise _HangUp

    def welcome(self) -> None:
        """The client may see the desktop: describe it."""
        picture = self._server.picture()
        self._size = picture.width, picture.height
        name = c_bytes(self._server.title)
        self._send(
            struct.pack(">HH", *self._size)
            + self._format.described()
            + struct.pack(">I", len(name))
            + name
        )

    # -- messages ----------------------------------------------------------------------------

    def _message(self) -> Need:
        kind = (yield 1)[0]
        if kind in _FIXED:
            self._fixed(kind, (yield _FIXED[kind] - 1))
        elif kind == _SET_ENCODINGS:
            count = int.from_bytes((yield 3)[1:], "big")
            data = (yield 4 * count) if count else b""
            self._encodings = struct.unpack(f">{count}i", data)
            if self._server.power_control:
                self._send(_XVP_INIT * self._encodings.count(_XVP))
        elif kind == _CUT_TEXT:
            size = int.from_bytes((yield 7)[3:], "big")
            if size > _MAX_CUT_TEXT:
                raise _HangUp
            if size:
                yield size
        elif kind == _QEMU:
            size = _QEMU_SIZES.get((yield 1)[0], 0)
            if not size:
                raise _HangUp
            self._server.input("vnc-extended", (yield size - 2))
        elif kind == _DESKTOP:
            screens = (yield 7)[5]
            yield screens * 16
        else:
            raise _HangUp

    def _fixed(self, kind: int, data: bytes) -> None:
        if kind == _SET_PIXEL_FORMAT:
            format = PixelFormat.parse(data[3:])
            if format is None:
                raise _HangUp
            self._format = format
            self._shown = None
            if format.colour_map:
                self._send(format.colour_map)
        elif kind == _UPDATE:
            self._waits = True
            self._waits_for_all |= not data[0]
            self._update()
        elif kind == _POWER:
            known = self._server.power_control and _XVP in self._encodings
            if not known or data[1] != 1:
                raise _HangUp
            if not self._server.switch_power(data[2]):
                self._send(_XVP_FAIL)
        else:
            self._server.input("vnc-key" if kind == _KEY else "vnc-pointer", data)

    def _update(self) -> None:
        """Send the picture, if all of it is asked for or it is another than the client has."""
        if self._is_full():
            return
        picture = self._server.picture()
        if not self._waits_for_all and picture == self._shown:
            return
        rectangles = []
        if (picture.width, picture.height) != self._size:
            if _DESKTOP_SIZE not in self._encodings:
                picture = _fitted(picture, *self._size)
            else:
                self._size = picture.width, picture.height
                rectangles.append(_rectangle(*self._size, _DESKTOP_SIZE))
        rectangles.append(
            _rectangle(*self._size, _RAW) + self._format.converted(picture.pixels)
        )
        self._shown = self._server.picture()
        self._waits = self._waits_for_all = False
        self._send(struct.pack(">BxH", 0, len(rectangles)) + b"".join(rectangles))


def _rectangle(width: int, height: int, encoding: int) -> bytes:
    return struct.pack(">HHHHi", 0, 0, width, height, encoding)


def _fitted(picture: Picture, width: int, height: int) -> Picture:
    """The picture cut, or filled up with black, to another size."""
    rows = (
        picture.row(number)[: width * 3].ljust(width * 3, b"\0")
        if number < picture.height
        else bytes(width * 3)
        for number in range(height)
    )
    return Picture(width, height, b"".join(rows))


def _mirrored(key: bytes) -> bytes:
    """The key with the bits of each byte turned round, as VNC takes them."""
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
