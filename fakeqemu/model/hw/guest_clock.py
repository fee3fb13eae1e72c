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
    from fakeqemu.model.machine import Machine


class GuestClock:
    """Nanoseconds that the guest has lived."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        #: what a test program moves; None: the guest's time is the machine's
        self.stepped = VirtualClock() if vm.state.accelerator == "qtest" else None
        self._since = vm.clock.now() if vm.runstate.running else None
        self._lived = 0
        vm.lifecycle.on_state_change.append(self._changed)

    def now(self) -> int:
        """The guest's time."""
        if self.stepped is not None:
            return self.stepped.now()
        running = 0 if self._since is None else self._vm.clock.now() - self._since
        return self._lived + running

    def _changed(self, running: bool, _state: str) -> None:
        now = self._vm.clock.now()
        if not running and self._since is not None:
            self._lived += now - self._since
        self._since = now if running else None
