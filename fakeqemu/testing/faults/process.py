"""What faults do to the process itself, and who is spared: the handle's own client, as it comes."""

from __future__ import annotations

import contextlib
import os
import signal as signals
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import Timer, VirtualClock
from fakeqemu.io.host import OsHost
from fakeqemu.testing.faults.model import ExitFault, SlowReading

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.host import Host
    from fakeqemu.model.machine import Machine
    from fakeqemu.qmp.connection import QmpConnection


def exit_status(exit: ExitFault) -> int:
    """What the process leaves with: below zero, a signal."""
    if exit.signal is None:
        return exit.code
    if isinstance(exit.signal, int):
        return -exit.signal
    return -int(signals.Signals[f"SIG{exit.signal.upper().removeprefix('SIG')}"])


class StoppedProcess:
    """Whether a process is stopped, and the input that waits until it continues."""

    def __init__(
        self, host: Host, note: Callable[[str], None], resumed: Callable[[], None]
    ) -> None:
        self.stopped = False
        self._host = host
        self._note = note
        self._resumed = resumed
        self._waiting: list[Callable[[], None]] = []
        self._connections: list[QmpConnection] = []

    def stop(self, seconds: float | None) -> None:
        """Stop; a process of the machine's own really, at the loop's next turn."""
        host = self._host
        self.stopped = True
        if not isinstance(host, OsHost):
            return
        if not host.own_process:
            if seconds is not None:
                host.loop.call_later(seconds, self.resume)
            return
        if seconds is not None:
            # whoever is stopped cannot wake himself: a child does it
            wake = f"sleep {seconds}; kill -CONT {os.getpid()}"
            os.posix_spawnp("sh", ["sh", "-c", wake], os.environ)
        host.loop.call_soon(self._stop_here)

    def _stop_here(self) -> None:
        os.kill(os.getpid(), signals.SIGSTOP)
        self.resume()

    def resume(self) -> None:
        """Go on with what has come."""
        if not self.stopped:
            return
        self.stopped = False
        self._note("continue-process")
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()
        for connection in self._connections:
            connection.hold(False)
        self._connections.clear()
        self._resumed()

    def later(self, call: Callable[[], None]) -> None:
        """Call when it continues."""
        self._waiting.append(call)

    def hold(self, connection: QmpConnection) -> None:
        """Read nothing from the client until it continues."""
        connection.hold(True)
        self._connections.append(connection)

    def unless_stopped(self, call: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """`call`, but later while it is stopped."""

        def received(data: bytes) -> None:
            if self.stopped:
                self.later(lambda: call(data))
            else:
                call(data)

        return received


def remove_sockets(vm: Machine) -> Iterator[Chardev]:
    """Delete the socket files of the character devices; each device as it loses its own."""
    for chardev in vm.chardevs.values():
        address = chardev.address
        if address.get("type") == "unix" and chardev.is_server and "path" in address:
            yield chardev
            with contextlib.suppress(OSError):
                Path(address["path"]).unlink()


def arriving(connection: QmpConnection, command: str | None = None) -> bool:
    """Whether it is the handle's own client, which introduces itself: that always goes well.

    `command`: the one that a line replies to.
    """
    own = getattr(connection.transport, "backend", None) == "pair"
    return own and (not connection.session.negotiated or command == "qmp_capabilities")


def when_idle(vm: Machine, loop: Any, call: Callable[[], None]) -> None:
    """Run `call` when the machine is idle, before its clock advances."""
    pending = [call]
    timers: list[Timer] = []

    def run() -> None:
        for timer in timers:
            timer.cancel()
        while pending:
            pending.pop()()

    if loop is not None:
        loop.call_soon(run)
    if loop is None or isinstance(vm.clock, VirtualClock):
        # a long advance must not run past the moment
        timers.append(vm.process.call_later(0, run))


def feed_slowly(
    loop: Any,
    connection: QmpConnection,
    rest: bytes,
    fault: SlowReading,
    take: Callable[[bytes], None],
) -> None:
    """Have a monitor, whose client is held, read `rest` piece by piece."""

    def go_on() -> None:
        if not connection.closed:  # another client may be there
            take(rest[: fault.size])
            feed_slowly(loop, connection, rest[fault.size :], fault, take)

    if rest:
        loop.call_later(fault.gap, go_on)
    else:
        loop.call_later(fault.gap, connection.hold, False)
