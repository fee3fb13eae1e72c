"""Migration channels: sockets, commands, descriptors and files as the model's `Stream`.

Where QEMU connects in a thread of its own the answer comes back later; where it opens a file
or starts a command it knows at once, and so does the caller here.

See migration/socket.c: socket_start_outgoing_migration(); migration/exec.c:
exec_start_outgoing_migration(); migration/fd.c: fd_start_outgoing_migration(); migration/file.c:
file_start_outgoing_migration().
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable, Sequence
from typing import Any

from fakeqemu.io.addresses import (
    connect_error,
    connect_now,
    error_text,
    listen_on,
    local_name,
    remove_file,
    socket_of_fd,
    start_connect,
)
from fakeqemu.io.files.fdset_open import Opener
from fakeqemu.io.link import FileEnd, Link, SocketEnd
from fakeqemu.io.loop import Handle, Loop
from fakeqemu.model.host import Stream
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.scalars import c_int, digits

Done = Callable[[Stream | None, str], None]
_FILE_CHUNK = 1 << 20
#: of descriptors that came and nobody has asked for, so many are kept
_MOST_FDS = 256
#: seconds between two attempts to connect
_RETRY = 1.0


class LinkStream:
    """A channel over a socket, pipe or pair of pipes; reads once somebody listens to it."""

    def __init__(self, loop: Loop, end: Any, kind: str) -> None:
        self._kind = kind
        self.takes_fds = False
        self._received: list[int] = []
        self._on_data: Callable[[bytes], None] | None = None
        self.on_close: Callable[[str | None], None] | None = None
        self._link = Link(loop, end, self._input, self._ended)

    @property
    def on_data(self) -> Callable[[bytes], None] | None:
        """Who gets the input; nothing is read before it is set."""
        return self._on_data

    @on_data.setter
    def on_data(self, call: Callable[[bytes], None] | None) -> None:
        self._on_data = call
        self._link.set_reading(call is not None)

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


class FileStream:
    """A plain file, which never makes one wait: read in turns of the loop, written at once."""

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self.takes_fds = False
        self._on_data: Callable[[bytes], None] | None = None
        self.on_close: Callable[[str | None], None] | None = None
        self._turn: Handle | None = None

    @property
    def on_data(self) -> Callable[[bytes], None] | None:
        """Who gets the input; nothing is read before it is set."""
        return self._on_data

    @on_data.setter
    def on_data(self, call: Callable[[bytes], None] | None) -> None:
        self._on_data = call
        if call is not None and self._turn is None and self._fd >= 0:
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


class SocketListener:
    """A listening migration socket; every connection becomes a stream."""

    def __init__(
        self, loop: Loop, address: dict[str, Any], accept: Callable[[Stream], None], backlog: int
    ) -> None:
        self._loop = loop
        self._accept = accept
        self._sock = listen_on(address, backlog)
        #: the address really bound
        self.address: dict[str, Any] = local_name(self._sock)
        self._path = self.address.get("path", "") if not self.address.get("abstract") else ""
        loop.add_reader(self._sock.fileno(), self._acceptable)

    def close(self) -> None:
        """Stop listening and remove a UNIX socket's file."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        if self._path:
            with contextlib.suppress(OSError):
                remove_file(self._path)

    def abort(self) -> None:
        """Stop listening; a UNIX socket's file stays, as when QEMU ends without taking it down."""
        self._path = ""
        self.close()

    def _acceptable(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        self._accept(LinkStream(self._loop, SocketEnd(sock), "socket"))


def open_outgoing(
    loop: Loop, address: dict[str, Any], done: Done, opener: Opener = os.open
) -> None:
    """Open an outgoing channel; `done` is called in a later turn of the loop.

    Raises QapiError for what is refused at once: files, commands, descriptors.
    """
    if address["transport"] == "socket" and address.get("type") != "fd":
        loop.call_soon(_connect, loop, address, done)
        return
    stream = open_local(loop, address, outgoing=True, opener=opener)
    loop.call_soon(done, stream, "")


def connect_channel_now(
    loop: Loop, address: dict[str, Any], seconds: float, *, retry_for: float = 0.0
) -> LinkStream:
    """A connected channel; everything waits for it, up to `seconds` for each attempt.

    For `retry_for` seconds it is tried again once a second. Raises QapiError.
    """
    end = time.monotonic() + retry_for
    while True:
        try:
            return LinkStream(loop, SocketEnd(connect_now(address, seconds)), "socket")
        except QapiError:
            if time.monotonic() + _RETRY > end:
                raise
        time.sleep(_RETRY)


def _connect(loop: Loop, address: dict[str, Any], done: Done) -> None:
    def settled(sock: socket.socket | None, error: str) -> None:
        done(None if sock is None else LinkStream(loop, SocketEnd(sock), "socket"), error)

    connect(loop, address, settled)


def connect(
    loop: Loop, address: dict[str, Any], done: Callable[[socket.socket | None, str], None]
) -> None:
    """Connect to a flat SocketAddress; `done(socket, "")` or `done(None, error text)`."""
    try:
        sock, connected = start_connect(address)
    except QapiError as error:
        done(None, error.with_hint)
        return

    def settled() -> None:
        loop.remove_writer(sock.fileno())
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            done(None, connect_error(address, OSError(code, os.strerror(code))).desc)
            return
        done(sock, "")

    if connected:
        done(sock, "")
    else:
        loop.add_writer(sock.fileno(), settled)


def open_local(
    loop: Loop, address: dict[str, Any], *, outgoing: bool, opener: Opener = os.open
) -> Any:
    """A channel that needs no connecting: exec, fd, file. Raises QapiError."""
    match address:
        case {"transport": "exec", "args": args}:
            return LinkStream(loop, _spawn(loop, args), "command")
        case {"transport": "file", "filename": name}:
            fd = _open_file(name, address.get("offset", 0), opener, outgoing=outgoing)
            return FileStream(loop, fd)
        case {"type": "fd"}:
            return _fd_stream(loop, address, outgoing=outgoing)
    raise NotModelledError(f"migration over {address.get('transport')} {address.get('type', '')}")


def _open_file(name: str, offset: int, opener: Opener, *, outgoing: bool) -> int:
    if offset >= 1 << 63:
        offset -= 1 << 64  # the kernel takes it with a sign
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY if outgoing else os.O_RDONLY
    if offset:
        flags &= ~os.O_TRUNC
    try:
        fd = opener(name, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        action = "create" if outgoing else "open"
        raise QapiError(f"Could not {action} '{name}': {error_text(error)}") from None
    if offset:
        try:
            if outgoing:
                os.ftruncate(fd, offset)
            os.lseek(fd, offset, os.SEEK_SET)
        except OSError as error:
            os.close(fd)
            blame = f"Unable to seek to offset {offset} whence 0 in file"
            if outgoing:
                blame = f"failed to truncate migration file to offset {offset % (1 << 64):x}"
            raise QapiError(f"{blame}: {error_text(error)}") from None
    return fd


def _fd_stream(loop: Loop, address: dict[str, Any], *, outgoing: bool) -> Any:
    text = str(address.get("number", address["str"]))
    fd = digits(text)
    if fd is None or c_int(fd) != fd:
        raise QapiError(f"Invalid file descriptor number '{text}'")
    try:
        mode = os.fstat(fd).st_mode
    except OSError as error:
        raise QapiError(f"Could not open FD {fd}: {error_text(error)}") from None
    if stat.S_ISSOCK(mode):
        return LinkStream(loop, SocketEnd(socket_of_fd(address)), "socket")
    if not (stat.S_ISFIFO(mode) or os.isatty(fd)):
        return FileStream(loop, fd)
    end = FileEnd(-1, fd) if outgoing else FileEnd(fd, -1)
    return LinkStream(loop, end, "file")


def _spawn(loop: Loop, args: list[str]) -> FileEnd:
    """Start a command; its standard output is our input and the other way round."""
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()
    try:
        pid = os.posix_spawnp(
            args[0],
            args,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, read_out, 0),
                (os.POSIX_SPAWN_DUP2, write_in, 1),
            ],
            setsigmask=[],
            setsigdef=[13],
        )
    except OSError as error:
        for fd in (read_in, write_out):
            os.close(fd)
        raise QapiError(
            f"Failed to execute child process “{args[0]}” ({error_text(error)})"
        ) from None
    finally:
        os.close(read_out)
        os.close(write_in)
    pidfd = os.pidfd_open(pid)

    def reap() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

    loop.add_reader(pidfd, reap)
    return FileEnd(read_in, write_out)
