"""What a handle waits for: events, entries of the journal, and the machine's clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.testing.names import UnknownNameError, check_name
from fakeqemu.testing.qapi_keywords import check_members

if TYPE_CHECKING:
    from fakeqemu.journal import Journal, JournalEntry
    from fakeqemu.model.events import Event
    from fakeqemu.profile import Profile
    from fakeqemu.testing.machine.clock_control import ClockControl
    from fakeqemu.testing.machine.verification import ExpectedStep, Verifier
    from fakeqemu.testing.machine.waiting import EventWaiter


class HandleWaits:
    """The half of `FakeQemu` that waits, and expects."""

    profile: Profile
    verifier: Verifier
    _waiter: EventWaiter
    _time: ClockControl
    #: event -> where the next one that a test has not seen may be
    _seen: dict[str, int]

    @property
    def journal(self) -> Journal:
        """Everything that happened."""
        raise NotImplementedError

    @property
    def exit_code(self) -> int | None:
        """What the machine left with; None while it lives."""
        raise NotImplementedError

    @property
    def events(self) -> list[Event]:
        """Every event since the start, heard or not."""
        return self._waiter.events

    @property
    def deadline(self) -> float:
        """Seconds that anything here may take."""
        return self._waiter.deadline

    @deadline.setter
    def deadline(self, seconds: float) -> None:
        self._waiter.deadline = seconds

    async def wait_exit(self) -> int:
        """Wait until the machine ends by itself; its exit code."""
        return await self._waiter.until(lambda: self.exit_code, "the machine has not ended")

    def mark(self) -> int:
        """This moment, for `wait_event(..., since=mark)`; 0 is the start."""
        return len(self._waiter.events)

    async def wait_event(
        self, name: str, *, since: int | None = None, nth: int = 1, **data: Any
    ) -> Event:
        """The next event `name` with these members of `data`.

        It is one that came after the last of that name that was waited for, or after a `mark`
        (`since=0`: from the start); with `nth` the second, third and so on of them. Raises
        UnknownNameError, TimeoutError.
        """
        self._check_name("event", name)
        check_members(
            f"member of event {name}", self.profile.schema.events[name].arg_type, data
        )
        if nth < 1:
            raise ValueError(f"nth is at least 1, not {nth}")
        start = self._seen.get(name, 0) if since is None else since
        index, event = await self._waiter.until(
            lambda: find_event(self._waiter.events, start, name, nth, data),
            f"event {name}{f' {data}' if data else ''} never came" + (" again" if start else ""),
        )
        self._seen[name] = max(self._seen.get(name, 0), index + 1)
        return event

    async def wait_for(self, kind: str, name: str | None = None, **data: Any) -> JournalEntry:
        """The first entry of the journal of this kind, name and data: `wait_for("command")`."""
        self._check_entry(kind, name)
        return await self._waiter.until(
            lambda: find_entry(self.journal, kind, name, data),
            f"{kind} {name or ''} was never noted",
        )

    # -- what is expected ---------------------------------------------------------------------

    def expect(
        self, command: str, arguments: dict[str, Any] | None = None, times: int | None = None
    ) -> None:
        """`command` has to have come by the end, at least once or exactly `times` times.

        `arguments` are to be among its own; they may be matchers (`fakeqemu.testing.match`).
        Raises UnknownNameError. Unmet, it counts as a mistake of the code under test.
        """
        self.verifier.expect(command, arguments, times)

    def expect_in_order(self, *steps: ExpectedStep) -> None:
        """Commands, or pairs of one and its arguments, have to come one after the other.

        Others may come between them. Raises UnknownNameError.
        """
        self.verifier.expect_in_order(steps)

    # -- time --------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds on the machine's clock."""
        return self._time.now() / SECOND

    async def advance(self, seconds: float) -> None:
        """Move a virtual clock; whatever falls due happens, with sockets served in between."""
        await self._time.advance(seconds)

    async def jump(self) -> bool:
        """Move a virtual clock to the next timer; False if there is none."""
        return await self._time.jump()

    async def run_until_idle(self, limit: int = 100_000) -> int:
        """Move a virtual clock until no timer is left; how many there were.

        Raises TimeoutError after `limit`: something goes on for ever.
        """
        return await self._time.run_until_idle(limit)

    async def run_until(
        self, kind: str, name: str | None = None, *, limit: int = 100_000, **data: Any
    ) -> JournalEntry:
        """Jump until the journal has such an entry (see `wait_for`).

        While nothing is due it waits, within the deadline, for code under test that has not acted
        yet. Raises TimeoutError.
        """
        self._check_entry(kind, name)
        return await self._time.run_until(
            lambda: find_entry(self.journal, kind, name, data),
            f"{kind} {name or ''} was never noted",
            limit,
        )

    def _check_name(self, what: str, name: str) -> None:
        """Whether there is such an "event", "command" or "kind" of entry.

        Raises UnknownNameError.
        """
        if what == "kind":
            from fakeqemu.journal_kinds import KINDS

            check_name("kind of journal entry", name, KINDS)
            return
        schema = self.profile.schema
        known = schema.events if what == "event" else schema.commands
        if not isinstance(name, str) or name not in known:
            raise UnknownNameError(what, str(name), known)

    def _check_entry(self, kind: str, name: object) -> None:
        """Whether the journal may get such an entry. Raises UnknownNameError."""
        self._check_name("kind", kind)
        if name is None:
            return
        schema = self.profile.schema
        enums = {
            "migration": ("migration status", "MigrationStatus"),
            "runstate": ("run state", "RunState"),
        }
        if kind in ("event", "command"):
            self._check_name(kind, str(name))
        elif kind in enums:
            what, enum = enums[kind]
            try:
                values = schema.enum_values(enum)
            except KeyError:  # introspection hides the name, and the recording does not tell it
                return
            check_name(what, name, values)


def find_event(
    events: Sequence[Event], start: int, name: str, nth: int, data: dict[str, Any]
) -> tuple[int, Event] | None:
    """From `start` on the nth event `name` that has these members, `_` in their names for `-`."""
    wanted = {key.replace("_", "-"): value for key, value in data.items()}
    for index in range(start, len(events)):
        event, found = events[index], events[index].data or {}
        matches = all(key in found and found[key] == value for key, value in wanted.items())
        if event.name == name and matches:
            nth -= 1
            if not nth:
                return index, event
    return None


def find_entry(
    journal: Journal, kind: str, name: str | None, data: dict[str, Any]
) -> JournalEntry | None:
    """The first entry of a journal of this kind, name and data."""
    for entry in journal.of(kind, name):
        if all(key in entry.data and entry.data[key] == data[key] for key in data):
            return entry
    return None
