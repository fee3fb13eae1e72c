"""A connected descriptor, read and written without blocking: what every transport stands on.

Callbacks, not tasks: the model is synchronous, so input is handed over as it comes and output
is sent at once where the kernel takes it and queued where it does not. Sockets are read with
recvmsg, because descriptors may come along with the bytes.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from fakeqemu.io.addresses import error_text
from fakeqemu.io.loop import Loop

_CHUNK = 65536
#: files are read in slices of this size, one a turn of the loop; QEMU's CHR_READ_BUF_LEN
_SLICE = 4096
_MAX_FDS = 16


class _End(Protocol):
    def fileno(self) -> int: ...

    def read(self) -> tuple[bytes, list[int]]: ...

    def write(self, data: bytes | memoryview) -> int: ...

    def write_fds(self, data: bytes | memoryview, fds: Sequence[int]) -> int: ...

    def close(self) -> None: ...


class SocketEnd:
    """A socket as the two directions of a link; takes descriptors along with bytes."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        #: whether descriptors come and go along with bytes
        self.takes_fds = sock.family == socket.AF_UNIX

    def fileno(self) -> int:
        """Its descriptor."""
        return self._sock.fileno()

    def read(self) -> tuple[bytes, list[int]]:
        """What has come, and the descriptors with it; b"" at the end."""
        if not self.takes_fds:
            return self._sock.recv(_CHUNK), []
        data, ancillary, _, _ = self._sock.recvmsg(_CHUNK, socket.CMSG_SPACE(_MAX_FDS * 4))
        if not ancillary:
            return data, []
        import array

        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        for fd in fds:
            os.set_blocking(fd, True)
        return data, list(fds)

    def write(self, data: bytes | memoryview) -> int:
        """Send; the number of bytes taken."""
        return self._sock.send(data)

    def write_fds(self, data: bytes | memoryview, fds: Sequence[int]) -> int:
        """Send, with descriptors along with the first byte; the number of bytes taken."""
        return socket.send_fds(self._sock, [data], list(fds))

    def close(self) -> None:
        """Close both directions."""
        self._sock.close()


class FileEnd:
    """A pipe, terminal or file by its descriptor, or one for each direction (-1: none)."""

    def __init__(self, fd_in: int, fd_out: int, *, owned: bool = True) -> None:
        for fd in {fd_in, fd_out} - {-1}:
            with contextlib.suppress(OSError):
                os.set_blocking(fd, False)
        self._in = fd_in
        self._out = fd_out
        self._owned = owned

    def fileno(self) -> int:
        """The descriptor input comes from."""
        return self._in

    def out_fileno(self) -> int:
        """The descriptor output goes to."""
        return self._out

    def read(self) -> tuple[bytes, list[int]]:
        """What has come; b"" at the end."""
        return os.read(self._in, _SLICE), []

    def write(self, data: bytes | memoryview) -> int:
        """Send; the number of bytes taken."""
        return os.write(self._out, data) if self._out >= 0 else len(data)

    def write_fds(self, data: bytes | memoryview, fds: Sequence[int]) -> int:
        """Only sockets take descriptors."""
        raise RuntimeError(f"{len(fds)} descriptors and {len(data)} bytes for what is no socket")

    def close(self) -> None:
        """Close what is ours, leave to others what is theirs."""
        for fd in {self._in, self._out} - {-1}:
            if self._owned:
                os.close(fd)
            else:
                with contextlib.suppress(OSError):
                    os.set_blocking(fd, True)


class Link:
    """One connection. `on_input(data, fds)` and `on_end(error text or None)` are called back."""

    def __init__(
        self,
        loop: Loop,
        end: _End,
        on_input: Callable[[bytes, list[int]], None],
        on_end: Callable[[str | None], None],
        *,
        reads_on: bool = False,
        writes_on: bool = False,
    ) -> None:
        self._loop = loop
        #: a write that fails ends output only; what the other side said before is still read
        self._reads_on = reads_on
        #: the end of input ends input only
        self._writes_on = writes_on
        self._input_over = False
        self._mute = False
        self._watches_hangup = False
        self._end: _End | None = end
        self._on_input = on_input
        self._on_end = on_end
        self._reading = False
        #: the loop watches for input; it still does when no more is wanted, until some comes
        self._watched = False
        self._queue = bytearray()
        #: copies of descriptors, and behind how many of the bytes to be sent each lot goes along
        self._attached: list[tuple[int, list[int]]] = []
        self._writing = False
        self._closing = False
        #: called when everything queued has gone out
        self.on_drained: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        """Whether it is still there."""
        return self._end is not None and not self._closing

    @property
    def takes_fds(self) -> bool:
        """Whether descriptors can be sent along."""
        return bool(getattr(self._end, "takes_fds", False))

    def fileno(self) -> int:
        """The descriptor underneath; -1 once closed."""
        return -1 if self._end is None else self._end.fileno()

    @property
    def queued(self) -> int:
        """Bytes waiting to be sent; of what has broken, what was never sent."""
        return len(self._queue)

    @property
    def output_failed(self) -> bool:
        """Whether a write has failed, and only input is still there."""
        return self._mute

    def set_reading(self, reading: bool) -> None:
        """Take input, or leave it with the kernel."""
        if self._end is None or self._closing or reading == self._reading:
            return
        if self._end.fileno() < 0 or self._input_over:
            return
        self._reading = reading
        if reading and not self._watched:
            self._watched = True
            self._watch_hangup(False)
            self._loop.add_reader(self._end.fileno(), self._readable)

    def _readable(self) -> None:
        if self._reading:
            self._read()
        elif self._watched and self._end is not None:
            # only now: most who stop reading go on before more has come
            self._watched = False
            self._loop.remove_reader(self._end.fileno())
            self._watch_hangup(True)

    def write(self, data: bytes) -> None:
        """Send now what can be sent, the rest when it can be."""
        if self._end is None or self._closing or self._mute:
            return
        if not self._queue:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._queue += data
                self._write_failed(error)
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._queue += data
        self._set_writing(True)

    def attach(self, fds: Sequence[int]) -> None:
        """Send copies of descriptors along with the next byte that is written."""
        if self.open:
            self._attached.append((len(self._queue), [os.dup(fd) for fd in fds]))

    def _send(self, data: bytes) -> int:
        """Send some of `data`, which comes next; the number of bytes taken."""
        assert self._end is not None
        if not self._attached:
            return self._end.write(data)
        ahead, fds = self._attached[0]
        sent = self._end.write(data[:ahead]) if ahead else self._end.write_fds(data, fds)
        if not ahead and sent:
            del self._attached[0]
            _close_all(fds)
        self._attached = [(at - sent, each) for at, each in self._attached]
        return sent

    def flush(self, timeout: float) -> None:
        """Send what is queued, waiting for the other side up to `timeout` seconds."""
        end = self._loop.time() + timeout
        while self._queue and self._end is not None:
            left = end - self._loop.time()
            from fakeqemu.poll import writable

            if left <= 0 or not writable(self._out(), left):
                return
            self._writable()

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Hand over what comes until `done()`; False if it is not after `seconds`."""
        end = self._loop.time() + seconds
        self.flush(seconds)
        while not done():
            left = end - self._loop.time()
            if left <= 0 or self._end is None or self._end.fileno() < 0:
                return False
            from fakeqemu.poll import readable

            if readable(self._end.fileno(), left):
                self._read()
        return True

    def close(self) -> None:
        """Send what is queued, then close; nothing is called back any more."""
        if self._end is None:
            return
        if self._queue:
            self.set_reading(False)
            self._closing = True
            return
        self._drop()

    def abort(self) -> None:
        """Close at once, whatever is queued."""
        self._drop()

    def _out(self) -> int:
        assert self._end is not None
        out: Callable[[], int] = getattr(self._end, "out_fileno", self._end.fileno)
        return out()

    def _set_writing(self, writing: bool) -> None:
        if writing == self._writing or self._end is None:
            return
        self._writing = writing
        if writing:
            self._loop.add_writer(self._out(), self._writable)
        else:
            self._loop.remove_writer(self._out())

    def _read(self) -> None:
        if self._end is None:
            return
        try:
            data, fds = self._end.read()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if self._writes_on:
                self._end_input()  # a directory: a real one tries again for ever
            else:
                self._broken(error)
            return
        if data:
            self._on_input(data, fds)
            return
        for fd in fds:
            os.close(fd)
        if self._writes_on:
            self._end_input()
        else:
            self._drop()
        self._on_end(None)

    def _end_input(self) -> None:
        self.set_reading(False)
        self._input_over = True

    def _writable(self) -> None:
        if self._end is None:
            return
        try:
            sent = self._send(bytes(self._queue[:_CHUNK]))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._write_failed(error)
            return
        del self._queue[:sent]
        if self._queue:
            return
        self._set_writing(False)
        if self._closing:
            self._drop()
        elif self.on_drained is not None:
            self.on_drained()

    def watch_hangup(self) -> None:
        """Notice the other side's going even while nothing is read."""
        if not self._watches_hangup and self._end is not None:
            self._watches_hangup = True
            self._loop.hangups.join()
            self._watch_hangup(not self._watched)

    def _watch_hangup(self, watch: bool) -> None:
        if not self._watches_hangup or self._end is None:
            return
        self._loop.hangups.forget(self._end.fileno())
        if watch:
            self._loop.hangups.watch(self._end.fileno(), self._hung_up)

    def _hung_up(self) -> None:
        self._drop()
        self._on_end(None)

    def _write_failed(self, error: OSError) -> None:
        if self._reads_on and not self._closing:
            self._mute = True
            self._queue.clear()
            self._set_writing(False)
        else:
            self._broken(error)

    def _broken(self, error: OSError) -> None:
        notify = not self._closing
        self._drop()
        if notify:
            # never from inside a write: its caller does not expect to be called back
            self._loop.call_soon(self._on_end, error_text(error))

    def _drop(self) -> None:
        if self._watches_hangup:
            self._watch_hangup(False)
            self._watches_hangup = False
            self._loop.hangups.leave()
        end, self._end = self._end, None
        if end is None:
            return
        for _, fds in self._attached:
            _close_all(fds)
        self._attached.clear()
        if self._watched:
            self._loop.remove_reader(end.fileno())
        if self._writing:
            out: Callable[[], int] = getattr(end, "out_fileno", end.fileno)
            self._loop.remove_writer(out())
        self._reading = self._watched = self._writing = False
        end.close()


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def finished(channel: object) -> bool:
    """Whether a channel needs no closing: its link is closed, everything sent, or it says so."""
    link = getattr(channel, "_link", None)
    past = link is not None and not link.open and link.queued == 0
    return past or bool(getattr(channel, "finished", False))
