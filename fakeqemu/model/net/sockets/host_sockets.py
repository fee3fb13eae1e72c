"""The sockets that network backends ask the host for.

`fakeqemu.io` answers with real ones; `NullSockets` answers for `fakeqemu explain` and for tests
of the model alone. Calls that can fail raise QapiError with QEMU's own text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fakeqemu.dataclass import dataclass
from fakeqemu.model.host import Stream
from fakeqemu.qapi.errors import QapiError


class ClientStream(Stream, Protocol):
    """A connected stream socket."""

    @property
    def fd(self) -> int:
        """Its descriptor."""


class ClientListener(Protocol):
    """A listening socket that takes clients only while it is asked to; others wait."""

    #: the address really bound, flat (SocketAddress)
    address: dict[str, Any]
    @property
    def fd(self) -> int:
        """The socket's descriptor."""

    def set_accepting(self, accepting: bool) -> None:
        """Take the next client, or leave it waiting. A new listener takes none."""

    def close(self) -> None:
        """Stop listening and remove a UNIX socket's file."""


class TapDevice(Protocol):
    """An open TAP device of the host."""

    #: name of its interface
    ifname: str

    def run_script(self, script: str) -> None:
        """Run a program on the interface and wait for it. Raises QapiError if it fails."""

    def close(self) -> None:
        """Close it."""


class DatagramSocket(Protocol):
    """A socket whose datagrams are frames; it reads from the beginning."""

    #: its own address, flat (SocketAddress)
    address: dict[str, Any]
    #: SocketAddressType of that address
    family: str
    @property
    def fd(self) -> int:
        """Its descriptor."""

    def send(self, data: bytes) -> None:
        """Send one datagram; it is lost where the kernel does not take it."""

    def set_reading(self, reading: bool) -> None:
        """Take datagrams, or leave them with the kernel."""

    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True, slots=True)
class UdpEnds:
    """A UDP socket: where it is bound, and where it sends (None: it only receives)."""

    local: tuple[str, int]
    remote: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class MulticastGroup:
    """A UDP socket that sends to a group and receives what others send there."""

    group: tuple[str, int]
    #: address of the interface to use; None for any
    interface: str | None


@dataclass(frozen=True, slots=True)
class UnixDatagramEnds:
    """A UNIX datagram socket: its own path, and where it sends."""

    local: str
    remote: str


#: an int is the descriptor of a socket that is connected already
DatagramEnds = UdpEnds | MulticastGroup | UnixDatagramEnds | int


class NetSockets(Protocol):
    """Sockets, as network backends see them."""

    def listen_socket(
        self, address: dict[str, Any], accept: Callable[[Stream, dict[str, Any]], None]
    ) -> ClientListener:
        """Listen at a flat SocketAddress; `accept` gets a connection and its other end's address.

        Raises QapiError with the texts of util/qemu-sockets.c.
        """

    def listen_ipv4(
        self, address: tuple[str, int], accept: Callable[[ClientStream, dict[str, Any]], None]
    ) -> ClientListener:
        """Listen at an IPv4 address and port (0: any). Raises QapiError as net/socket.c does."""

    def connect_socket(
        self,
        address: dict[str, Any],
        done: Callable[[Stream | None, dict[str, Any], str], None],
    ) -> None:
        """Connect to a flat SocketAddress.

        `done(stream, address of its other end, "")` or `done(None, {}, error text)` follows,
        never before this returns.
        """

    def connect_ipv4(
        self, address: tuple[str, int], done: Callable[[Stream | None], None]
    ) -> None:
        """Connect to an IPv4 address and port; `done` follows, with None if nothing listens.

        Raises QapiError for what is refused at once.
        """

    def open_datagrams(
        self, ends: DatagramEnds, received: Callable[[bytes], None]
    ) -> DatagramSocket:
        """A datagram socket; `received` gets each datagram. Raises QapiError."""

    def open_tap(self, ifname: str, *, vnet_hdr: bool) -> TapDevice:
        """Open a TAP device; the kernel chooses a name if `ifname` is empty. Raises QapiError."""

    def resolve_ipv4(self, name: str) -> str | None:
        """The IPv4 address of a host, in dotted form; None if it has none."""

    def socket_type(self, fd: int) -> str | None:
        """What kind of socket `fd` is: "stream", "dgram", a number; None if it is no socket."""


class NullSockets:
    """No network at all: nothing ever comes, and what is sent is lost."""

    def __init__(self) -> None:
        #: (protocol, address, port) of what pretends to be bound
        self._ports: set[tuple[str, str, int]] = set()

    def listen_socket(
        self,
        address: dict[str, Any],
        accept: Callable[[Stream, dict[str, Any]], None],  # noqa: ARG002
    ) -> ClientListener:
        """Pretend to listen at `address`."""
        return _NullSocket(dict(address), lambda: None)

    def listen_ipv4(
        self,
        address: tuple[str, int],
        accept: Callable[[ClientStream, dict[str, Any]], None],  # noqa: ARG002
    ) -> ClientListener:
        """Pretend to listen, at an address once."""
        return self._take_port("tcp", address)

    def connect_socket(
        self,
        address: dict[str, Any],
        done: Callable[[Stream | None, dict[str, Any], str], None],
    ) -> None:
        """Never answer."""

    def connect_ipv4(
        self, address: tuple[str, int], done: Callable[[Stream | None], None]
    ) -> None:
        """Never answer."""

    def open_datagrams(
        self, ends: DatagramEnds, received: Callable[[bytes], None]  # noqa: ARG002
    ) -> DatagramSocket:
        """Pretend to have a socket; what is sent is lost."""
        if isinstance(ends, UdpEnds):
            return self._take_port("udp", ends.local)
        return _NullSocket({"type": "unix", "path": ""}, lambda: None)

    def _take_port(self, kind: str, address: tuple[str, int]) -> _NullSocket:
        host, port = address
        port = port or next(n for n in range(1024, 65536) if (kind, host, n) not in self._ports)
        taken = (kind, host, port)
        if taken in self._ports:
            raise QapiError(f"can't bind ip={host} to socket: Address already in use")
        self._ports.add(taken)
        shown = {"type": "inet", "host": host, "port": str(port)}
        return _NullSocket(shown, lambda: self._ports.discard(taken))

    def open_tap(self, ifname: str, *, vnet_hdr: bool) -> TapDevice:  # noqa: ARG002
        """Pretend to have one."""
        return _NullTap(ifname or "tap0")

    def resolve_ipv4(self, name: str) -> str | None:  # noqa: ARG002
        """No name is known."""
        return None

    def socket_type(self, fd: int) -> str | None:  # noqa: ARG002
        """All are stream sockets."""
        return "stream"


class _NullSocket:
    """A socket on which nothing ever comes."""

    fd = -1

    def __init__(self, address: dict[str, Any], closed: Callable[[], None]) -> None:
        self.address = address
        self.family = str(address["type"])
        self._closed = closed

    def set_accepting(self, accepting: bool) -> None:
        pass

    def set_reading(self, reading: bool) -> None:
        pass

    def send(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self._closed()


class _NullTap:
    """A device that no script has to set up."""

    def __init__(self, ifname: str) -> None:
        self.ifname = ifname

    def run_script(self, script: str) -> None:
        pass

    def close(self) -> None:
        pass
