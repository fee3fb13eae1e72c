"""Frames in a byte stream: each behind its length, four bytes in network byte order.

See net/net.c: net_fill_rstate().
"""

from __future__ import annotations

from collections.abc import Iterator

#: the largest frame that is taken (NET_BUFSIZE of include/net/net.h)
MAX_FRAME = 4096 + 65536
_HEADER = 4


class OversizedFrameError(Exception):
    """The other side sends a frame that is larger than MAX_FRAME."""


def pack(frame: bytes) -> bytes:
    """The frame as it goes into the stream."""
    return len(frame).to_bytes(_HEADER, "big") + frame


class FrameReader:
    """Puts the frames of one connection together."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that `data` completes. Raises OversizedFrameError."""
        self._data += data
        while len(self._data) >= _HEADER:
            end = _HEADER + int.from_bytes(self._data[:_HEADER], "big")
            # bytes that have come count, not those that are announced
            if min(end, len(self._data)) - _HEADER > MAX_FRAME:
                raise OversizedFrameError
            if len(self._data) < end:
                return
            frame = bytes(self._data[_HEADER:end])
            del self._data[:end]
            yield frame
