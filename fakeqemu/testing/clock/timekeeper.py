"""Moves a virtual clock while sockets get their turn.

Between two timers whatever was written has to be read, or a migration between two machines on
one clock would depend on who is quick. So the clock stands still until nothing has happened
for a few turns of the loop. It calls back instead of being awaited, as the model's code does.
"""

from __future__ import annotations

from collections.abc import Callable

from fakeqemu.clock import SECOND, Clock, VirtualClock
from fakeqemu.commands.registry import Deferred
from fakeqemu.io.loop import Loop
from fakeqemu.qapi.errors import FakeQemuError
from fakeqemu.testing.clock.duration import is_duration

#: turns without any traffic after which the world is taken to be quiet
QUIET_TURNS = 3
#: turns after which it is not waited for any longer
_MOST_TURNS = 10_000


class ClockError(FakeQemuError):
    """The clock cannot be moved that way."""


class Timekeeper:
    """One machine's way to move its clock."""

    def __init__(self, loop: Loop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock

    @property
    def clock(self) -> VirtualClock:
        """The clock, if it is one that can be moved. Raises ClockError."""
        if not isinstance(self._clock, VirtualClock):
            raise ClockError(
                "only a machine on a virtual clock can be moved in time: clock='virtual'"
            )
        return self._clock

    def advance(self, seconds: float) -> Deferred:
        """Move on; resolves to the time. Raises ClockError."""
        if seconds < 0:
            raise ClockError(f"time does not go back ({seconds} s)")
        if not is_duration(seconds):
            raise ClockError(f"a clock cannot count {seconds} s")
        return self.catch_up(self.clock.now() + round(seconds * SECOND))

    def catch_up(self, to: int) -> Deferred:
        """Move to a time in nanoseconds, running on the way what is due; resolves to the time."""
        clock, over = self.clock, Deferred()

        def step() -> None:
            due = clock.next_at()
            if due is not None and due <= to:
                clock.jump()
                self.settle(step)
                return
            clock.advance(max(0, to - clock.now()))
            self.settle(lambda: over.resolve(clock.now()))

        self.settle(step)
        return over

    def jump(self) -> Deferred:
        """Move to the next timer, run what is due then; resolves to whether there was one."""
        over = Deferred()
        self.settle(lambda: self._jump(over.resolve))
        return over

    def _jump(self, then: Callable[[bool], None]) -> None:
        clock = self.clock
        end = clock.next_at()
        if end is None:
            then(False)
            return

        def step() -> None:
            due = clock.next_at()
            if due is not None and due <= end:
                clock.jump()
                self.settle(step)
            else:
                then(True)

        step()

    def run_until_idle(self, limit: int) -> Deferred:
        """Jump until no timer is left; resolves to how many jumps, -1 after `limit`."""
        clock, over = self.clock, Deferred()
        count = 0

        def step(jumped: bool) -> None:
            nonlocal count
            count += jumped
            if clock.next_at() is None:
                over.resolve(count)
            elif count >= limit:
                over.resolve(-1)
            else:
                self._jump(step)

        self.settle(lambda: step(False))
        return over

    def next_at(self) -> int | None:
        """When the next timer is due; None if none is."""
        return self.clock.next_at()

    def skip(self, to: int) -> None:
        """Move to a time up to which nothing is due, and run nothing."""
        self.clock.skip(to)

    def settled(self, own: int) -> Deferred:
        """Resolves, when the sockets are quiet, to how often they have been busy so far.

        `own` of that was the tester's asking.
        """
        over = Deferred()
        self.settle(lambda: over.resolve(self._loop.activity - own))
        return over

    def settle(self, then: Callable[[], None]) -> None:
        """Call `then` once the sockets are quiet."""
        quiet, turns = 0, 0
        before: tuple[int, int | None] | None = None

        def turn() -> None:
            nonlocal quiet, turns, before
            turns += 1
            clock = self._clock
            due = clock.next_at() if isinstance(clock, VirtualClock) else None
            now = (self._loop.activity, due)
            quiet = quiet + 1 if now == before else 0
            before = now
            if quiet >= QUIET_TURNS or turns >= _MOST_TURNS:
                then()
            else:
                self._loop.call_soon(turn)

        turn()
