"""Frames as datagrams, one each: netdev `dgram`, and `socket` with mcast= or udp=.

See net/dgram.c and net/socket.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.net.client import NetClient
from fakeqemu.model.net.sockets.addresses import (
    HostPort,
    dotted,
    host_port,
    inet_aton,
    is_multicast,
)
from fakeqemu.model.net.sockets.host_sockets import MulticastGroup, UdpEnds, UnixDatagramEnds
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.net.client import Wire
    from fakeqemu.model.net.descriptors import BackendDescriptors, FoundDescriptor
    from fakeqemu.model.net.sockets.host_sockets import DatagramSocket
    from fakeqemu.model.process import Process

#: bytes of sockaddr_un.sun_path, with its terminator
_PATH_SIZE = 108


class DatagramConnection(NetClient):
    """A datagram socket under a link."""

    def __init__(self, wire: Wire, process: Process, name: str) -> None:
        super().__init__(wire, name)
        self._process = process
        self._socket: DatagramSocket | None = None

    def open(self, ends: UdpEnds | MulticastGroup | UnixDatagramEnds | int) -> DatagramSocket:
        """Make the socket, or take a descriptor for it. Raises QapiError."""
        self._socket = self._process.host.sockets.open_datagrams(ends, self._input)
        return self._socket

    def receive(self, frame: bytes) -> int:
        """Send the frame."""
        if self._socket is None:
            return -1
        self._socket.send(frame)
        return len(frame)

    def cleanup(self) -> None:
        """Close the socket."""
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()

    def _input(self, frame: bytes) -> None:
        assert self._socket is not None
        if self.send(frame, self._resume) == 0:
            self._socket.set_reading(False)

    def _resume(self, _taken: int) -> None:
        if self._socket is not None:
            self._socket.set_reading(True)


class DgramClient(DatagramConnection):
    """One `-netdev dgram`."""

    type = "dgram"

    def open_as(
        self, options: dict[str, Any], descriptors: BackendDescriptors, monitor: Any
    ) -> None:
        """Open what the options ask for. See net/dgram.c: net_init_dgram(). Raises QapiError."""
        sockets = self._process.host.sockets
        local, remote = options.get("local"), options.get("remote")
        if remote is not None and remote["type"] == "inet":
            group = host_port(sockets, remote["host"], remote["port"])
            if is_multicast(group[0]):
                self._join(group, local)
                return
        if local is None:
            raise QapiError("dgram requires local= parameter")
        if remote is not None and local["type"] == "fd":
            raise QapiError("don't set remote with local.fd")
        if remote is not None and remote["type"] != local["type"]:
            raise QapiError("remote and local types must be the same")
        if local["type"] == "fd":
            self._adopt(descriptors.find(monitor, local["str"]))
        elif remote is None:
            raise QapiError("type=inet or type=unix requires remote parameter")
        elif local["type"] == "inet":
            here = host_port(sockets, local["host"], local["port"])
            there = host_port(sockets, remote["host"], remote["port"])
            self.open(UdpEnds(here, there))
            self.info = f"udp={here[0]}:{here[1]}/{there[0]}:{there[1]}"
        elif local["type"] == "unix":
            self._open_unix(local["path"], remote["path"])
        else:
            raise QapiError("only support inet or fd type for local")

    def _join(self, group: HostPort, local: dict[str, Any] | None) -> None:
        if local is not None and local["type"] == "fd":
            # QEMU reads the descriptor's number as an inet address here
            raise QapiError("can't setup multicast destination address")
        if local is not None and local["type"] != "inet":
            raise QapiError("only support inet or fd type for local")
        interface = None if local is None else local_interface(local["host"])
        self.model = "dram"
        self.open(MulticastGroup(group, interface))
        self.info = f"mcast={group[0]}:{group[1]}"

    def _open_unix(self, local: str, remote: str) -> None:
        long = next((p for p in (local, remote) if len(c_bytes(p)) >= _PATH_SIZE), None)
        if long is None:
            self.open(UnixDatagramEnds(local, remote))
            self.info = f"udp={local}:{remote}"
            return
        raise QapiError(
            f"UNIX socket path '{long}' is too long",
            f"Path must be less than {_PATH_SIZE} bytes",
        )

    def _adopt(self, found: FoundDescriptor) -> None:
        fd = found.fd
        trouble = self._process.host.fd_error(fd)
        if trouble is not None:
            text = self._process.profile.traits.tap_bad_fd
            raise QapiError(text.format(id=self.name, fd=found.number, error=trouble))
        socket = self.open(fd)
        self.info = f"fd={fd} {socket.family}"


def local_interface(text: str) -> str:
    """The address of a local interface, as localaddr= names it. Raises QapiError."""
    number = inet_aton(text)
    if number is None:
        raise QapiError(f"localaddr '{text}' is not a valid IPv4 address")
    return dotted(number)


def multicast_group(group: HostPort) -> HostPort:
    """`group`, which must be one. Raises QapiError."""
    if not is_multicast(group[0]):
        raise QapiError(
            f"specified mcastaddr {group[0]} (0x{inet_aton(group[0]):08x})"
            " does not contain a multicast address"
        )
    return group
