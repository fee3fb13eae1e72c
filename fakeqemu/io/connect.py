"""Connecting to a flat SocketAddress: at once, or on an event loop.

A UNIX socket is never "in progress": when the listener's backlog is full, connect(2) of a socket
that does not block says EAGAIN and nothing is under way. QEMU waits there, in a thread of its own
where it has one; here it is tried again until there is room.

See util/qemu-sockets.c: socket_connect(); io/channel-socket.c: qio_channel_socket_connect_async();
net/socket.c: net_socket_connect_init().
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from fakeqemu.io.addresses import connect_error, new_client, new_socket, socket_of_fd
from fakeqemu.io.loop import Handle, Loop
from fakeqemu.qapi.errors import QapiError

Done = Callable[[socket.socket | None, QapiError | None], None]
#: seconds between two looks for room in a listener's backlog
_ROOM = 0.002
#: seconds that everything waits for such room; a real one waits for ever
_PATIENCE = 10.0


class _ClientSocket:
    """A non-blocking socket on its way to `address`; `connected` once it is there."""

    def __init__(self, address: dict[str, Any]) -> None:
        """Set out. Raises QapiError where the refusal is known at once."""
        self.address = address
        self.connected = True
        self._target: Any = None
        if address["type"] == "fd":
            self.sock = socket_of_fd(address)
            self.sock.setblocking(False)
            return
        self.sock, self._target = new_client(address)
        self.sock.setblocking(False)
        self.go()

    @property
    def lacks_room(self) -> bool:
        """Whether nothing is under way, because the listener's backlog is full."""
        return not self.connected and self.sock.family == socket.AF_UNIX

    def go(self) -> None:
        """Connect. Raises QapiError."""
        try:
            self.sock.connect(self._target)
            self.connected = True
        except (BlockingIOError, InterruptedError):
            self.connected = False
        except OSError as error:
            self.fail(error.errno or 0)

    def settle(self) -> None:
        """Look how it went, when the socket can be written. Raises QapiError."""
        if code := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.fail(code)
        self.connected = True

    def fail(self, code: int) -> None:
        """Give up. Raises QapiError."""
        self.sock.close()
        raise connect_error(self.address, OSError(code, os.strerror(code))) from None


class Ipv4Client(_ClientSocket):
    """One that netdev `socket` makes by itself: what is refused at once has a text of its own."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Set out. Raises QapiError where the refusal is known at once."""
        self.address = {}
        self.sock = new_socket(socket.AF_INET, failure="can't create stream socket")
        self._target = address
        self.sock.setblocking(False)
        self.go()

    def fail(self, code: int) -> None:
        """Give up. Raises QapiError."""
        self.sock.close()
        raise QapiError(f"can't connect socket: {os.strerror(code)}")


class Connecting:
    """A connection that a loop makes; `close` gives it up without a word."""

    def __init__(
        self, loop: Loop, address: dict[str, Any] | _ClientSocket, done: Done
    ) -> None:
        """To a flat SocketAddress, or by a socket that has set out already.

        `done(socket, None)` or `done(None, error)`, perhaps before this returns.
        """
        self._loop = loop
        self._done = done
        self._timer: Handle | None = None
        self._client: _ClientSocket | None = None
        try:
            self._client = _ClientSocket(address) if isinstance(address, dict) else address
        except QapiError as error:
            done(None, error)
            return
        self._wait()

    def close(self) -> None:
        """Give up, if it is still on its way."""
        if (client := self._take()) is not None:
            client.sock.close()

    @property
    def finished(self) -> bool:
        """Whether there is nothing to give up any more."""
        return self._client is None

    def _wait(self) -> None:
        client = self._client
        assert client is not None
        if client.connected:
            self._take()
            self._done(client.sock, None)
        elif client.lacks_room:
            self._timer = self._loop.call_later(_ROOM, self._again, client.go)
        else:
            self._loop.add_writer(client.sock.fileno(), self._again, client.settle)

    def _again(self, step: Callable[[], None]) -> None:
        client = self._client
        if client is None:
            return
        if not client.lacks_room:
            self._loop.remove_writer(client.sock.fileno())
        try:
            step()
        except QapiError as error:
            self._client = None
            self._done(None, error)
            return
        self._wait()

    def _take(self) -> _ClientSocket | None:
        client, self._client = self._client, None
        if self._timer is not None:
            self._timer.cancel()
        if client is not None and not client.connected and not client.lacks_room:
            self._loop.remove_writer(client.sock.fileno())
        return client


def connect_now(address: dict[str, Any], seconds: float | None = None) -> socket.socket:
    """A connected, non-blocking socket; waits for it, up to `seconds`. Raises QapiError."""
    client = _ClientSocket(address)
    end = time.monotonic() + (_PATIENCE if seconds is None else seconds)
    while client.lacks_room:
        if time.monotonic() > end:
            client.fail(errno.EAGAIN)
        time.sleep(_ROOM)
        client.go()
    if not client.connected:
        from fakeqemu.poll import writable

        if not writable(client.sock, seconds):
            client.fail(errno.ETIMEDOUT)
        client.settle()
    return client.sock
