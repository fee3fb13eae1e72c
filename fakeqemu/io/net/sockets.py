"""Sockets under network backends that bind and connect in ways of their own.

Texts are those of net/socket.c: net_socket_mcast_create() and net/dgram.c; backends on a
SocketAddress use the helpers that character devices and migration have (`addresses`).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from fakeqemu.io.addresses import error_text, listen_on, local_name, new_socket, remove_file
from fakeqemu.io.connect import Connecting, Ipv4Client
from fakeqemu.io.files.passed_fds import check_passed
from fakeqemu.io.loop import Loop
from fakeqemu.io.migration.streams import LinkStream
from fakeqemu.io.net.tap import Tap
from fakeqemu.io.servers import Server, stream_of
from fakeqemu.model.net.sockets.host_sockets import (
    DatagramEnds,
    MulticastGroup,
    UdpEnds,
    UnixDatagramEnds,
)
from fakeqemu.qapi.errors import QapiError

#: larger than any frame
_CHUNK = 1 << 17
_KINDS = {socket.SOCK_STREAM: "stream", socket.SOCK_DGRAM: "dgram"}


def _listen_ipv4(address: tuple[str, int]) -> socket.socket:
    """A listening, non-blocking socket. Raises QapiError."""
    sock = new_socket(socket.AF_INET, failure="can't create stream socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(sock, address, f"ip={address[0]}")
        try:
            sock.listen(1)
        except OSError as error:
            raise QapiError(f"can't listen on socket: {error_text(error)}") from None
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _socket_type(fd: int) -> str | None:
    """What kind of socket a descriptor is; None if it is none."""
    try:
        sock = socket.socket(fileno=fd)
    except (OSError, ValueError):  # not open, no socket; below zero
        return None
    kind = sock.type
    sock.detach()
    return _KINDS.get(kind, str(int(kind)))


class LoopSockets:
    """Sockets on an event loop; `keep` is called with what has to be closed in the end."""

    def __init__(
        self, loop: Loop, keep: Callable[[Any], None], passed_fd: Callable[[int], int]
    ) -> None:
        """`passed_fd`: see `Host`."""
        self._loop = loop
        self._keep = keep
        self._passed_fd = passed_fd

    def listen_socket(
        self, address: dict[str, Any], accept: Callable[[LinkStream, dict[str, Any]], None]
    ) -> Server:
        """Listen at a flat SocketAddress. Raises QapiError."""
        check_passed(address, self._passed_fd)
        return self._serve(listen_on(address), accept)

    def listen_ipv4(
        self, address: tuple[str, int], accept: Callable[[LinkStream, dict[str, Any]], None]
    ) -> Server:
        """Listen at an IPv4 address and port. Raises QapiError."""
        return self._serve(_listen_ipv4(address), accept)

    def connect_socket(
        self,
        address: dict[str, Any],
        done: Callable[[LinkStream | None, dict[str, Any], str], None],
    ) -> None:
        """Connect to a flat SocketAddress; `done` is called in a later turn of the loop."""

        def settled(sock: socket.socket | None, error: QapiError | None) -> None:
            if sock is None:
                done(None, {}, "" if error is None else error.with_hint)
                return
            stream, peer = stream_of(self._loop, sock)
            self._keep(stream)
            done(stream, peer, "")

        def begin() -> None:
            try:
                check_passed(address, self._passed_fd)
            except QapiError as error:
                settled(None, error)
                return
            self._keep(Connecting(self._loop, address, settled))

        self._loop.call_soon(begin)

    def connect_ipv4(
        self, address: tuple[str, int], done: Callable[[LinkStream | None], None]
    ) -> None:
        """Connect to an IPv4 address and port. Raises QapiError for what is refused at once."""

        def settled(sock: socket.socket | None, _error: QapiError | None) -> None:
            if sock is None:
                done(None)
                return
            stream, _peer = stream_of(self._loop, sock)
            self._keep(stream)
            done(stream)

        self._keep(Connecting(self._loop, Ipv4Client(address), settled))

    def open_datagrams(
        self, ends: DatagramEnds, received: Callable[[bytes], None]
    ) -> Datagrams:
        """A datagram socket. Raises QapiError."""
        return _open_datagrams(self._loop, ends, received)

    def open_tap(self, ifname: str, *, vnet_hdr: bool) -> Tap:
        """Open a TAP device. Raises QapiError."""
        return Tap(ifname, vnet_hdr=vnet_hdr)

    def resolve_ipv4(self, name: str) -> str | None:
        """A host's IPv4 address; None if it has none."""
        try:
            return socket.gethostbyname(name)
        except (OSError, UnicodeError):
            return None

    def socket_type(self, fd: int) -> str | None:
        """What kind of socket `fd` is; None if it is none."""
        return _socket_type(fd)

    def _serve(
        self, sock: socket.socket, accept: Callable[[LinkStream, dict[str, Any]], None]
    ) -> Server:
        def accepted(stream: LinkStream, peer: dict[str, Any]) -> None:
            self._keep(stream)
            accept(stream, peer)

        server = Server(self._loop, sock, accepted)
        self._keep(server)
        return server


class Datagrams:
    """One datagram socket."""

    def __init__(
        self, loop: Loop, sock: socket.socket, remote: Any, received: Callable[[bytes], None]
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._remote = remote
        self._received = received
        self._reading = False
        self.address: dict[str, Any] = local_name(sock)
        self.family = str(self.address["type"])
        self.set_reading(True)

    @property
    def fd(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._sock.fileno()

    def send(self, data: bytes) -> None:
        """Send one datagram, if the kernel takes it."""
        with contextlib.suppress(OSError):
            if self._remote is None:
                self._sock.send(data)
            else:
                self._sock.sendto(data, self._remote)

    def set_reading(self, reading: bool) -> None:
        """Take datagrams, or leave them with the kernel."""
        if reading == self._reading or self.fd < 0:
            return
        self._reading = reading
        if reading:
            self._loop.add_reader(self.fd, self._readable)
        else:
            self._loop.remove_reader(self.fd)

    def close(self) -> None:
        """Close it; a UNIX socket's file stays, as QEMU leaves it."""
        self.set_reading(False)
        self._sock.close()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except OSError:
            return
        if data:
            self._received(data)
        elif self.family == "unix":
            # the other end of a pair has gone, or has sent nothing
            self.set_reading(False)


def _open_datagrams(
    loop: Loop, ends: DatagramEnds, received: Callable[[bytes], None]
) -> Datagrams:
    """Make the socket that `ends` describes. Raises QapiError."""
    match ends:
        case UdpEnds(local, remote):
            sock = _udp()
            _prepare(sock, lambda: _bind(sock, local, f"ip={local[0]}", reuse=remote is not None))
            return Datagrams(loop, sock, remote, received)
        case MulticastGroup(group, interface):
            sock = _udp()
            _prepare(sock, lambda: _join(sock, group, interface))
            return Datagrams(loop, sock, group, received)
        case UnixDatagramEnds(path, other):
            return Datagrams(loop, _unix(path), other, received)
    return Datagrams(loop, _adopt(ends), None, received)


def _udp() -> socket.socket:
    return new_socket(socket.AF_INET, socket.SOCK_DGRAM, "can't create datagram socket")


def _prepare(sock: socket.socket, act: Callable[[], None]) -> None:
    try:
        act()
    except BaseException:
        sock.close()
        raise


def _bind(sock: socket.socket, address: Any, shown: str, *, reuse: bool = False) -> None:
    try:
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        raise QapiError(f"can't bind {shown} to socket: {error_text(error)}") from None


def _join(sock: socket.socket, group: tuple[str, int], interface: str | None) -> None:
    _bind(sock, group, f"ip={group[0]}", reuse=True)
    own = socket.inet_aton(interface or "0.0.0.0")
    try:
        member = socket.inet_aton(group[0]) + own
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    except OSError as error:
        raise QapiError(
            f"can't add socket to multicast group {group[0]}: {error_text(error)}"
        ) from None
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    if interface is not None:
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        except OSError as error:
            raise QapiError(
                f"can't set the default network send interface: {error_text(error)}"
            ) from None


def _unix(path: str) -> socket.socket:
    try:
        remove_file(path)
    except OSError as error:
        raise QapiError(f"failed to unlink socket {path}: {error_text(error)}") from None
    sock = new_socket(socket.AF_UNIX, socket.SOCK_DGRAM, "can't create datagram socket")
    _prepare(sock, lambda: _bind(sock, path, f"unix={path}"))
    return sock


def _adopt(fd: int) -> socket.socket:
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        raise QapiError(
            f"Unable to query local socket address: {error_text(error)}"
        ) from None
