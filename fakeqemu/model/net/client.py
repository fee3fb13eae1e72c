"""Net clients: the two ends of a link, and the frames that are sent from one to the other.

A frame that its receiver cannot take yet waits in the receiver's queue, and whoever sent it
stops reading its socket until it has been taken. Nothing moves while the VM is stopped; a stop
drops what a NIC without a driver has left waiting. See net/net.c and net/queue.c.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.qdev.device import DeviceObject

#: frames that wait for one receiver before those without a sender to hold up are dropped
#: (net/queue.c: qemu_new_net_queue())
_MAX_QUEUED = 10_000
#: bytes of NetClientState.info_str, without its terminator
_INFO_LIMIT = 255

#: called with the bytes taken of a frame that had to wait; 0 if it was dropped
Sent = Callable[[int], None]


class Wire(Protocol):
    """What frames pass on their way from one end of a link to the other."""

    @property
    def running(self) -> bool:
        """Whether frames move."""

    def keep_in_filter(self, sender: NetClient, peer: NetClient, frame: bytes) -> bool:
        """Show a frame to the filters on its way; True if one has kept it."""


class NetClient:
    """One end of a link: NetClientState. Subclasses take frames and own sockets."""

    #: NetClientDriver, as `info network` shows it
    type = ""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self.name = name
        #: what names of nameless clients are made from
        self.model = self.type
        self.peer: NetClient | None = None
        #: True after `set_link ... off`, and while a socket is not connected
        self.link_down = False
        #: whether netdev_del may remove it
        self.is_netdev = True
        self._info = ""
        #: what its making on the command line is worth a warning for
        self.warnings: list[str] = []
        self._queue: deque[tuple[NetClient, bytes, Sent | None]] = deque()
        self._delivering = False
        self._receive_disabled = False

    @property
    def info(self) -> str:
        """What follows the type in `info network`."""
        return self._info

    @info.setter
    def info(self, text: str) -> None:
        self._info = c_bytes(text)[:_INFO_LIMIT].decode("utf-8", "surrogateescape")

    # -- what kinds of clients do in their own ways ----------------------------------------

    def can_receive(self) -> bool:
        """Whether a frame would be taken now."""
        return True

    def receive(self, frame: bytes) -> int:  # noqa: ARG002
        """Take a frame: the bytes taken, 0 if it has to wait, -1 if it is dropped."""
        return -1

    def nic_was_reset(self) -> None:
        """The NIC on a backend has been reset."""

    def block_migration(self) -> None:
        """There is a migration now, which may have to be blocked. Raises QapiError."""

    def flush_others(self) -> None:
        """Of a hub port: deliver what waits for the hub's other ports."""

    def cleanup(self) -> None:
        """Give sockets back; the client is not used again."""

    # -- sending ---------------------------------------------------------------------------

    def connect(self, peer: NetClient) -> None:
        """Join both ends of a link."""
        self.peer, peer.peer = peer, self

    def send(self, frame: bytes, sent: Sent | None = None) -> int:
        """Send to the peer: the frame's size, or 0 if it waits; `sent` is called later then.

        See net/net.c: qemu_send_packet_async_with_flags().
        """
        peer = self.peer
        if self.link_down or peer is None:
            return len(frame)
        if self._wire.keep_in_filter(self, peer, frame):
            return len(frame)
        return peer.enqueue(self, frame, sent)

    def enqueue(self, sender: NetClient, frame: bytes, sent: Sent | None) -> int:
        """Take a frame now, or queue it and return 0. See net/queue.c: qemu_net_queue_send()."""
        if self._delivering or not sender.can_send():
            self._append(sender, frame, sent)
            return 0
        taken = self._deliver(frame)
        if taken == 0:
            self._append(sender, frame, sent)
            return 0
        self._flush_queue()
        return taken

    def can_send(self) -> bool:
        """Whether the VM runs and the peer takes frames."""
        if not self._wire.running:
            return False
        return self.peer is None or self.peer.can_take_now()

    def can_take_now(self) -> bool:
        """Whether nothing holds frames up at this end."""
        return not self._receive_disabled and self.can_receive()

    def flush(self, *, purge: bool = False) -> None:
        """Deliver what waits; with `purge`, drop what still cannot be taken."""
        self._receive_disabled = False
        if self.peer is not None:
            self.peer.flush_others()
        if not self._flush_queue() and purge:
            self._purge(self.peer)

    def _append(self, sender: NetClient, frame: bytes, sent: Sent | None) -> None:
        if len(self._queue) < _MAX_QUEUED or sent is not None:
            self._queue.append((sender, frame, sent))

    def _deliver(self, frame: bytes) -> int:
        if self.link_down:
            return len(frame)
        if self._receive_disabled:
            return 0
        self._delivering = True
        try:
            taken = self.receive(frame)
        finally:
            self._delivering = False
        if taken == 0:
            self._receive_disabled = True
        return taken

    def _flush_queue(self) -> bool:
        if self._delivering:
            return False
        while self._queue:
            sender, frame, sent = self._queue.popleft()
            taken = self._deliver(frame)
            if taken == 0:
                self._queue.appendleft((sender, frame, sent))
                return False
            if sent is not None:
                sent(taken)
        return True

    def _purge(self, sender: NetClient | None) -> None:
        dropped = [packet for packet in self._queue if packet[0] is sender]
        self._queue = deque(packet for packet in self._queue if packet[0] is not sender)
        for _, _, sent in dropped:
            if sent is not None:
                sent(0)


class Nic(NetClient):
    """A network card. No driver has set it up, so it takes no frames of its own accord."""

    type = "nic"

    def __init__(self, wire: Wire, device: DeviceObject, name: str, mac: str) -> None:
        super().__init__(wire, name)
        self.device = device
        self.model = device.type
        self.mac = mac
        self.info = f"model={device.type},macaddr={mac}"
        #: whether query-rx-filter knows it
        self.rx_filter = False
        #: whether its backend was deleted under it
        self.peer_deleted = False

    def can_receive(self) -> bool:
        """A device that no driver has set up takes nothing."""
        return False


class HubPort(NetClient):
    """A port of a hub, which repeats every frame to the other ports. See net/hub.c."""

    type = "hubport"

    def __init__(self, wire: Wire, name: str, hub: Hub) -> None:
        super().__init__(wire, name)
        self.model = "hub"
        self.hub = hub

    def can_receive(self) -> bool:
        """Whether any of the others can pass a frame on."""
        return any(port.can_send() for port in self.hub.ports if port is not self)

    def receive(self, frame: bytes) -> int:
        """Repeat the frame to all others."""
        for port in self.hub.ports:
            if port is not self:
                port.send(frame)
        return len(frame)

    def flush_others(self) -> None:
        """Deliver what waits at the other ports."""
        for port in self.hub.ports:
            if port is not self:
                port._flush_queue()

    def cleanup(self) -> None:
        """Leave the hub."""
        self.hub.ports.remove(self)


class Hub:
    """A hub; it stays when its last port goes."""

    def __init__(self, id: int) -> None:
        self.id = id
        #: the newest first
        self.ports: list[HubPort] = []
        #: how many ports it has ever had: their default names count
        self._count = 0

    def add_port(self, wire: Wire, name: str | None) -> HubPort:
        """A new port; without a name it gets one like `hub0port1`."""
        port = HubPort(wire, name or f"hub{self.id}port{self._count}", self)
        self._count += 1
        self.ports.insert(0, port)
        return port
