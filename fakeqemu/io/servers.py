"""Sockets that serve clients of the machine: listening at every address a name stands for."""

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
from fakeqemu.io.channels import LinkStream
from fakeqemu.io.link import SocketEnd
from fakeqemu.io.loop import Loop
from fakeqemu.model.host import Stream
from fakeqemu.qapi.errors import QapiError

Accept = Callable[[Stream, dict[str, Any]], None]


class Server:
    """One listening socket; every connection becomes a stream."""

    def __init__(
        self, loop: Loop, address: dict[str, Any], accept: Accept, *, leave_file: bool
    ) -> None:
        self._loop = loop
        self._accept = accept
        self._sock = listen_on(address)
        self.address: dict[str, Any] = local_name(self._sock)
        self._leave_file = leave_file
        loop.add_reader(self._sock.fileno(), self._acceptable)

    def close(self) -> None:
        """Stop listening and remove a UNIX socket's file."""
        self._stop(remove=True)

    def abort(self) -> None:
        """The process ends."""
        self._stop(remove=not self._leave_file)

    def _stop(self, *, remove: bool) -> None:
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
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
        self._accept(*_stream(self._loop, sock))


def serve(
    loop: Loop, address: dict[str, Any], accept: Accept, *, leave_file: bool
) -> list[Server]:
    """Listen at every address that `address` stands for. Raises QapiError if none can be had."""
    servers: list[Server] = []
    error: QapiError | None = None
    for each in _numeric(address):
        try:
            servers.append(Server(loop, each, accept, leave_file=leave_file))
        except QapiError as caught:
            error = caught
    if error is not None and not servers:
        raise error
    return servers


def adopt(loop: Loop, fd: int) -> tuple[Stream, dict[str, Any]]:
    """A connection that a client has made, and who is at its other end. Raises QapiError."""
    return _stream(loop, socket_of_fd({"str": str(fd)}))


def _stream(loop: Loop, sock: socket.socket) -> tuple[Stream, dict[str, Any]]:
    peer = peer_name(sock)
    return LinkStream(loop, SocketEnd(sock), "socket"), peer


def _numeric(address: dict[str, Any]) -> list[dict[str, Any]]:
    if address["type"] != "inet":
        return [address]
    found = []
    for family, target in resolve(address, passive=True):
        kind = {"ipv6": True} if family == socket.AF_INET6 else {"ipv4": True}
        rest = {key: address[key] for key in ("to",) if key in address}
        found.append({"type": "inet", "host": target[0], "port": str(target[1]), **kind, **rest})
    return found
