"""Bytes in as they come, out as a parser asks for them, with QEMU's idea of a stream's end.

A QEMUFile that has ended gives zeros and remembers an error, which its users look at only
where they choose to. What a broken stream is told depends on those places, so the reader has
them too: `ByteReader` gives zeros and sets `error`.

Parsers are generators that yield when they need more and are resumed when it came; nothing
here grows beyond what one call of `feed` brought and what one `get` asked for.

See migration/qemu-file.c: qemu_fill_buffer(), qemu_get_buffer() and qemu_file_set_error_obj().
"""

from __future__ import annotations

from collections.abc import Generator

from fakeqemu.formats.migration_stream.errors import EIO

#: a parser: yields None to wait for more bytes
Parser = Generator[None, None, None]


class ByteReader:
    """The unread part of a stream."""

    __slots__ = ("_base", "_jumped", "buffer", "ended", "error", "position", "skippable")

    def __init__(self, data: bytes = b"", *, ended: bool = False) -> None:
        self.buffer = bytearray(data)
        #: index of the next byte in `buffer`
        self.position = 0
        #: no more will come
        self.ended = ended
        #: errno once a read went past the end
        self.error = 0
        #: how many of the bytes that come next do not matter
        self.skippable = 0
        self._base = 0
        self._jumped = 0

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        if self.position:
            self._base += self.position
            del self.buffer[: self.position]
            self.position = 0
        self.buffer += data

    def jump(self, size: int) -> None:
        """Go on as if `size` bytes had come, at most `skippable`."""
        if not 0 <= size <= self.skippable:
            raise ValueError(f"{size} of {self.skippable} bytes may be skipped")
        self._jumped += size

    @property
    def offset(self) -> int:
        """How many bytes have been read or skipped."""
        return self._base + self.position

    @property
    def available(self) -> int:
        """How many bytes are here, unread."""
        return len(self.buffer) - self.position

    def want(self, size: int) -> Generator[None, None, int]:
        """Wait until `size` bytes are here or the stream has ended; how many there are."""
        while (here := len(self.buffer) - self.position) < size and not self.ended:
            yield
        return min(here, size)

    def get(self, size: int) -> Generator[None, None, bytes]:
        """The next `size` bytes, zeros for those that will never come."""
        start = self.position
        if len(self.buffer) - start < size:
            yield from self.want(size)
            start = self.position
        piece = bytes(self.buffer[start : start + size])
        self.position = start + len(piece)
        if len(piece) < size:
            self.error = self.error or EIO
            piece = piece.ljust(size, b"\0")
        return piece

    def number(self, size: int) -> Generator[None, None, int]:
        """The next `size` bytes as a big-endian number."""
        return int.from_bytes((yield from self.get(size)), "big")

    def counted(self) -> Generator[None, None, str]:
        """A length byte and that many characters; empty if it broke off."""
        size = yield from self.number(1)
        here = yield from self.want(size)
        text = yield from self.get(size)
        return text.decode("utf-8", "replace") if here == size else ""

    def c_string(self) -> Generator[None, None, str]:
        """A length byte and that many characters, read as C does: up to a zero or the end."""
        text = yield from self.get((yield from self.number(1)))
        return text.split(b"\0", 1)[0].decode("utf-8", "replace")

    def peek(self, size: int) -> Generator[None, None, bytes]:
        """The next bytes, left in place; fewer than `size` at the end."""
        yield from self.want(size)
        return bytes(self.buffer[self.position : self.position + size])

    def skip(self, size: int) -> Generator[None, None, int]:
        """Drop `size` bytes as they come; how many there were."""
        left = size
        while left:
            here = min(left, len(self.buffer) - self.position)
            self.position += here
            left -= here + self._jumped
            self._base += self._jumped
            self._jumped = 0
            if left:
                if self.ended:
                    self.error = self.error or EIO
                    break
                self.skippable = left
                yield
                self.skippable = 0
        return size - left
