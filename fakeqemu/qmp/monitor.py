"""A QMP monitor: the frontend that gives each client of a character device its own session.

See monitor/qmp.c: monitor_qmp_event() and monitor_init_qmp().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fakeqemu.qmp.connection import QmpConnection
from fakeqemu.qmp.dispatch import Dispatcher

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev


class QmpMonitor:
    """`-qmp`, `-mon mode=control` or object monitor-qmp on a character device."""

    #: chardev-change refuses a monitor's device
    can_hotswap = False

    def __init__(self, dispatcher: Dispatcher, chardev: Chardev, pretty: bool = False) -> None:
        """Sit down on the device and greet a client already there. Raises QapiError if taken."""
        self.chardev = chardev
        self.pretty = pretty
        #: the client that is there, or whose input has ended; None between two
        self.connection: QmpConnection | None = None
        #: called when a client has hung up, and not when the monitor leaves its device
        self.on_client_gone: list[Callable[[], None]] = []
        self._dispatcher = dispatcher
        chardev.attach(self)

    def detach(self) -> None:
        """Leave the device; a client that is there hears no more."""
        self._forget_client()
        self.chardev.detach()

    def take_fd(self) -> int | None:
        """The next descriptor that the client sent."""
        return self.connection.take_fd() if self.connection is not None else None

    # -- Frontend ----------------------------------------------------------------------------

    def chr_opened(self) -> None:
        """A client connected: parser, line count and capabilities are reset."""
        self._forget_client()
        session = self._dispatcher.session(pretty=self.pretty)
        self.connection = QmpConnection(session, self.chardev, monitor=self)
        self._dispatcher.fdsets.client_came()
        self._dispatcher.connect(self.connection)

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """Input from the client."""
        if self.connection is not None:
            self._dispatcher.received(self.connection, data, fds)

    def chr_drained(self) -> None:
        """The client has read its replies."""
        self._dispatcher.run()

    def chr_closed(self) -> None:
        """The client has gone; what it asked for is still carried out.

        Where only input has ended, replies and events are still sent.
        """
        if not self.chardev.output_outlives_input:
            self._forget_client()
        self._dispatcher.fdsets.client_left()
        for call in tuple(self.on_client_gone):
            call()

    def _forget_client(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            self._dispatcher.hung_up(connection)
