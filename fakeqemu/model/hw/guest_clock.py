"""The guest's own time.

Under `-accel qtest` it stands still until it is told to go on, while the machine around it
(monitors, migration) lives in the machine's time. Otherwise it goes while the guest does.

See system/cpu-timers.c: cpu_get_clock(); system/qtest.c: qtest_process_command();
util/qemu-timer.c: qemu_clock_advance_virtual_time().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.clock import VirtualClock

if TYPE_CHECKING:
    from fakeqemu.clock import Clock
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.runstate import RunState


class GuestClock:
    """Nanoseconds that the guest has lived."""

    def __init__(
        self, clock: Clock, runstate: RunState, lifecycle: Lifecycle, *, stepped: bool
    ) -> None:
        """`stepped`: whether a test program moves it."""
        self._clock = clock
        #: what a test program moves; None: the guest's time is the machine's
        self.stepped = VirtualClock() if stepped else None
        self._since = clock.now() if runstate.running else None
        self._lived = 0
        lifecycle.on_state_change.append(self._changed)

    def now(self) -> int:
        """The guest's time."""
        if self.stepped is not None:
            return self.stepped.now()
        running = 0 if self._since is None else self._clock.now() - self._since
        return self._lived + running

    def _changed(self, running: bool, _state: str) -> None:
        now = self._clock.now()
        if not running and self._since is not None:
            self._lived += now - self._since
        self._since = now if running else None
