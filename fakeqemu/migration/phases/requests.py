"""Phases of a migration, outgoing or incoming: requests and events that both sides have.

A phase is a generator that reads from top to bottom, as QEMU's migration threads and coroutines
do, see migration/migration.c: migration_thread() and process_incoming_migration_co(). It yields a
request and is resumed by a `PhaseDriver` (`driver.py`); it holds no callback and no timer.
"""

from __future__ import annotations

from fakeqemu.dataclass import dataclass, field


@dataclass(frozen=True, slots=True)
class Blocking:
    """A request that suspends the phase; an error of a channel ends it unless `keeps_errors`."""

    keeps_errors: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Sleep(Blocking):
    """Wait for so many nanoseconds; events are kept meanwhile."""

    delay: int


@dataclass(frozen=True, slots=True)
class Wait(Blocking):
    """Wait for the next event, or until a time; the result is the event, or `Due`."""

    #: nanoseconds of the machine's clock; None: no time limit
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """The event that the time of a `Wait` has come."""


class PhaseError(Exception):
    """Ends a phase; `text` is the error, empty if it is recorded already."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
