"""A parameter's value for backends: early from the store, later from the migration object.

See migration/cpr.c: cpr_is_incoming(); migration/options.c: migrate_mode().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.migration.parameters.early import CPR_INCOMING_MODES

if TYPE_CHECKING:
    from fakeqemu.journal import Journal
    from fakeqemu.migration.parameters.early import EarlyParameters
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.runstate import RunState


class ParameterReader:
    """What the parts of a machine read, as `MigrationParameterReader`."""

    def __init__(self, runstate: RunState, journal: Journal, early: EarlyParameters) -> None:
        self._runstate = runstate
        self._journal = journal
        self.early = early
        #: set by the boot step that makes it; None before
        self.object: MigrationSettings | None = None

    def read(self, name: str) -> Any:
        """The parameter's value now. The journal notes early reads."""
        if self.object is not None:
            return self.object.parameters.get(name)
        value = self.early.read(name)
        self._journal.note("early-read", name, value=value)
        return value

    def cpr_is_incoming(self) -> bool:
        """Whether this process takes over from an older one on the same host.

        That is: it waits for an incoming migration in one of the CPR modes. False again once the
        incoming migration is over, although the mode stays.
        """
        if not self._runstate.check("inmigrate"):
            return False
        migration = self.object
        if migration is None:
            mode = self.read("mode")
        else:
            # what the cpr channel implies; else a design may go by the parameter
            mode = migration.incoming_mode
            if mode is None and migration.mode_makes_cpr:
                mode = self.read("mode")
        return mode in CPR_INCOMING_MODES
