"""A QMP monitor of the tester's own: on a socket pair, beside those that the machine has.

It is a monitor like any other, faults included, but its character device is in no list: so
`query-chardev` does not show it and the machine's own sockets stay free for other clients.
"""

from __future__ import annotations

import socket

from fakeqemu.io.link import Link, SocketEnd
from fakeqemu.io.loop import Loop
from fakeqemu.model.chardev.chardev import Chardev, ChardevOptions
from fakeqemu.model.machine import Machine
from fakeqemu.qmp.frontends import make_monitor

#: what a fault's `connection` calls it
CLIENT = "client"


class SocketpairMonitor:
    """The machine's side of the pair; `client_side` is for a client.

    With `ours` the pair was made before, and the other end is elsewhere.
    """

    def __init__(self, vm: Machine, loop: Loop, ours: socket.socket | None = None) -> None:
        self.client_side: socket.socket | None = None
        if ours is None:
            self.client_side, ours = socket.socketpair()
            self.client_side.setblocking(False)
        self._chardev = Chardev(ChardevOptions(CLIENT, "pair", {}), vm.profile.traits)
        self._link = Link(loop, SocketEnd(ours), self._chardev.received, self._ended)
        self._chardev.transport = self
        make_monitor(vm, self._chardev, human=False, pretty=False)
        self._chardev.opened()

    def close(self) -> None:
        """End the session; the client sees the end of the stream."""
        self._chardev.closed()
        self._link.close()

    # -- Transport ---------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send to the client."""
        self._link.write(data)

    def set_reading(self, reading: bool) -> None:
        """Take input, or leave it in the socket."""
        self._link.set_reading(reading)

    def disconnect(self) -> None:
        """Hang up on the client; none comes again."""
        self.close()

    def add_client(self, fd: int) -> bool:  # noqa: ARG002
        """There is only one."""
        return False

    def _ended(self, _error: str | None) -> None:
        self.close()
