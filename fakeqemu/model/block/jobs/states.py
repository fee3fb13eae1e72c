"""The states of a job, which may follow which, and what a client may ask in each.

Nothing but `JobState.enter` assigns a state.

See job.c: JobSTT, JobVerbTable, job_state_transition_locked() and job_apply_verb_locked().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fakeqemu.qapi.errors import QapiError

#: state -> states that may follow
TRANSITIONS: Mapping[str, frozenset[str]] = {
    "undefined": frozenset({"created"}),
    "created": frozenset({"running", "aborting", "null"}),
    "running": frozenset({"paused", "ready", "waiting", "aborting"}),
    "paused": frozenset({"running"}),
    "ready": frozenset({"standby", "waiting", "aborting"}),
    "standby": frozenset({"ready"}),
    "waiting": frozenset({"pending", "aborting"}),
    "pending": frozenset({"aborting", "concluded"}),
    "aborting": frozenset({"aborting", "concluded"}),
    "concluded": frozenset({"null"}),
    "null": frozenset(),
}

_ACTIVE = frozenset({"created", "running", "paused", "ready", "standby"})

#: what a client may ask -> states in which it may
VERBS: Mapping[str, frozenset[str]] = {
    "cancel": _ACTIVE | {"waiting", "pending"},
    "pause": _ACTIVE,
    "resume": _ACTIVE,
    "set-speed": _ACTIVE,
    "complete": frozenset({"ready", "standby"}),
    "finalize": frozenset({"pending"}),
    "dismiss": frozenset({"concluded"}),
    "change": _ACTIVE,
}

#: states of a job that has done, or given up, its work
COMPLETED = frozenset({"waiting", "pending", "aborting", "concluded", "null"})
READY = frozenset({"ready", "standby"})


class JobState:
    """The state of one job."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._current = "undefined"

    @property
    def current(self) -> str:
        """The state's name in the schema."""
        return self._current

    def enter(self, state: str) -> None:
        """Change to `state`, and say so to the job unless it is the same."""
        if state not in TRANSITIONS[self._current]:
            raise RuntimeError(f"job state {state} after {self._current}")
        before, self._current = self._current, state
        if before != state:
            self._changed(state)

    def check(self, verb: str, id: str) -> None:
        """Raise QapiError if `verb` is not allowed now."""
        if self._current not in VERBS[verb]:
            raise QapiError(
                f"Job '{id}' in state '{self._current}' cannot accept command verb '{verb}'"
            )
