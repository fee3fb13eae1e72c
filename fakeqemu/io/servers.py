"""Sockets that serve clients of the machine: listening at every address a name stands for.

See io/net-listener.c: qio_net_listener_open_sync().
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from fakeqemu.io.addresses import (
    listen_on,
    local_name,
    peer_name,
    remove_file,
    resolve,
    socket_of_fd,
)
from fakeqemu.io.link import SocketEnd
from fakeqemu.io.loop import Loop
from fakeqemu.io.migration.streams import LinkStream
from fakeqemu.qapi.errors import QapiError

#: what each address of a name has of the name's own
_KEPT = ("to", "mptcp")
Accept = Callable[[LinkStream, dict[str, Any]], None]


class Server:
    """One listening socket; every connection becomes a stream."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        accept: Accept,
        *,
        leave_file: bool = False,
        accepting: bool = False,
    ) -> None:
        self._loop = loop
        self._accept = accept
        self._sock = sock
        self.address: dict[str, Any] = local_name(self._sock)
        self._leave_file = leave_file
        self._accepting = False
        self.set_accepting(accepting)

    @property
    def fd(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._sock.fileno()

    def set_accepting(self, accepting: bool) -> None:
        """Take the next client, or leave it in the backlog."""
        if accepting == self._accepting or self.fd < 0:
            return
        self._accepting = accepting
        if accepting:
            self._loop.add_reader(self.fd, self._acceptable)
        else:
            self._loop.remove_reader(self.fd)

    def close(self) -> None:
        """Stop listening and remove a UNIX socket's file."""
        self._stop(remove=True)

    def abort(self) -> None:
        """The process ends."""
        self._stop(remove=not self._leave_file)

    def _stop(self, *, remove: bool) -> None:
        if self.fd < 0:
            return
        self.set_accepting(False)
        self._sock.close()
        path = self.address.get("path")
        if remove and path and not self.address.get("abstract"):
            with contextlib.suppress(OSError):
                remove_file(path)

    def _acceptable(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        self._accept(*stream_of(self._loop, sock))


def serve(
    loop: Loop, address: dict[str, Any], accept: Accept, *, leave_file: bool
) -> list[Server]:
    """Listen at every address that `address` stands for. Raises QapiError if none can be had."""
    servers: list[Server] = []
    error: QapiError | None = None
    for each in _numeric(address):
        try:
            sock = listen_on(each)
            servers.append(Server(loop, sock, accept, leave_file=leave_file, accepting=True))
        except QapiError as caught:
            error = caught
    if error is not None and not servers:
        raise error
    return servers


def adopt(loop: Loop, fd: int) -> tuple[LinkStream, dict[str, Any]]:
    """A connection that a client has made, and who is at its other end. Raises QapiError."""
    return stream_of(loop, socket_of_fd({"str": str(fd)}))


def stream_of(loop: Loop, sock: socket.socket) -> tuple[LinkStream, dict[str, Any]]:
    """A connected socket as a stream, and the address of its other end."""
    peer = peer_name(sock)
    return LinkStream(loop, SocketEnd(sock), "socket"), peer


def _numeric(address: dict[str, Any]) -> list[dict[str, Any]]:
    if address["type"] != "inet":
        return [address]
    found = []
    for family, target in resolve(address, passive=True):
        kind = {"ipv6": True} if family == socket.AF_INET6 else {"ipv4": True}
        rest = {key: value for key, value in address.items() if key in _KEPT or "keep" in key}
        found.append({"type": "inet", "host": target[0], "port": str(target[1]), **kind, **rest})
    return found


def socket_pair(loop: Loop) -> tuple[LinkStream, int]:
    """A stream, and the descriptor of its other end."""
    ours, theirs = socket.socketpair()
    return LinkStream(loop, SocketEnd(ours), "socket"), theirs.detach()
