"""A tester's hand on a machine's clock: its own, or that of the group it belongs to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND, VirtualClock
from fakeqemu.testing.clock.group_clock import GroupClock
from fakeqemu.testing.machine.waiting import EventWaiter

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.testing.runners.base import Runner

#: seconds after which a clock with nothing due is looked at again
_LOOK_AGAIN = 0.02


class ClockControl:
    """The clock of one handle's machine. Times are nanoseconds."""

    def __init__(
        self,
        clock: Any,
        waiter: EventWaiter,
        runner: Callable[[], Runner],
        living: Callable[[], Runner],
    ) -> None:
        """`runner` has it, whatever became of it; `living` raises RuntimeError once it is over."""
        #: the clock that several machines share, if it is one
        self.group = clock if isinstance(clock, GroupClock) else None
        self.is_virtual = clock == "virtual" or isinstance(clock, GroupClock | VirtualClock)
        #: what the machine is told to have
        self.own = "virtual" if self.group is not None else clock or "real"
        self._waiter = waiter
        self._runner = runner
        self._living = living

    async def join(self) -> None:
        """The machine has started."""
        if self.group is not None:
            await self._within(self.group.join(self._runner()), "join")

    def leave(self) -> None:
        """The machine is stopped."""
        if self.group is not None:
            self.group.leave(self._runner())

    def now(self) -> int:
        """Of the machine's clock."""
        runner = self._runner()
        if runner.exit_code is not None:
            return max((entry.time for entry in runner.journal), default=0)
        return int(runner.call("now"))

    async def advance(self, seconds: float) -> None:
        """Move on. Raises TypeError, ClockError."""
        self._living()
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"advance takes seconds, a number, not {seconds!r}")
        if self.group is not None:
            await self._within(self.group.advance(seconds), "advance")
        else:
            await self._ask("advance", seconds=seconds)

    async def jump(self) -> bool:
        """Move to the next timer."""
        self._living()
        if self.group is not None:
            return bool(await self._within(self.group.jump(), "jump"))
        return bool(await self._ask("jump"))

    async def run_until_idle(self, limit: int) -> int:
        """Move until no timer is left. Raises TimeoutError after `limit`."""
        self._living()
        if self.group is not None:
            count = int(await self._within(self.group.run_until_idle(limit), "run-until-idle"))
        else:
            count = int(await self._ask("run-until-idle", limit=limit))
        if count < 0:
            raise TimeoutError(f"not idle after {limit} timers; {self._waiter.last_words()}")
        return count

    async def run_until(
        self, found: Callable[[], JournalEntry | None], what: str, limit: int
    ) -> JournalEntry:
        """Jump until `found` finds something; while nothing is due, wait for who acts. Raises
        TimeoutError.
        """
        self._living()
        if not self.is_virtual:
            raise ValueError(
                "run_until moves a virtual clock and this machine has none: give it "
                "clock='virtual', or wait by the wall with wait_for"
            )
        idle_since: float | None = None
        length, jumps = -1, 0
        while jumps < limit:
            if (entry := found()) is not None:
                return entry
            if await self.jump():
                idle_since, jumps = None, jumps + 1
                continue
            if self._runner().exit_code is not None:
                break
            now, total = time.monotonic(), self._runner().journal.total
            if idle_since is None or total != length:
                idle_since, length = now, total
            if now - idle_since > self._waiter.deadline:
                raise TimeoutError(
                    f"{what}, no timer is left, and nobody acted after {self._waiter.deadline} s; "
                    f"{self._waiter.last_words()}{self.hint()}"
                )
            # what arrives over sockets may set a timer and note nothing
            await self._waiter.change(_LOOK_AGAIN)
        if (entry := found()) is not None:
            return entry
        raise TimeoutError(f"{what}, and no timer is left; {self._waiter.last_words()}")

    def hint(self) -> str:
        """A hint for a wait that timed out on a clock that does not advance."""
        if not self.is_virtual:
            return ""
        now = self.now() / SECOND
        return f"; the clock is virtual and stands at {now:g} s: advance, jump or run_until"

    async def _ask(self, verb: str, /, **parameters: Any) -> Any:
        runner = self._runner()
        try:
            return await self._within(runner.ask(verb, **parameters), verb)
        except ConnectionError:
            if runner.exit_code is None:
                raise
            return 0  # it has ended on the way, and its clock with it

    async def _within(self, work: Awaitable[Any], verb: str) -> Any:
        return await self._waiter.within(work, f"the clock is still at {verb}")
