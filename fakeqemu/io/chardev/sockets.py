"""Socket transports of character devices: listening, connecting, reconnecting, passed descriptors.

One client at a time: while it is there nobody else is accepted, so the next one waits in the
kernel's backlog and hears nothing; what it sends meanwhile is read when its turn comes.

See chardev/char-socket.c: tcp_chr_accept(), tcp_chr_disconnect(), qemu_chr_socket_restart_timer(),
tcp_chr_websock_init() and tcp_get_msgfds().
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.io.addresses import (
    listen_on,
    local_name,
    peer_name,
    remove_file,
    socket_of_fd,
)
from fakeqemu.io.link import Link, SocketEnd
from fakeqemu.io.loop import Handle, Loop
from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.formats.websocket import WebSocketServer
    from fakeqemu.io.chardev.telnet import TelnetFilter
    from fakeqemu.io.connect import Connecting

#: seconds until a client is taken for whom there was no descriptor, as asyncio has it
_ACCEPT_RETRY_DELAY = 1.0


class SocketTransport:
    """What the listening and the connecting side share: at most one connection."""

    def __init__(self, loop: Loop, chardev: Chardev) -> None:
        self._loop = loop
        self._chardev = chardev
        self._link: Link | None = None
        self._reading = False
        self._closed = False
        self._telnet: TelnetFilter | None = None
        self._websocket: WebSocketServer | None = None
        #: both ends' addresses, until a client's request has been answered
        self._names: tuple[dict[str, Any], dict[str, Any]] = ({}, {})

    def write(self, data: bytes) -> None:
        """Send to the client."""
        if self._link is not None:
            self._link.write(data if self._websocket is None else self._websocket.frames(data))

    @property
    def unread(self) -> int:
        """Bytes that the client has not taken."""
        return self._link.queued if self._link is not None else 0

    def attach_fds(self, fds: Sequence[int]) -> bool:
        """Send copies of descriptors along; False unless a client is at a UNIX socket's end."""
        if self._link is None or not self._link.takes_fds or self._websocket is not None:
            return False
        self._link.attach(fds)
        return True

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Send and take until `done()`; False if it is not in time."""
        if self._link is not None and self._link.wait(seconds, done):
            return True
        if self._link is not None and not self._link.open:
            self._ended(None)
        return done()

    @property
    def output_failed(self) -> bool:
        """Whether the client takes nothing any more."""
        return self._link is not None and self._link.output_failed

    def set_reading(self, reading: bool) -> None:
        """Take input, or leave it with the kernel."""
        self._reading = reading
        if self._link is not None and (self._websocket is None or self._websocket.open):
            self._link.set_reading(reading)

    def disconnect(self) -> None:
        """Drop the client."""
        if self._link is not None:
            link, self._link = self._link, None
            link.close()
            self._gone()

    def add_client(self, fd: int) -> bool:
        """Take descriptor `fd` as the client, unless there is one."""
        if self._link is not None:
            return False
        try:
            sock = socket_of_fd({"str": str(fd)})
        except QapiError:
            return False
        self.take(sock)
        return True

    def flush(self, timeout: float) -> None:
        """Send what is queued, waiting up to `timeout` seconds."""
        if self._link is not None:
            self._link.flush(timeout)

    def close(self) -> None:
        """Give everything back; nothing is called back."""
        self._closed = True
        if self._link is not None:
            link, self._link = self._link, None
            link.close()

    def take(self, sock: socket.socket) -> None:
        """This is the connection now."""
        options = self._chardev.options
        if options.get("nodelay") and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        names = local_name(sock), peer_name(sock)
        self._link = Link(
            self._loop, SocketEnd(sock), self._input, self._ended, reads_on=True
        )
        self._link.on_drained = self._chardev.drained
        self._websocket = None
        if options.get("websocket"):
            from email.utils import formatdate

            from fakeqemu.formats.websocket import WebSocketServer

            self._names = names
            self._websocket = WebSocketServer(formatdate(usegmt=True))
            self._link.set_reading(True)
            self._link.watch_hangup()
            return
        self._connected(*names)

    def _connected(self, local: dict[str, Any], peer: dict[str, Any]) -> None:
        """The client may speak."""
        assert self._link is not None
        if self._chardev.options.get("telnet"):
            from fakeqemu.io.chardev.telnet import GREETING, TelnetFilter

            self._telnet = TelnetFilter()
            self.write(GREETING)
        self._link.set_reading(self._reading)
        self._link.watch_hangup()
        self._chardev.opened(local, peer)

    def _input(self, data: bytes, fds: list[int]) -> None:
        if self._websocket is not None:
            for fd in fds:
                os.close(fd)
            data, fds = self._unwrapped(self._websocket, data), []
        if self._telnet is not None:
            data = self._telnet.feed(data)
        if data:
            self._chardev.received(data, fds)

    def _unwrapped(self, websocket: WebSocketServer, data: bytes) -> bytes:
        """What a client says in frames; the request before them, and its faults, are answered."""
        assert self._link is not None
        was_open = websocket.open
        said, reply = websocket.feed(data)
        self._link.write(reply)
        if websocket.open and not was_open:
            self._connected(*self._names)
        if websocket.over:
            if said:
                self._chardev.received(said, [])
            self.disconnect()
            return b""
        return said

    def _ended(self, _error: str | None) -> None:
        if self._link is None or self._link.open:
            # `wait` has noticed it before, and the next client may be there
            return
        self._link = None
        self._gone()

    def _gone(self) -> None:
        self._chardev.closed()


class ListeningTransport(SocketTransport):
    """A server: takes the next client when the last one has gone."""

    def __init__(self, loop: Loop, chardev: Chardev) -> None:
        super().__init__(loop, chardev)
        self._listener = listen_on(chardev.address)
        self._accepting = False
        bound = local_name(self._listener)
        self._path = _own_path(chardev.address, bound)
        if chardev.address["type"] == "unix":
            bound = {}
        chardev.bound(bound)
        self._accept_next()

    def keep_file(self) -> None:
        """Leave a UNIX socket's file where it is when closing."""
        self._path = ""

    def close(self) -> None:
        """Stop listening; a UNIX socket's file goes too."""
        super().close()
        self._stop_accepting()
        self._listener.close()
        if self._path:
            with contextlib.suppress(OSError):
                remove_file(self._path)

    def take(self, sock: socket.socket) -> None:
        """A client is there: the others wait."""
        self._stop_accepting()
        super().take(sock)

    def _gone(self) -> None:
        if not self._closed:
            self._accept_next()
        super()._gone()

    def _accept_next(self) -> None:
        self._accepting = True
        self._loop.add_reader(self._listener.fileno(), self._acceptable)

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._listener.fileno())

    def _acceptable(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # the client stays ready to be taken, so that trying at once would never end
                self._stop_accepting()
                self._loop.call_later(_ACCEPT_RETRY_DELAY, self._accept_again)
            return
        self.take(sock)

    def _accept_again(self) -> None:
        if not self._closed and not self._accepting and self._link is None:
            self._accept_next()


class ConnectingTransport(SocketTransport):
    """A client: connected at once or not at all, unless it has `reconnect`."""

    def __init__(self, loop: Loop, chardev: Chardev) -> None:
        super().__init__(loop, chardev)
        options = chardev.options
        self._retry = options.get("reconnect-ms", options.get("reconnect", 0) * 1000) / 1000
        self._timer: Handle | None = None
        self._connecting: Connecting | None = None
        #: called with a line of text when a try fails; set by the host
        self.on_failure: Any = None
        self._complained = False

    def open(self) -> None:
        """Connect, or begin to. Raises QapiError when it fails and is not to be tried again."""
        if self._retry:
            self._try()
        elif self._chardev.address["type"] == "fd":
            self.take(socket_of_fd(self._chardev.address))
        else:
            from fakeqemu.io.connect import connect_now

            self.take(connect_now(self._chardev.address))

    def close(self) -> None:
        """Stop trying too."""
        super().close()
        if self._connecting is not None:
            self._connecting.close()
        if self._timer is not None:
            self._timer.cancel()

    def hush(self) -> None:
        """Tell of no failures: the start has failed, and QEMU's main loop would have told."""
        self.on_failure = None

    def _try(self) -> None:
        self._timer = None
        if self._link is not None or self._closed:
            return
        from fakeqemu.io.connect import Connecting

        self._connecting = Connecting(self._loop, self._chardev.address, self._settled)

    def _settled(self, sock: socket.socket | None, error: QapiError | None) -> None:
        if sock is None:
            assert error is not None
            # QEMU's thread hands it over to the main loop
            self._loop.call_soon(self._failed, error)
        else:
            self._complained = False
            self.take(sock)

    def _failed(self, error: QapiError) -> None:
        if self._closed:
            return
        if self.on_failure is not None and not self._complained:
            self.on_failure(
                f"Unable to connect character device {self._chardev.id}: {error.with_hint}"
            )
        self._complained = True
        self._again()

    def _gone(self) -> None:
        super()._gone()
        if self._retry and not self._closed:
            self._again()

    def _again(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._retry, self._try)


def open_socket(loop: Loop, chardev: Chardev, complain: Any) -> None:
    """Give socket chardev `chardev` its transport. Raises QapiError."""
    if chardev.options.get("tls-creds"):
        raise NotModelledError("chardev socket with tls-creds")
    if chardev.is_server:
        chardev.transport = ListeningTransport(loop, chardev)
        return
    transport = ConnectingTransport(loop, chardev)
    transport.on_failure = complain
    chardev.transport = transport
    try:
        transport.open()
    except QapiError:
        chardev.transport = None
        raise


def _own_path(asked: dict[str, Any], bound: dict[str, Any]) -> str:
    """The socket file to remove at the end; "" where there is none."""
    if bound.get("abstract") or bound["type"] != "unix":
        return ""
    return str(asked.get("path") or bound["path"])
