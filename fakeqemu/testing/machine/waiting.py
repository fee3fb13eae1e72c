"""What a machine tells, gathered for its handle, and waiting for it with a deadline.

The machine may be in another thread: whoever waits is woken through the loop it waits in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.model.events import Event
from fakeqemu.qapi.validate import SchemaViolation

T = TypeVar("T")


class EventWaiter:
    """A `runner.Listener` that can be waited on."""

    def __init__(
        self,
        deadline: float,
        journal: Callable[[], Journal | None],
        watch: Callable[[JournalEntry], None],
        answer: Callable[[int, dict[str, Any], Any], Any],
        *,
        threaded: bool,
    ) -> None:
        self.deadline = deadline
        #: every event since the start, heard or not
        self.events: list[Event] = []
        self.violations: list[SchemaViolation] = []
        #: called when the machine has ended
        self.on_end: Callable[[], None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        #: what else there is to say to whoever waited in vain
        self.hint: Callable[[], str] = str
        #: why nothing more can come; None while something can
        self.over: Callable[[], str | None] = lambda: None
        self._journal = journal
        self._watch = watch
        self._answer = answer
        self._threaded = threaded
        self._changed: asyncio.Event | None = None

    def open(self) -> None:
        """Listen in the running loop from now on. Raises RuntimeError where none runs."""
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no loop of asyncio runs here: use `fakeqemu.sync(...)`, whose methods need none "
                "(under trio from `trio.to_thread.run_sync`)"
            ) from None
        self._changed = asyncio.Event()

    def entry_added(self, entry: JournalEntry) -> None:
        """The journal has a new entry."""
        self._watch(entry)
        self._notify()

    def event_sent(self, event: Event) -> None:
        """The machine sent an event."""
        self.events.append(event)
        self._notify()

    def violation_found(self, violation: SchemaViolation) -> None:
        """A reply or event does not match the schema."""
        self.violations.append(violation)

    def machine_ended(self) -> None:
        """The machine has ended."""
        self._notify()
        if self.on_end is not None:
            self.on_end()

    def answer_call(self, stub: int, arguments: dict[str, Any], value: Any) -> Any:
        """A function of the tester's is to answer."""
        return self._answer(stub, arguments, value)

    async def until(self, found: Callable[[], T | None], what: str) -> T:
        """What `found` finds once it is not None. Raises TimeoutError; RuntimeError where it is
        not there and nothing can come.
        """
        reason = self.over()
        if reason is not None and (self._changed is None or found() is None):
            raise RuntimeError(f"{what}: {reason}")

        async def wait() -> T:
            assert self._changed is not None
            while (value := found()) is None:
                self._changed.clear()
                if (value := found()) is not None:
                    return value
                await self._changed.wait()
            return value

        return await self.within(wait(), what)

    async def change(self, seconds: float) -> None:
        """Wait until the machine notes or sends something, for so long at most."""
        assert self._changed is not None
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def within(self, work: Awaitable[T], what: str) -> T:
        """`work`, or a TimeoutError that says what the machine did last."""
        try:
            async with asyncio.timeout(self.deadline):
                return await work
        except TimeoutError:
            said = f"{what} after {self.deadline} s; {self.last_words()}{self._hinted()}"
            raise TimeoutError(said) from None

    def last_words(self) -> str:
        """What the machine did last, for error messages."""
        journal = self._journal()
        if journal is None:
            return "the machine was never made"
        last = [f"{entry.kind} {entry.name}" for entry in journal][-6:]
        return "the last the machine did: " + (", ".join(last) or "nothing")

    def _hinted(self) -> str:
        try:
            return self.hint()
        except Exception:
            return ""  # the machine is past being asked

    def _notify(self) -> None:
        if self._changed is None or self.loop is None or self.loop.is_closed():
            return
        if self._threaded:
            with contextlib.suppress(RuntimeError):  # the loop may be closed just now
                self.loop.call_soon_threadsafe(self._changed.set)
        else:
            self._changed.set()
