"""What happened, in order: boot steps, commands, replies, events, state changes.

One journal per machine; whoever owns a state writes its changes here, so that a tester can
ask afterwards. Entries are frozen and carry the machine's own time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fakeqemu.clock import Clock


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    #: nanoseconds of the machine's clock
    time: int
    #: "boot", "command", "reply", "event", "runstate", "migration", "not-modelled", ...
    kind: str
    #: the step, command, event or state it is about
    name: str
    #: what else there is to say; JSON values only
    data: dict[str, Any] = field(default_factory=dict)


class Journal:
    """An append-only list of entries."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: list[Entry] = []
        self._listeners: list[Callable[[Entry], None]] = []

    def note(self, kind: str, name: str, **data: Any) -> Entry:
        """Write one entry, stamped with the clock's now."""
        entry = Entry(self._clock.now(), kind, name, data)
        self._entries.append(entry)
        for listener in self._listeners:
            listener(entry)
        return entry

    def listen(self, listener: Callable[[Entry], None]) -> None:
        """Call `listener` with each entry from now on."""
        self._listeners.append(listener)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, kind: str, name: str | None = None) -> list[Entry]:
        """The entries of one kind, and of one name if given."""
        return [e for e in self._entries if e.kind == kind and name in (None, e.name)]
