"""A QMP monitor of the tester's own: on a socket pair, beside those that the machine has.

It is no character device, so `query-chardev` does not show it and the machine's own sockets
stay free for the code under test.
"""

from __future__ import annotations

import socket

from fakeqemu.io.link import Link, SocketEnd
from fakeqemu.io.loop import Loop
from fakeqemu.model.machine import Machine
from fakeqemu.qmp.dispatch import dispatcher_of
from fakeqemu.qmp.session import QmpSession


class PrivateMonitor:
    """The machine's side of the pair; `client_side` is for a client.

    With `ours` the pair was made before, and the other end is elsewhere.
    """

    def __init__(self, vm: Machine, loop: Loop, ours: socket.socket | None = None) -> None:
        self.client_side: socket.socket | None = None
        if ours is None:
            self.client_side, ours = socket.socketpair()
            self.client_side.setblocking(False)
        self._link = Link(loop, SocketEnd(ours), self._input, self._ended)
        self._session = QmpSession(vm, dispatcher_of(vm), self._link.write)
        self._session.start()
        self._link.set_reading(True)

    def close(self) -> None:
        """End the session; the client sees the end of the stream."""
        self._session.close()
        self._link.close()

    def _input(self, data: bytes, fds: list[int]) -> None:
        self._session.receive(data, fds)

    def _ended(self, _error: str | None) -> None:
        self.close()
