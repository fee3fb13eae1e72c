"""One virtual clock for machines that run in different places.

Machines in the test's own loop can share a `VirtualClock`. Those in threads and processes have
clocks of their own, so they go in step: none is moved past the next timer of any, and between
two steps all of them are served until none has anything to do.

    clock = GroupClock()
    src = await FakeQemu(..., runner="process", clock=clock)
    dst = await FakeQemu(..., runner="fork", clock=clock)
    await src.run_until_idle()      # moves both
"""

from __future__ import annotations

from typing import Any, Protocol

from fakeqemu.clock import SECOND
from fakeqemu.testing.clock.duration import is_duration
from fakeqemu.testing.clock.timekeeper import ClockError

#: rounds in which nobody has anything to do, after which all are taken to be quiet
_QUIET_ROUNDS = 2
#: rounds after which quiet is not waited for any longer
_MOST_ROUNDS = 10_000


class GroupMember(Protocol):
    """A machine, as the clock sees it (`runners.base.Runner`)."""

    @property
    def exit_code(self) -> int | None:
        """None while it lives."""

    async def ask(self, verb: str, /, **parameters: Any) -> Any:
        """Do a verb of `testing.verbs.table`."""


class GroupClock:
    """The clock of a group: give it as `clock` to each of the machines."""

    def __init__(self) -> None:
        self._now = 0
        self._members: list[GroupMember] = []

    def __repr__(self) -> str:
        return f"<GroupClock at {self._now / SECOND:g} s, machines: {len(self._members)}>"

    def now(self) -> int:
        """Nanoseconds since the clock was made."""
        return self._now

    async def join(self, member: GroupMember) -> None:
        """A machine has started; its clock comes up to the group's, or the group's to its own.

        The latter for a copy of a machine that was prepared for a while.
        """
        ahead = int(await member.ask("now"))
        if ahead > self._now:
            await self._advance_to(ahead)
        elif self._now:
            await member.ask("catch-up", to=self._now)
        self._members.append(member)

    def leave(self, member: GroupMember) -> None:
        """A machine is stopped."""
        if member in self._members:
            self._members.remove(member)

    async def advance(self, seconds: float) -> int:
        """Move on, running on the way what is due; the time in nanoseconds. Raises ClockError."""
        if seconds < 0:
            raise ClockError(f"time does not go back ({seconds} s)")
        if not is_duration(seconds):
            raise ClockError(f"a clock cannot count {seconds} s")
        return await self._advance_to(self._now + round(seconds * SECOND))

    async def _advance_to(self, end: int) -> int:
        await self._settle()
        while (due := await self._next()) is not None and due <= end:
            await self._step(due)
        if end > self._now:
            await self._step(end)
        return self._now

    async def jump(self) -> bool:
        """Move to the next timer of any machine; False if there is none."""
        await self._settle()
        due = await self._next()
        if due is None:
            return False
        await self._step(due)
        return True

    async def run_until_idle(self, limit: int) -> int:
        """Jump until no timer is left; how many times. -1 after `limit`."""
        for count in range(limit):
            if not await self.jump():
                return count
        return -1

    # -- inside ------------------------------------------------------------------------------

    @property
    def _alive(self) -> list[GroupMember]:
        return [member for member in self._members if member.exit_code is None]

    async def _ask(self, member: GroupMember, verb: str, /, **parameters: Any) -> Any:
        try:
            return await member.ask(verb, **parameters)
        except (ConnectionError, RuntimeError):
            if member.exit_code is None:
                raise
            return None  # it has ended meanwhile

    async def _next(self) -> int | None:
        times = [await self._ask(member, "next-at") for member in self._alive]
        return min((time for time in times if time is not None), default=None)

    async def _step(self, time: int) -> None:
        """All clocks to `time`, in the order in which the machines joined."""
        self._now = max(self._now, time)
        for member in self._alive:
            await self._ask(member, "skip", to=self._now)
        for member in self._alive:
            await self._ask(member, "catch-up", to=self._now)
            await self._settle()

    async def _settle(self) -> None:
        """Let all be served until none has anything to do."""
        quiet, before = 0, -1
        for _ in range(_MOST_ROUNDS):
            counts = [await self._ask(member, "settle") for member in self._alive]
            total = sum(count for count in counts if count is not None)
            quiet = quiet + 1 if total == before else 0
            if quiet >= _QUIET_ROUNDS:
                return
            before = total
