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
from collections.abc import Callable
from typing import Any

from fakeqemu.io.addresses import (
    error_text,
    listen_on,
    local_name,
    remove_file,
    socket_of_fd,
)
from fakeqemu.io.connect import Connecting, connect_now
from fakeqemu.io.files.fdset_open import Opener
from fakeqemu.io.link import FileEnd, SocketEnd
from fakeqemu.io.loop import Loop
from fakeqemu.io.migration.streams import FileStream, LinkStream
from fakeqemu.model.host import Stream
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.scalars import c_int, digits

Done = Callable[[Stream | None, str], None]
#: seconds between two attempts to connect
_RETRY = 1.0
#: seconds between two looks at a child, where nothing tells of its end
_REAP_PERIOD = 0.1


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


class OpeningChannel:
    """An outgoing channel on its way: `done(stream, "")` or `done(None, error text)` comes later.

    Raises QapiError for what is refused at once: files, commands, descriptors.
    """

    def __init__(
        self, loop: Loop, address: dict[str, Any], done: Done, opener: Opener = os.open
    ) -> None:
        self._loop = loop
        self._done: Done | None = done
        self._connecting: Connecting | None = None
        self._stream: Stream | None = None
        if address["transport"] == "socket" and address.get("type") != "fd":
            loop.call_soon(self._connect, address)
        else:
            self._stream = open_local(loop, address, outgoing=True, opener=opener)
            loop.call_soon(self._tell, "")

    def close(self) -> None:
        """Give it up, if nobody has it yet."""
        self._done = None
        if self._connecting is not None:
            self._connecting.close()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @property
    def finished(self) -> bool:
        """Whether `done` has been told."""
        return self._done is None

    def _connect(self, address: dict[str, Any]) -> None:
        if self._done is not None:
            self._connecting = Connecting(self._loop, address, self._connected)

    def _connected(self, sock: socket.socket | None, error: QapiError | None) -> None:
        if sock is not None:
            self._stream = LinkStream(self._loop, SocketEnd(sock), "socket")
        self._tell("" if error is None else error.with_hint)

    def _tell(self, error: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            stream, self._stream = self._stream, None
            done(stream, error)


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
    _reap_later(loop, pid)
    return FileEnd(read_in, write_out)


def _reap_later(loop: Loop, pid: int) -> None:
    """Collect a child when it ends."""
    if not hasattr(os, "pidfd_open"):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                loop.call_later(_REAP_PERIOD, _reap_later, loop, pid)
        return
    pidfd = os.pidfd_open(pid)

    def reap() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

    loop.add_reader(pidfd, reap)
