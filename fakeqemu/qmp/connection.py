"""A client as the request loop sees it: its session, and what carries its bytes.

See monitor/monitor.c: monitor_suspend() and monitor_resume().
"""

from __future__ import annotations

from typing import Any, Protocol

from fakeqemu.qmp.session import QmpSession

#: bytes that a client may leave unread before its next request is carried out
MOST_UNREAD = 64 << 20


class ClientTransport(Protocol):
    """Carries one client's bytes: a character device, for a monitor."""

    @property
    def unread(self) -> int:
        """Bytes of output that the client has not taken; 0 where that cannot be known."""

    def write(self, data: bytes) -> None:
        """Send to the client."""

    def pause(self, paused: bool) -> None:
        """Take no input for now (or do again)."""


class QmpConnection:
    """One client, from greeting to hang-up."""

    def __init__(
        self, session: QmpSession, transport: ClientTransport, monitor: Any = None
    ) -> None:
        """`monitor`: what commands registered with `monitor=True` get; None: this."""
        self.session = session
        self.transport = transport
        self.monitor: Any = monitor if monitor is not None else self
        #: the client has gone
        self.closed = False
        #: a turn of the process was asked for in which its input is read on
        self.turn_asked = False
        #: the session takes no input for now; somebody else wants none to be taken
        self._busy = self._held = False

    def take_fd(self) -> int | None:
        """The next descriptor that the client sent."""
        return self.session.take_fd()

    @property
    def name(self) -> str | None:
        """Id of the monitor's character device; None if it is on none."""
        return getattr(self.transport, "id", None)

    @property
    def may_go_on(self) -> bool:
        """Whether its replies have been encoded and read, as far as they must be."""
        return not self.session.unsent and self.transport.unread <= MOST_UNREAD

    def close(self) -> None:
        """The client has gone; what it asked for is still carried out."""
        self.session.close()
        self.closed = True
        if self._busy or self._held:
            self.transport.pause(False)

    def hold(self, held: bool) -> None:
        """Leave the client's input in the kernel, whatever the session wants."""
        if not self.closed:
            self._held = held
            self.transport.pause(self._busy or held)

    def update_reading(self) -> None:
        """Take input only while there is nothing to be done first."""
        busy = self.session.suspended or self.turn_asked or not self.may_go_on
        if busy != self._busy and not self.closed:
            self._busy = busy
            self.transport.pause(busy or self._held)
