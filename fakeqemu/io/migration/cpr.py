"""CPR state on real sockets: the old process sends it, the new one waits for it.

The connection says more than the state: the old process keeps it until the new one closes it,
which means that the main channel is listened for. Descriptors travel along, one with each
piece that ends in a byte for it.

See migration/cpr-transfer.c: cpr_transfer_output() and cpr_transfer_input().
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fakeqemu.io.addresses import listen_on, remove_file, socket_of_fd
from fakeqemu.io.connect import connect_now
from fakeqemu.io.link import SocketEnd
from fakeqemu.io.loop import Loop
from fakeqemu.migration.cpr_state import CprReader
from fakeqemu.model.fds.cpr_fds import SavedFd
from fakeqemu.model.host import CprChannel
from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.readers.scalars import c_int, digits

#: seconds in which the other side takes the state, which is small
_PATIENCE = 10.0
_CHUNK = 4096
#: bytes of memory that are read at once
_MEMORY_PIECE = 1 << 20
#: names the descriptor of the state in the environment of what is executed
EXEC_STATE = "QEMU_CPR_EXEC_STATE"


class CprSender:
    """The old process's end: everything is sent at once, then the other end is watched."""

    def __init__(
        self,
        loop: Loop,
        address: dict[str, Any],
        pieces: Sequence[tuple[bytes, int | None]],
        hung_up: Callable[[], None],
    ) -> None:
        """Connect and send. Raises QapiError if nothing listens."""
        self._loop = loop
        self._hung_up: Callable[[], None] | None = hung_up
        self._sock = connect_now(address, _PATIENCE)
        self._sock.settimeout(_PATIENCE)
        # one that has gone already is seen as one that goes
        with contextlib.suppress(OSError):
            for data, fd in pieces:
                socket.send_fds(self._sock, [data], [] if fd is None else [fd])
            self._sock.shutdown(socket.SHUT_WR)
        self._sock.setblocking(False)
        loop.add_reader(self._sock.fileno(), self._readable)

    def close(self) -> None:
        """Watch no more."""
        self._hung_up = None
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _readable(self) -> None:
        try:
            if self._sock.recv(_CHUNK):
                return  # nobody has anything to say here
        except BlockingIOError:
            return
        except OSError:
            pass
        hung_up = self._hung_up
        self.close()
        if hung_up is not None:
            hung_up()


class CprReceiver:
    """The new process's end: waits for one connection, reads the state, keeps it open."""

    def __init__(
        self,
        loop: Loop,
        address: dict[str, Any],
        reader: CprReader,
        done: Callable[[Any], None],
    ) -> None:
        """`done` gets a CprChannel once. Raises QapiError for what cannot be listened at."""
        self._loop = loop
        self._reader = reader
        self._done: Callable[[Any], None] | None = done
        self._end: SocketEnd | None = None
        self._listener: socket.socket | None = None
        self._path = ""
        if address["type"] == "fd":
            self._connected(socket_of_fd(address))
            return
        self._listener = listen_on(address, 1)
        self._path = "" if address.get("abstract") else address["path"]
        loop.add_reader(self._listener.fileno(), self._acceptable)

    def close(self) -> None:
        """Stop waiting, and let the old process go on."""
        self._stop_listening()
        if self._end is not None:
            self._loop.remove_reader(self._end.fileno())
            self._end.close()
            self._end = None

    def _stop_listening(self) -> None:
        if self._listener is None:
            return
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self._listener = None
        if self._path:
            with contextlib.suppress(OSError):
                remove_file(self._path)

    def _acceptable(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._stop_listening()
        self._connected(sock)

    def _connected(self, sock: socket.socket) -> None:
        self._end = SocketEnd(sock)
        self._loop.add_reader(self._end.fileno(), self._readable)

    def _readable(self) -> None:
        assert self._end is not None
        try:
            data, fds = self._end.read()
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        saved: list[SavedFd] | None = None
        error: QapiError | None = None
        try:
            saved = self._reader.feed(data, fds) if data else self._reader.feed_eof()
        except QapiError as refused:
            error = refused
        if saved is None and error is None:
            return
        # at the end of its input it would be ready for ever
        self._loop.remove_reader(self._end.fileno())
        done, self._done = self._done, None
        if done is not None:
            complaints = tuple(self._reader.complaints)
            done(CprChannel(tuple(saved or ()), self._close_end, error, complaints))

    def _close_end(self) -> None:
        if self._end is not None:
            self._end.close()
            self._end = None


def create_memory(name: str, size: int) -> int:
    """Memory that another process can map too, as a descriptor. Raises QapiError."""
    try:
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create(name[:249], os.MFD_CLOEXEC)
        else:
            import tempfile

            fd, path = tempfile.mkstemp()
            os.unlink(path)  # noqa: PTH108 - as memory has no name
        os.ftruncate(fd, size)
    except OSError as error:
        raise QapiError(f"failed to create memfd: {error.strerror}") from None
    return fd


def replace_process(args: list[str], state: bytes, fds: Sequence[int]) -> None:
    """Become the command `args`, which has `fds` and a file with `state`. Raises QapiError."""
    file = os.memfd_create(EXEC_STATE, 0)
    os.write(file, state)
    for fd in (file, *fds):
        os.set_inheritable(fd, True)
    try:
        os.execvpe(args[0], args, {**os.environ, EXEC_STATE: str(file)})
    except OSError as error:
        os.close(file)
        for fd in fds:
            os.set_inheritable(fd, False)
        raise QapiError(f"execvp {args[0]} failed: {error.strerror}") from None


def left_by_exec() -> bytes:
    """What the process that executed us has left in the descriptor that the environment names.

    Raises StartupError where that is no number.
    """
    text = os.environ.pop(EXEC_STATE)
    try:
        return _read_left(text)
    except ValueError:
        raise StartupError(f"{EXEC_STATE}={text} is no descriptor") from None


def _read_left(text: str) -> bytes:
    try:
        fd = digits(text)
        if fd is None or c_int(fd) != fd:
            raise ValueError(text)
        os.lseek(fd, 0, os.SEEK_SET)
        data = b""
        while piece := os.read(fd, 1 << 16):
            data += piece
        os.close(fd)
    except OSError:
        return b""
    return data


def read_memory(fd: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of what is there; holes are passed over."""
    at = 0
    while True:
        try:
            if hasattr(os, "SEEK_DATA"):
                at = os.lseek(fd, at, os.SEEK_DATA)
                end = os.lseek(fd, at, os.SEEK_HOLE)
            elif (end := os.fstat(fd).st_size) <= at:
                return
        except OSError:
            return  # nothing but a hole, or no such memory
        while at < end:
            data = os.pread(fd, min(end - at, _MEMORY_PIECE), at)
            if not data:
                return
            yield at, data
            at += len(data)
