"""Character device backends that are nothing but memory: the ring buffer, and none at all.

See chardev/char-ringbuf.c: ringbuf_chr_write(), qmp_ringbuf_write() and qmp_ringbuf_read().
"""

from __future__ import annotations

from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes, decode_lossy


class RingBuffer:
    """The bytes of a ringbuf device: the newest `size`, older ones fall out."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Add; what no longer fits is lost from the front."""
        self._data += data
        del self._data[: max(0, len(self._data) - self.size)]

    def read(self, size: int) -> bytes:
        """Take up to `size` of the oldest bytes."""
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    def set_reading(self, reading: bool) -> None:
        """Nothing is ever read from it by a frontend."""

    def disconnect(self) -> None:
        """There is no client."""

    def add_client(self, fd: int) -> bool:  # noqa: ARG002
        """There can be none."""
        return False

    def close(self) -> None:
        """Forget the bytes."""
        self._data.clear()


class NullTransport(RingBuffer):
    """Takes everything, gives nothing: the null backend, and any backend without a world."""

    def __init__(self) -> None:
        super().__init__(0)


def ringbuf_write(buffer: RingBuffer, data: str, format: str = "utf8") -> None:
    """What ringbuf-write does; `format` is a DataFormat. Raises QapiError."""
    if format != "base64":
        buffer.write(c_bytes(data))
        return
    from fakeqemu.qapi import base64data

    buffer.write(base64data.decode(data))


def ringbuf_read(buffer: RingBuffer, size: int, format: str = "utf8") -> str:
    """What ringbuf-read does: up to `size` bytes, which are then gone. Raises QapiError."""
    if size <= 0:
        raise QapiError("size must be greater than zero")
    data = buffer.read(size)
    if format == "base64":
        import base64

        return base64.b64encode(data).decode()
    return decode_lossy(data)
