"""Migration states of both sides: their tables, and the only class that changes them.

State names are QEMU's MigrationStatus. A row is a transition, its trigger, and the trait that a
version must have (or, with a `!`, must not have) for it; rows with states that a version does not
know are left out. A transition that is not in the table is a bug of ours.

See migration/migration.c: migrate_set_state().
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from fakeqemu.dataclass import dataclass
from fakeqemu.journal import Journal
from fakeqemu.traits import Traits

#: states of a migration that runs in postcopy
POSTCOPY = frozenset(
    {
        "postcopy-device",
        "postcopy-active",
        "postcopy-paused",
        "postcopy-recover-setup",
        "postcopy-recover",
    }
)

#: states in which an outgoing migration is under way
RUNNING = POSTCOPY | {"setup", "active", "pre-switchover", "device", "cancelling", "failing"}

#: states in which a migration of either side is over
ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Change:
    """One row of a table: a transition."""

    old: str
    new: str
    #: the event or command that triggers it
    trigger: str
    #: names of the traits that it requires, `!` before one that must be off; empty: every version
    trait: str = ""

    def holds(self, traits: Traits) -> bool:
        """Whether a version with these traits has this transition."""
        return all(
            bool(getattr(traits, word.lstrip("!"))) != word.startswith("!")
            for word in self.trait.split()
        )


_FAILING = "failing_state"
_EARLY = "postcopy_active_before_stop"


def _troubled(*states: str) -> tuple[Change, ...]:
    """Transitions by errors and cancel from any of `states`."""
    return tuple(
        change
        for state in states
        for change in (
            Change(state, "failing", "trouble", _FAILING),
            Change(state, "failed", "trouble", f"!{_FAILING}"),
            Change(state, "cancelling", "migrate_cancel, quit"),
        )
    )


OUTGOING: tuple[Change, ...] = (
    *(Change(end, "setup", "migrate") for end in ("none", "completed", "failed", "cancelled")),
    Change("setup", "active", "channels open"),
    Change("setup", "completed", "everything is in an image: savevm, snapshot-save"),
    Change("active", "pre-switchover", "converged, pause-before-switchover"),
    Change("active", "device", "converged", "precopy_device_state"),
    Change("pre-switchover", "device", "migrate-continue"),
    Change("active", "completed", "everything sent"),
    Change("device", "completed", "everything sent"),
    Change("active", "postcopy-active", "migrate-start-postcopy", _EARLY),
    Change("pre-switchover", "postcopy-active", "migrate-continue", _EARLY),
    Change(
        "device", "postcopy-active", "device states sent", f"!{_EARLY} !postcopy_device_state"
    ),
    Change("device", "postcopy-device", "device states sent", "postcopy_device_state"),
    Change(
        "device", "postcopy-active", "device states sent, no memory left", "postcopy_device_state"
    ),
    Change("postcopy-device", "postcopy-active", "device states loaded"),
    Change("postcopy-active", "completed", "everything sent"),
    Change("postcopy-active", "postcopy-paused", "channel broken, migrate-pause"),
    Change("postcopy-paused", "postcopy-recover-setup", "migrate resume"),
    Change("postcopy-recover-setup", "postcopy-paused", "not connected"),
    Change("postcopy-recover-setup", "postcopy-recover", "connected"),
    Change(
        "postcopy-paused", "postcopy-recover", "migrate resume", "!postcopy_recover_setup_state"
    ),
    Change("postcopy-recover", "postcopy-active", "destination agrees"),
    Change("postcopy-recover", "postcopy-paused", "channel broken"),
    *_troubled("setup", "active", "pre-switchover", "device", "postcopy-device"),
    # versions that allow it are left without a machine on both sides
    *(
        Change(state, "cancelling", "migrate_cancel", "!migrate_cancel_in_postcopy_refused")
        for state in ("postcopy-active", "postcopy-paused", "postcopy-recover")
    ),
    Change("cancelling", "cancelled", "channel closed"),
    Change("failing", "failed", "guest as it was"),
    # the state was saved, but the new program could not be executed
    Change("completed", "failed", "exec failed"),
)

INCOMING: tuple[Change, ...] = (
    Change("none", "setup", "migrate-incoming, -incoming", "incoming_setup_state"),
    Change("none", "active", "channel open", "!incoming_setup_state"),
    Change("setup", "active", "channel open", "incoming_setup_state"),
    Change("setup", "failed", "no channel", "incoming_first_bytes_checked"),
    Change("active", "completed", "everything loaded"),
    Change("active", "postcopy-active", "source listens", "!postcopy_device_state"),
    Change("active", "postcopy-device", "source listens", "postcopy_device_state"),
    Change("active", "postcopy-active", "source listens, no memory left", "postcopy_device_state"),
    Change("postcopy-device", "postcopy-active", "device states loaded"),
    Change("postcopy-active", "completed", "everything loaded"),
    Change("postcopy-active", "postcopy-paused", "channel broken, migrate-pause"),
    Change("postcopy-paused", "postcopy-recover", "migrate-recover, channel open"),
    Change("postcopy-recover", "postcopy-active", "source resumes"),
    Change("postcopy-recover", "postcopy-paused", "channel broken"),
    Change("active", "failed", "trouble"),
    Change("postcopy-device", "failed", "trouble"),
    Change("postcopy-active", "failed", "trouble before the guest ran"),
)


def pausable(traits: Traits) -> frozenset[str]:
    """States of either side in which migrate-pause is accepted."""
    recovers = {"postcopy-recover"} if traits.postcopy_recover_setup_state else set()
    return frozenset({"postcopy-active", *recovers})


def rows(
    table: Collection[Change], traits: Traits, statuses: Collection[str]
) -> list[Change]:
    """The rows of a table that a version has, whose schema has `statuses`."""
    return [
        row
        for row in table
        if row.holds(traits) and row.old in statuses and row.new in statuses
    ]


class Status:
    """The migration status of one side; the only place that assigns it."""

    def __init__(
        self,
        side: str,
        table: Collection[Change],
        journal: Journal,
        announce: Callable[[str], None],
    ) -> None:
        """`table`: the rows of this version, see `rows`."""
        self._side = side
        self._table: Mapping[str, frozenset[str]] = {
            state: frozenset(row.new for row in table if row.old == state)
            for state in {row.old for row in table}
        }
        self._journal = journal
        self._announce = announce
        self._current = "none"

    @property
    def current(self) -> str:
        """The MigrationStatus."""
        return self._current

    def can(self, new: str) -> bool:
        """Whether the table has a transition from the current state to `new`."""
        return new in self._table.get(self._current, ())

    def move(self, new: str) -> None:
        """Enter state `new` and emit MIGRATION (with the capability `events`)."""
        old = self._current
        if not self.can(new):
            raise RuntimeError(f"invalid {self._side} migration state: '{old}' -> '{new}'")
        self._current = new
        self._journal.note("migration", new, side=self._side, old=old)
        self._announce(new)
