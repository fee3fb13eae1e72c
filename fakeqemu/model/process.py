"""The emulated QEMU process: which version it is, its time, its host, its phases, and its end.

This is what nearly every part of a machine needs besides the few others that it works with, so
parts take it whole. It knows nothing of any part.

See system/runstate.c: main_loop_should_exit(); hw/core/qdev.c: phase_advance(), phase_check().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fakeqemu.clock import Clock, Timer
from fakeqemu.guard import Failed, Guard
from fakeqemu.journal import Journal
from fakeqemu.model.events import Events

if TYPE_CHECKING:
    from fakeqemu.model.host import Host
    from fakeqemu.profile import Profile

#: each reached once and in this order
PHASES = (
    "no-machine",
    "machine-created",
    "accel-created",
    "late-backends-created",
    "machine-initialized",
    "machine-ready",
)


class Phases:
    """How far a start has come; what may be asked for depends on it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._current = PHASES[0]

    @property
    def current(self) -> str:
        """The phase last reached, one of PHASES."""
        return self._current

    def enter(self, phase: str) -> None:
        """The boot has come to `phase`."""
        if PHASES.index(phase) < PHASES.index(self._current):
            raise RuntimeError(f"phase {phase} after {self._current}")
        self._current = phase
        self._journal.note("phase", phase)

    def reached(self, phase: str) -> bool:
        """Whether the boot has come to `phase` or past it."""
        return PHASES.index(self._current) >= PHASES.index(phase)

    @property
    def ready(self) -> bool:
        """Whether machine initialization has completed."""
        return self.reached("machine-ready")


class Process:
    """One emulated QEMU process, minus its sockets and its machine."""

    def __init__(self, profile: Profile, clock: Clock, host: Host) -> None:
        self.profile = profile
        self.clock = clock
        self.host = host
        self.journal = Journal(clock)
        #: what every call from outside goes through
        self.guard = Guard(self.journal, self.exit)
        self.events = Events(clock, self.journal)
        #: how far the start has come
        self.phases = Phases(self.journal)
        #: whether commands are served; before, monitors queue them
        self.main_loop_running = False
        #: called once, when the main loop starts
        self.on_main_loop: list[Callable[[], None]] = []
        #: called once, when the start has to wait for the host before the main loop runs
        self.on_poll: list[Callable[[], None]] = []
        #: what the process is to leave with; None while it lives
        self.exit_code: int | None = None
        #: called once with the exit code; the reply being made is still to be sent
        self.on_exit: list[Callable[[int], None]] = []

    def call_later(
        self, delay: int, call: Callable[[], object], failed: Failed | None = None
    ) -> Timer:
        """Run `call` once, `delay` nanoseconds of the machine's clock from now.

        `failed`: how its owner fails for a bug in it.
        """
        return self.clock.call_later(delay, self.guard.bind(call, failed))

    def polled(self) -> None:
        """The start waits for the host, and what is due is done: util/aio-posix.c: aio_poll().

        The model itself has no need to wait.
        """
        callbacks, self.on_poll = self.on_poll, []
        for callback in callbacks:
            self.guard.call(callback)

    def main_loop_started(self) -> None:
        """Serve commands from now on, those that wait first."""
        self.main_loop_running = True
        callbacks, self.on_main_loop = self.on_main_loop, []
        for callback in callbacks:
            self.guard.call(callback)

    def exit(self, code: int) -> None:
        """The process is to leave with `code` once what it has to say is said."""
        if self.exit_code is not None:
            return
        self.exit_code = code
        self.journal.note("exit", str(code))
        for callback in tuple(self.on_exit):
            self.guard.call(callback, code)
