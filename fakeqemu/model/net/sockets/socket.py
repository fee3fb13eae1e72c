"""Netdev `socket`, the older way to join machines over IPv4. See net/socket.c."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.net.client import NetClient
from fakeqemu.model.net.sockets.addresses import parse_host_port
from fakeqemu.model.net.sockets.dgram import DatagramConnection, local_interface, multicast_group
from fakeqemu.model.net.sockets.host_sockets import MulticastGroup, UdpEnds
from fakeqemu.model.net.sockets.stream import StreamConnection
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.host import Stream
    from fakeqemu.model.net.client import Wire
    from fakeqemu.model.net.descriptors import BackendDescriptors, FoundDescriptor
    from fakeqemu.model.net.sockets.host_sockets import ClientListener
    from fakeqemu.model.process import Process

_WAYS = ("fd", "listen", "connect", "mcast", "udp")


class SocketStream(StreamConnection):
    """With listen=, connect= or the descriptor of a stream socket."""

    type = "socket"

    def __init__(self, wire: Wire, process: Process, name: str) -> None:
        super().__init__(wire, process, name)
        self._listener: ClientListener | None = None
        self._closed = False

    def listen(self, text: str) -> None:
        """Wait for one client at a time. Raises QapiError."""
        sockets = self._process.host.sockets
        self._listener = sockets.listen_ipv4(parse_host_port(sockets, text), self._accepted)
        self._listener.set_accepting(True)

    def connect_to(self, text: str) -> None:
        """Begin to connect: unless it is refused at once, how that ends is seen later.

        Raises QapiError.
        """
        sockets = self._process.host.sockets
        address = parse_host_port(sockets, text)
        self.link_down = False
        sockets.connect_ipv4(address, self._settled)
        self.info = f"socket: connect to {address[0]}:{address[1]}"

    def adopt(self, fd: int) -> None:
        """Use a connected socket. Raises QapiError."""
        stream, _ = self._process.host.adopt_socket(fd)
        self.info = f"socket: fd={fd}"
        self.take(stream)

    def cleanup(self) -> None:
        """Stop listening too."""
        super().cleanup()
        self._closed = True
        if self._listener is not None:
            self._listener.close()

    def disconnected(self) -> None:
        """Wait for the next client, if there can be one."""
        self.info = ""
        if self._listener is not None:
            self._listener.set_accepting(True)

    def _accepted(self, stream: Stream, peer: dict[str, Any]) -> None:
        assert self._listener is not None
        self._listener.set_accepting(False)
        self.take(stream)
        self.info = f"socket: connection from {peer['host']}:{peer['port']}"

    def _settled(self, stream: Stream | None) -> None:
        if self._closed:
            if stream is not None:
                stream.close()
        elif stream is None:
            self.link_down = True
            self.disconnected()
        else:
            self.take(stream)


class SocketDatagrams(DatagramConnection):
    """With mcast=, udp= or the descriptor of a datagram socket."""

    type = "socket"

    def join(self, text: str, localaddr: str | None) -> None:
        """Send to a group and hear it. Raises QapiError."""
        group = parse_host_port(self._process.host.sockets, text)
        interface = None if localaddr is None else local_interface(localaddr)
        self.open(MulticastGroup(multicast_group(group), interface))
        self.info = f"socket: mcast={group[0]}:{group[1]}"

    def talk_to(self, text: str, localaddr: str) -> None:
        """UDP from one address to another. Raises QapiError."""
        here = parse_host_port(self._process.host.sockets, localaddr)
        there = parse_host_port(self._process.host.sockets, text)
        self.open(UdpEnds(here, there))
        self.info = f"socket: udp={there[0]}:{there[1]}"

    def adopt(self, fd: int) -> None:
        """Use a socket that is connected already. Raises QapiError."""
        self.info = f"socket: fd={fd} {self.open(fd).family}"


def create(
    wire: Wire,
    process: Process,
    descriptors: BackendDescriptors,
    options: dict[str, Any],
    monitor: Any,
) -> NetClient:
    """Make the backend. See net/socket.c: net_init_socket(). Raises QapiError."""
    name: str = options["id"]
    given = [key for key in _WAYS if key in options]
    if len(given) != 1:
        raise QapiError("exactly one of listen=, connect=, mcast= or udp= is required")
    way, value = given[0], options[given[0]]
    localaddr = options.get("localaddr")
    if localaddr is not None and way not in ("mcast", "udp"):
        raise QapiError("localaddr= is only valid with mcast= or udp=")
    if way == "fd":
        return _adopt(wire, process, name, descriptors.find(monitor, value))
    if way in ("mcast", "udp"):
        datagrams = SocketDatagrams(wire, process, name)
        if way == "mcast":
            datagrams.join(value, localaddr)
        elif localaddr is None:
            raise QapiError("localaddr= is mandatory with udp=")
        else:
            datagrams.talk_to(value, localaddr)
        return datagrams
    stream = SocketStream(wire, process, name)
    if way == "listen":
        stream.listen(value)
    else:
        stream.connect_to(value)
    return stream


def _adopt(wire: Wire, process: Process, name: str, found: FoundDescriptor) -> NetClient:
    """A socket that was handed over, by its kind. Raises QapiError."""
    host, fd, number = process.host, found.fd, found.number
    trouble = host.fd_error(fd)
    if trouble is not None and not process.profile.traits.socket_fd_type_first:
        raise QapiError(f"{name}: Can't use file descriptor {number}: {trouble}")
    match host.sockets.socket_type(fd):
        case None:
            raise QapiError("can't get socket option SO_TYPE")
        case "stream":
            stream = SocketStream(wire, process, name)
            stream.adopt(fd)
            return stream
        case "dgram":
            datagrams = SocketDatagrams(wire, process, name)
            datagrams.adopt(fd)
            return datagrams
        case other:
            raise QapiError(
                f"socket type={other} for fd={number} must be either SOCK_DGRAM or SOCK_STREAM"
            )
