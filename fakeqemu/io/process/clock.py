"""Real time for the model: the event loop's timers, the kernel's clocks.

See util/qemu-timer.c: qemu_clock_get_ns() and timer_mod_ns().
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fakeqemu.clock import SECOND, Timer
from fakeqemu.io.loop import Loop


class LoopClock:
    """A `Clock` that follows the wall, or runs `speed` times as fast as it."""

    def __init__(self, loop: Loop, speed: float = 1.0) -> None:
        self._loop = loop
        self._speed = speed
        self._start = time.monotonic_ns()
        self._epoch = time.time_ns()

    def start_at(self, now: int) -> None:
        """Show `now` at this moment: the machine has run before."""
        self._start -= int(now / self._speed)

    def now(self) -> int:
        """Nanoseconds since the clock was made."""
        elapsed = time.monotonic_ns() - self._start
        return elapsed if self._speed == 1.0 else int(elapsed * self._speed)

    def realtime(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns() if self._speed == 1.0 else self._epoch + self.now()

    def call_later(self, delay: int, call: Callable[[], None]) -> Timer:
        """Run `call` once, `delay` nanoseconds from now."""
        if delay <= 0:
            return self._loop.call_soon(call)
        return self._loop.call_later(delay / SECOND / self._speed, call)
