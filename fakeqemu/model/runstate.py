"""The run state: one table of allowed changes, and the only place that assigns the state.

States carry QEMU's names. A change the table does not know is a bug of ours (QEMU aborts
there), never a client's mistake: commands look before they ask.

See system/runstate.c: runstate_transitions_def and runstate_set().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fakeqemu.journal import Journal
from fakeqemu.traits import Traits

#: state -> states it may change to, in every version
TRANSITIONS: Mapping[str, frozenset[str]] = {
    "prelaunch": frozenset({"running", "finish-migrate", "inmigrate"}),
    "inmigrate": frozenset(
        {
            "internal-error", "io-error", "paused", "running", "shutdown", "suspended",
            "watchdog", "guest-panicked", "finish-migrate", "prelaunch", "postmigrate", "colo",
        }
    ),
    "running": frozenset(
        {
            "debug", "internal-error", "io-error", "paused", "finish-migrate", "restore-vm",
            "save-vm", "shutdown", "watchdog", "guest-panicked", "colo", "suspended",
        }
    ),
    "paused": frozenset({"running", "finish-migrate", "postmigrate", "prelaunch", "colo"}),
    "postmigrate": frozenset({"running", "finish-migrate", "prelaunch"}),
    "finish-migrate": frozenset({"running", "paused", "postmigrate", "prelaunch", "colo"}),
    "restore-vm": frozenset({"running", "prelaunch"}),
    "save-vm": frozenset({"running"}),
    "colo": frozenset({"running", "prelaunch", "shutdown"}),
    "shutdown": frozenset({"paused", "finish-migrate", "prelaunch", "colo"}),
    "suspended": frozenset({"running", "finish-migrate", "prelaunch", "colo"}),
    "debug": frozenset({"running", "finish-migrate", "prelaunch", "suspended"}),
    "internal-error": frozenset({"paused", "finish-migrate", "prelaunch"}),
    "io-error": frozenset({"running", "finish-migrate", "prelaunch"}),
    "watchdog": frozenset({"running", "finish-migrate", "prelaunch", "colo"}),
    "guest-panicked": frozenset({"running", "finish-migrate", "prelaunch"}),
}  # fmt: skip

#: what versions that keep a suspended guest suspended (`Traits.suspend_survives_stop`) add
SUSPEND_TRANSITIONS: Mapping[str, frozenset[str]] = {
    "prelaunch": frozenset({"suspended"}),
    "paused": frozenset({"suspended"}),
    "restore-vm": frozenset({"suspended"}),
    "save-vm": frozenset({"suspended"}),
    "suspended": frozenset({"paused", "save-vm", "restore-vm", "shutdown"}),
    "finish-migrate": frozenset(
        {"internal-error", "io-error", "shutdown", "suspended", "watchdog", "guest-panicked"}
    ),
}

#: what `cont` refuses to leave without a reset
NEEDS_RESET = frozenset({"internal-error", "shutdown"})


def transitions(traits: Traits) -> dict[str, frozenset[str]]:
    """The whole table of one version: state -> states it may change to."""
    if not traits.suspend_survives_stop:
        return dict(TRANSITIONS)
    return {
        state: allowed | SUSPEND_TRANSITIONS.get(state, frozenset())
        for state, allowed in TRANSITIONS.items()
    }


class InvalidTransitionError(RuntimeError):
    """A change outside the table: QEMU would abort with this text."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(f"invalid runstate transition: '{old}' -> '{new}'")


class RunState:
    """The run state of one machine."""

    def __init__(self, traits: Traits, journal: Journal) -> None:
        self._table = transitions(traits)
        self._suspend_survives_stop = traits.suspend_survives_stop
        self._journal = journal
        self._current = "prelaunch"
        self._listeners: list[Callable[[str, str], None]] = []

    @property
    def current(self) -> str:
        """The state's name, as query-status shows it."""
        return self._current

    @property
    def running(self) -> bool:
        """Whether the guest runs."""
        return self._current == "running"

    @property
    def live(self) -> bool:
        """Whether a stop means something: running, or suspended where that counts as alive."""
        return self.running or (self._suspend_survives_stop and self._current == "suspended")

    @property
    def needs_reset(self) -> bool:
        """Whether only a reset leads out of the state."""
        return self._current in NEEDS_RESET

    def check(self, *states: str) -> bool:
        """Whether the state is one of `states`."""
        return self._current in states

    def can(self, new: str) -> bool:
        """Whether the table allows a change to `new`."""
        return new == self._current or new in self._table[self._current]

    def set(self, new: str) -> None:
        """Change to `new`; the same state again is no change.

        Raises InvalidTransitionError where the table has no such change.
        """
        old = self._current
        if new == old:
            return
        if new not in self._table[old]:
            raise InvalidTransitionError(old, new)
        self._current = new
        self._journal.note("runstate", new, old=old)
        for listener in tuple(self._listeners):
            listener(old, new)

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Call `listener(old, new)` after each change."""
        self._listeners.append(listener)
