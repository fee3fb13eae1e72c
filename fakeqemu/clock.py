"""Time as the model sees it: integer nanoseconds from an owner that can be bent.

The model never reads the wall clock. A `VirtualClock` stands still until told to move; the
one that follows real time lives in `fakeqemu.io`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

SECOND = 1_000_000_000
MILLISECOND = 1_000_000


class Timer(Protocol):
    """A call that has been asked for and may be taken back."""

    def cancel(self) -> None:
        """Forget the call; harmless after it ran."""


class Clock(Protocol):
    """Monotonic and wall time, and calls in the future."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment, never going back."""

    def realtime(self) -> int:
        """Nanoseconds since 1970-01-01T00:00Z, for event time stamps."""

    def call_later(self, delay: int, call: Callable[[], None]) -> Timer:
        """Run `call` once, `delay` nanoseconds from now (0: as soon as possible, not at once)."""


class _VirtualTimer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None

    def run(self) -> None:
        """Run the call, unless it was taken back."""
        call, self.call = self.call, None
        if call is not None:
            call()


class VirtualClock:
    """A clock that only `advance` moves; timers of equal times run in their order of creation."""

    def __init__(self, epoch: int = 1_700_000_000 * SECOND) -> None:
        self._epoch = epoch
        self._now = 0
        self._count = 0
        self._queue: list[tuple[int, int, _VirtualTimer]] = []

    def now(self) -> int:
        """Nanoseconds since the clock was made."""
        return self._now

    def realtime(self) -> int:
        """Nanoseconds since 1970, as if the clock had been made at `epoch`."""
        return self._epoch + self._now

    def call_later(self, delay: int, call: Callable[[], None]) -> Timer:
        """Run `call` when the clock has moved `delay` nanoseconds on."""
        timer = _VirtualTimer(call)
        self.take(delay, timer)
        return timer

    def take(self, delay: int, timer: _VirtualTimer) -> None:
        """Run a timer, perhaps one that was pending on another clock, after `delay`."""
        self._count += 1
        heapq.heappush(self._queue, (self._now + max(0, delay), self._count, timer))

    def __repr__(self) -> str:
        timers = len(self.pending())
        return f"<VirtualClock at {self._now / SECOND:g} s, timers: {timers}>"

    def pending(self) -> list[tuple[int, _VirtualTimer]]:
        """When each pending timer is due, in the order in which they will run."""
        queue = sorted(self._queue, key=lambda entry: entry[:2])
        return [(due, timer) for due, _, timer in queue if timer.call is not None]

    def next_at(self) -> int | None:
        """When the next pending call is due, in the clock's own time; None if none is."""
        while self._queue and self._queue[0][2].call is None:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def advance(self, delta: int) -> None:
        """Move `delta` nanoseconds on, running on the way what is due."""
        end = self._now + delta
        while (due := self.next_at()) is not None and due <= end:
            self._run_next()
        self._now = max(self._now, end)

    def skip(self, to: int) -> None:
        """Move to time `to` and leave what is due just then for the next move.

        Raises ValueError if something is due before.
        """
        due = self.next_at()
        if due is not None and due < to:
            raise ValueError(f"something is due at {due}, before {to}")
        self._now = max(self._now, to)

    def jump(self) -> bool:
        """Move to the next pending call and run it; False if there is none."""
        if self.next_at() is None:
            return False
        self._run_next()
        return True

    def run_until_idle(self, limit: int = 1_000_000) -> int:
        """Jump until nothing is pending; the number of calls run. `limit` stops a runaway."""
        for count in range(limit):
            if not self.jump():
                return count
        raise RuntimeError(f"clock not idle after {limit} calls")

    def _run_next(self) -> None:
        due, _, timer = heapq.heappop(self._queue)
        self._now = max(self._now, due)
        timer.run()
