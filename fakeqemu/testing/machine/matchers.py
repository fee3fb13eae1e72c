"""What a tester waits for, looked for in what a machine has told so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fakeqemu.journal import Journal, JournalEntry
    from fakeqemu.model.events import Event


def find_event(events: Iterable[Event], name: str, data: dict[str, Any]) -> Event | None:
    """The first event `name` that has these members, `_` in their names for `-`."""
    wanted = {key.replace("_", "-"): value for key, value in data.items()}
    for event in events:
        if event.name == name and wanted.items() <= (event.data or {}).items():
            return event
    return None


def find_entry(
    journal: Journal, kind: str, name: str | None, data: dict[str, Any]
) -> JournalEntry | None:
    """The first entry of a journal of this kind, name and data."""
    for entry in journal.of(kind, name):
        if all(key in entry.data and entry.data[key] == data[key] for key in data):
            return entry
    return None
