"""What a migration channel reads and writes: a link that the loop serves, or a file, as the model's
`Stream`.

See migration/qemu-file.c: qemu_fflush(); io/channel-file.c: qio_channel_file_pwritev().
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from fakeqemu.io.addresses import error_text
from fakeqemu.io.link import Link
from fakeqemu.io.loop import Handle, Loop

_FILE_CHUNK = 1 << 20
#: of descriptors that came and nobody has asked for, so many are kept
_MOST_FDS = 256


class _Readable:
    """What reads once somebody listens to it."""

    def __init__(self) -> None:
        self.takes_fds = False
        self._on_data: Callable[[bytes], None] | None = None
        self.on_close: Callable[[str | None], None] | None = None

    @property
    def on_data(self) -> Callable[[bytes], None] | None:
        """Who gets the input; nothing is read before it is set."""
        return self._on_data

    @on_data.setter
    def on_data(self, call: Callable[[bytes], None] | None) -> None:
        self._on_data = call
        self._listened_to(call is not None)

    def _listened_to(self, listens: bool) -> None:
        """Read, or leave it where it is."""
        raise NotImplementedError


class LinkStream(_Readable):
    """A channel over a socket, pipe or pair of pipes; reads once somebody listens to it."""

    def __init__(self, loop: Loop, end: Any, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self._received: list[int] = []
        self._link = Link(loop, end, self._input, self._ended)

    def _listened_to(self, listens: bool) -> None:
        self._link.set_reading(listens)

    @property
    def fd(self) -> int:
        """The descriptor underneath; -1 once closed."""
        return self._link.fileno()

    @property
    def queued(self) -> int:
        """Bytes that the other side has not taken yet."""
        return self._link.queued

    def when_drained(self, call: Callable[[], None] | None) -> None:
        """Have `call` called each time that nothing is queued any more."""
        self._link.on_drained = call

    def write(self, data: bytes) -> None:
        """Queue `data`."""
        self._link.write(data)

    def send_fds(self, fds: Sequence[int]) -> None:
        """Send copies of descriptors along with the next byte."""
        self._link.attach(fds)

    def received_fds(self) -> list[int]:
        """The descriptors that came along since the last call."""
        received, self._received = self._received, []
        return received

    def skip(self, size: int) -> None:
        """Only files have holes."""
        raise RuntimeError(f"{size} bytes cannot be left out of a {self._kind}")

    def write_at(self, offset: int, data: bytes) -> None:
        """Only files have places."""
        raise RuntimeError(f"{len(data)} bytes have no place {offset} in a {self._kind}")

    def close(self) -> None:
        """Send what is queued, then close."""
        self.on_close = None
        self._close_received()
        self._link.close()

    def abort(self) -> None:
        """Close at once."""
        self.on_close = None
        self._close_received()
        self._link.abort()

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Let everything wait, and hand over what comes, until `done()`; False if time is up."""
        return self._link.wait(seconds, done)

    def flush(self, timeout: float) -> None:
        """Send what is queued, waiting up to `timeout` seconds."""
        self._link.flush(timeout)

    def _input(self, data: bytes, fds: list[int]) -> None:
        self._received += fds
        if not self.takes_fds or len(self._received) > _MOST_FDS:
            self._close_received()
        if self._on_data is not None:
            self._on_data(data)

    def _close_received(self) -> None:
        for fd in self.received_fds():
            os.close(fd)

    def _ended(self, error: str | None) -> None:
        if self.on_close is not None:
            self.on_close(None if error is None else f"Unable to read from {self._kind}: {error}")


class FileStream(_Readable):
    """A plain file, which never makes one wait: read in turns of the loop, written at once."""

    def __init__(self, loop: Loop, fd: int) -> None:
        super().__init__()
        self._loop = loop
        self._fd = fd
        self._turn: Handle | None = None

    def _listened_to(self, listens: bool) -> None:
        if listens and self._turn is None and self._fd >= 0:
            self._turn = self._loop.call_soon(self._read)

    def write(self, data: bytes) -> None:
        """Write; an error ends in `on_close`."""
        try:
            while data and self._fd >= 0:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._finish(f"Unable to write to file: {error_text(error)}")

    def send_fds(self, fds: Sequence[int]) -> None:
        """Only UNIX sockets take them."""
        raise RuntimeError(f"{len(fds)} descriptors cannot go along with a file")

    def received_fds(self) -> list[int]:
        """None ever comes."""
        return []

    def skip(self, size: int) -> None:
        """Leave a hole."""
        if self._fd >= 0:
            os.lseek(self._fd, size, os.SEEK_CUR)

    def write_at(self, offset: int, data: bytes) -> None:
        """Write elsewhere; an error ends in `on_close`."""
        try:
            while data and self._fd >= 0:
                done = os.pwrite(self._fd, data, offset)
                offset, data = offset + done, data[done:]
        except OSError as error:
            self._finish(f"Unable to write to file: {error_text(error)}")

    def close(self) -> None:
        """Close; nothing is ever queued."""
        self.on_close = None
        self._finish(None)

    def abort(self) -> None:
        """The same."""
        self.close()

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Read on until `done()`."""
        end = self._loop.time() + seconds
        while not done():
            if self._fd < 0 or self._loop.time() > end:
                return False
            if self._turn is not None:
                self._turn.cancel()
            self._read()
        return True

    def flush(self, timeout: float) -> None:
        """Nothing is ever queued."""

    def _read(self) -> None:
        self._turn = None
        if self._fd < 0 or self._on_data is None:
            return
        try:
            data = os.read(self._fd, _FILE_CHUNK)
        except OSError as error:
            self._finish(f"Unable to read from file: {error_text(error)}")
            return
        if not data:
            self._finish(None)
            return
        self._turn = self._loop.call_soon(self._read)
        self._on_data(data)

    def _finish(self, error: str | None) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        os.close(fd)
        if self._turn is not None:
            self._turn.cancel()
        if self.on_close is not None:
            self._loop.call_soon(self.on_close, error)
