"""Events as the machine emits them; who hears them, and how often, is the monitors' affair.

See monitor/monitor.c: qapi_event_emit().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakeqemu.clock import Clock
from fakeqemu.dataclass import dataclass
from fakeqemu.journal import Journal


@dataclass(frozen=True, slots=True)
class Event:
    """One event, before it becomes bytes."""

    #: the event's name in the schema
    name: str
    #: its data member; None when the event has none
    data: dict[str, Any] | None
    #: nanoseconds since 1970
    realtime: int


class Events:
    """The one place events leave the model."""

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each event from now on."""
        self._listeners.append(listener)

    def emit(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Send event `name`; written to the journal whether or not anybody listens."""
        event = Event(name, data, self._clock.realtime())
        self._journal.note("event", name, **({"data": data} if data is not None else {}))
        for listener in tuple(self._listeners):
            listener(event)
