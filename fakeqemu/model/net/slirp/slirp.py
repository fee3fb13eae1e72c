"""Netdev `user`: the network that QEMU makes up for a guest, with ports of the host in it.

Ports that are forwarded to the guest are really taken. Nobody in the guest answers, so whoever
connects to one is accepted, hears nothing and is dropped when the attempt times out, after 75
seconds of the guest's time. See net/slirp.c and libslirp's src/slirp.c, src/socket.c,
src/tcp_timer.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass
from fakeqemu.model.net.client import HubPort, NetClient
from fakeqemu.model.net.slirp import guestfwd
from fakeqemu.model.net.slirp.hostfwd import Forward, Place, parse
from fakeqemu.model.net.slirp.options import Network
from fakeqemu.model.net.sockets.addresses import HostPort, dotted
from fakeqemu.model.net.sockets.host_sockets import UdpEnds
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.clock import Timer
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.net.client import Wire
    from fakeqemu.model.net.sockets.host_sockets import ClientListener, ClientStream, DatagramSocket
    from fakeqemu.model.process import Process

#: how long a guest may take to answer (TCPTV_KEEP_INIT)
_CONNECT_TIME = 75 * SECOND
_HEADINGS = (
    "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n"
)


@dataclass(slots=True, eq=False)
class _Forwarded:
    """A rule and the host's port that it has taken."""

    rule: Forward
    socket: ClientListener | DatagramSocket


@dataclass(slots=True, eq=False)
class _Attempt:
    """A client of a forwarded port, whose connection the guest has not answered."""

    rule: Forward
    source: HostPort
    stream: ClientStream
    timer: Timer


class UserNet(NetClient):
    """One user-mode network."""

    type = "user"

    def __init__(
        self, wire: Wire, process: Process, chardevs: Chardevs, options: dict[str, Any]
    ) -> None:
        super().__init__(wire, options["id"])
        self._process = process
        self.network = Network.read(options)
        restrict = "on" if options.get("restrict") else "off"
        self.info = f"net={self.network.address.network_address},restrict={restrict}"
        self._guest_forwards = guestfwd.GuestForwards(self.network, chardevs, process.host)
        #: listening ports and clients of them in one list, the newest first
        self._tcp: list[_Forwarded | _Attempt] = []
        self._udp: list[_Forwarded] = []

    def open(self, options: dict[str, Any]) -> None:
        """Set up the rules that the options ask for, the last first. Raises QapiError."""
        for rule in reversed(options.get("guestfwd", ())):
            self._guest_forwards.add(rule["str"])
        for rule in reversed(options.get("hostfwd", ())):
            self.forward(rule["str"])

    def receive(self, frame: bytes) -> int:
        """Nothing in the network asks for what a machine without a guest sends."""
        return len(frame)

    def cleanup(self) -> None:
        """Give all ports back and drop their clients."""
        for entry in self._tcp:
            if isinstance(entry, _Attempt):
                entry.timer.cancel()
                entry.stream.close()
        for entry in (*self._tcp, *self._udp):
            if isinstance(entry, _Forwarded):
                entry.socket.close()
        self._tcp.clear()
        self._udp.clear()
        self._guest_forwards.close()

    # -- host forwarding -------------------------------------------------------------------

    def forward(self, text: str) -> None:
        """Take the port of rule `text`. Raises QapiError."""
        rule = parse(text, self._process.profile.traits)
        is_udp, address, port = rule.place
        place = (dotted(address), port)
        sockets = self._process.host.sockets
        try:
            if is_udp:
                socket = sockets.open_datagrams(UdpEnds(place, None), self._drop)
                self._udp.insert(0, _Forwarded(rule, socket))
            else:
                listener = sockets.listen_ipv4(
                    place, lambda stream, _peer: self._accepted(rule, listener, stream)
                )
                self._tcp.insert(0, _Forwarded(rule, listener))
                listener.set_accepting(True)
        except QapiError:
            raise QapiError(f"Could not set up host forwarding rule '{text}'") from None

    def remove_forward(self, place: Place) -> bool:
        """Give the port back; False if no rule has taken it. Its clients stay."""
        for entries in (self._tcp, self._udp):
            for entry in entries:
                if isinstance(entry, _Forwarded) and self._bound(entry) == place:
                    entry.socket.close()
                    entries.remove(entry)
                    return True
        return False

    @staticmethod
    def _bound(entry: _Forwarded) -> Place:
        """Where a rule's port really is: port 0 asks for any."""
        is_udp, address, _ = entry.rule.place
        return is_udp, address, int(str(entry.socket.address["port"]))

    def _accepted(self, rule: Forward, listener: ClientListener, stream: ClientStream) -> None:
        source = (dotted(rule.place[1]), int(str(listener.address["port"])))
        timer = self._process.clock.call_later(_CONNECT_TIME, lambda: self._give_up(attempt))
        attempt = _Attempt(rule, source, stream, timer)
        self._tcp.insert(0, attempt)

    def _give_up(self, attempt: _Attempt) -> None:
        self._tcp.remove(attempt)
        attempt.stream.close()

    def _drop(self, datagram: bytes) -> None:
        """No guest takes what comes for it."""
        self._process.journal.note("usernet-dropped", self.name, size=len(datagram))

    # -- info usernet ----------------------------------------------------------------------

    def connections(self) -> str:
        """The network's part of `info usernet`. See libslirp: slirp_connection_info()."""
        hub = self.peer.hub.id if isinstance(self.peer, HubPort) else -1
        lines = [self._line(entry) for entry in (*self._tcp, *self._udp)]
        return f"Hub {hub} ({self.name}):\n{_HEADINGS}{''.join(lines)}"

    def _line(self, entry: _Forwarded | _Attempt) -> str:
        is_udp, address, _ = entry.rule.place
        if isinstance(entry, _Forwarded):
            state, fd = "HOST_FORWARD", entry.socket.fd
            host, port = dotted(address), int(str(entry.socket.address["port"]))
        else:
            state, fd, (host, port) = "SYN_SENT", entry.stream.fd, entry.source
        guest, guest_port = entry.rule.guest
        first = f"  {'UDP' if is_udp else 'TCP'}[{state}]"[:19]
        to = dotted(guest or self.network.dhcp_start)
        source = host if host != "0.0.0.0" else "*"
        return (
            f"{first:<19} {fd:3d} {source:>15} {port:5d} {to:>15} {guest_port:5d}"
            f" {0:5d} {0:5d}\n"
        )
