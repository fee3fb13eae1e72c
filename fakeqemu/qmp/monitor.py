"""A QMP monitor: the frontend that gives each client of a character device its own session.

See monitor/qmp.c: monitor_qmp_event() and monitor_init_qmp().
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fakeqemu.qmp.dispatch import Dispatcher, dispatcher_of
from fakeqemu.qmp.session import QmpSession

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.machine import Machine


class QmpMonitor:
    """`-qmp`, `-mon mode=control` or object monitor-qmp on a character device."""

    #: chardev-change refuses a monitor's device
    can_hotswap = False

    def __init__(
        self,
        vm: Machine,
        chardev: Chardev,
        pretty: bool = False,
        *,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        """Sit down on the device and greet a client already there. Raises QapiError if taken."""
        self.chardev = chardev
        self.pretty = pretty
        #: the client that is there; None between two
        self.session: QmpSession | None = None
        #: the session takes no input for now; somebody else wants none to be taken
        self._busy = self._held = False
        self._vm = vm
        self._dispatcher = dispatcher if dispatcher is not None else dispatcher_of(vm)
        chardev.attach(self)

    def detach(self) -> None:
        """Leave the device; a client that is there hears no more."""
        self.chr_closed()
        self.chardev.detach()

    def take_fd(self) -> int | None:
        """The next descriptor that the client sent."""
        return self.session.take_fd() if self.session is not None else None

    # -- Frontend ----------------------------------------------------------------------------

    def chr_opened(self) -> None:
        """A client connected: parser, line count and capabilities are reset."""
        self.chr_closed()
        self.session = QmpSession(
            self._vm,
            self._dispatcher,
            self._send,
            self.pretty,
            monitor=self,
            on_pause=self._pause,
            unread=lambda: self.chardev.unread,
        )
        self.session.start()

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """Input from the client."""
        if self._dispatcher.hooks is not None:
            self._dispatcher.hooks.input(self, data, fds)
        else:
            self.take(data, fds)

    def chr_drained(self) -> None:
        """The client has read its replies."""
        if self.session is not None:
            self.session.take_up()

    def chr_closed(self) -> None:
        """The client has gone; what it asked for is still carried out."""
        session, self.session = self.session, None
        if session is not None:
            session.close()
            self._busy = False
            self.hold(False)

    # -- what stands between -----------------------------------------------------------------

    def take(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Input for the session that is there."""
        if self.session is not None:
            self.session.receive(data, fds)

    def hold(self, held: bool) -> None:
        """Leave the client's input in the kernel, whatever the session wants."""
        self._held = held
        self._pause(self._busy)

    def _pause(self, busy: bool) -> None:
        self._busy = busy
        self.chardev.pause(busy or self._held)

    def _send(self, line: bytes) -> None:
        if self._dispatcher.hooks is not None:
            self._dispatcher.hooks.output(self, line)
        else:
            self.chardev.write(line)
