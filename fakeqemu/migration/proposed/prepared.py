"""migrate_prepare and migrate_run: a migration in two phases, as the thread described it.

Preparing sets parameters and capabilities, all or none, and fixes them: until the migration runs
or is called off nothing else may change them, and no other migration can begin. It also resets
a mode that a cpr channel brought along, which nothing else does. Running starts it.

query-migrate shows `prepared` meanwhile. As a job it is `ready` then, `job-complete` runs it,
`job-cancel` calls it off, and it stays `concluded` until dismissed.

Proposed in addition to qapi/migration.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.migration.channels.address import check_transport, parse_uri
from fakeqemu.migration.migrate import migrate_away
from fakeqemu.migration.parameters.parameters import Layer
from fakeqemu.migration.proposed.inline import check_global
from fakeqemu.migration.proposed.migration_job import MigrationJob
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.object import MigrationObject
    from fakeqemu.model.machine import Machine

STATUS = "prepared"

NOT_PREPARED = "No migration has been prepared"
FIXED = "A migration has been prepared, its parameters are fixed"
PREPARED = "A migration has been prepared already"

Channels = list[dict[str, Any]]


class PreparedMigration:
    """The migration of one machine that was prepared and does not run yet."""

    def __init__(self, vm: Machine, migration: MigrationObject) -> None:
        self._vm = vm
        self._migration = migration
        #: whether there is one
        self.active = False
        self._uri: str | None = None
        self._channels: Channels | None = None
        self._exit_on_error = True
        self._job: MigrationJob | None = None

    def check_free(self, text: str = FIXED) -> None:
        """Raise QapiError with `text` while a migration is prepared."""
        if self.active:
            raise QapiError(text)

    def prepare(
        self,
        uri: str | None = None,
        channels: Channels | None = None,
        config: Mapping[str, Any] | None = None,
        capabilities: Sequence[Mapping[str, Any]] = (),
        *,
        exit_on_error: bool = True,
    ) -> None:
        """What migrate_prepare does. Raises QapiError, and then nothing has changed."""
        migration = self._migration
        self.check_free(PREPARED)
        incoming = self._vm.runstate.check("inmigrate")
        if migration.running:
            raise QapiError("There's a migration process in progress")
        if incoming and migration.incoming.started:
            raise QapiError("The incoming migration has already been started")
        if not incoming and not migration.traits.prepare_outgoing:
            raise QapiError("'-incoming' was not specified on the command line")
        check_global(migration, config or {})
        before = migration.parameters.snapshot(), migration.capabilities.snapshot()
        if not incoming:
            migration.parameters.clear(Layer.IMPLIED)
        try:
            states = {each["capability"]: each["state"] for each in capabilities}
            migration.change(config or {}, states, Layer.QMP)
            self.begin(uri, channels, exit_on_error=exit_on_error)
        except QapiError:
            migration.parameters.restore(before[0])
            migration.capabilities.restore(before[1])
            raise

    def begin(
        self, uri: str | None, channels: Channels | None, *, exit_on_error: bool = True
    ) -> None:
        """The values are set, by QMP or on the command line. Raises QapiError."""
        self._check_address(uri, channels)
        if self._migration.traits.prepare_jobs:
            self._job = MigrationJob(
                self._vm.block.jobs, self._run_prepared, self._forget, self._cancel_running
            )
        self.active = True
        self._uri, self._channels = uri, channels
        self._exit_on_error = exit_on_error
        self._vm.journal.note("migration", STATUS, side="prepare", old="none")
        self._migration.announce(STATUS)
        if self._job is not None:
            self._job.start()

    def run(
        self, monitor: Any, uri: str | None = None, channels: Channels | None = None
    ) -> None:
        """What migrate_run does. Raises QapiError; the migration stays prepared then."""
        if not self.active:
            raise QapiError(NOT_PREPARED)
        self.active = False
        try:
            self._start(monitor, uri or self._uri, channels or self._channels)
        except QapiError:
            self.active = True
            raise
        if self._job is not None:
            self._job.runs = True

    def cancel(self) -> bool:
        """Call a prepared one off; False if there is none."""
        if not self.active:
            return False
        if self._job is not None:
            self._job.cancel(force=True)
        self._forget()
        return True

    def ended(self, status: str, error: str) -> None:
        """The migration that ran has ended."""
        if self._job is not None and self._job.runs:
            self._job.outcome = "" if status == "completed" else error or status
            self._job.over = True
            self._job.kick()
            self._job = None

    def _forget(self) -> None:
        self.active = False
        self._job = None

    def _check_address(self, uri: str | None, channels: Channels | None) -> None:
        if self._migration.traits.prepare_takes_address and (uri is None) == (not channels):
            raise QapiError("need either 'uri' or 'channels' argument")
        addresses = [each["addr"] for each in channels or () if each["channel-type"] == "main"]
        if uri is not None:
            addresses.append(parse_uri(uri, self._migration.traits))
        for address in addresses:
            check_transport(address, self._migration.capabilities, self._migration.parameters)

    def _run_prepared(self) -> None:
        self.run(None)

    def _cancel_running(self) -> None:
        if not self._migration.running:
            raise QapiError("An incoming migration cannot be cancelled")
        self._migration.outgoing.cancel()

    def _start(self, monitor: Any, uri: str | None, channels: Channels | None) -> None:
        vm, migration = self._vm, self._migration
        if not vm.runstate.check("inmigrate"):
            migrate_away(vm, migration, monitor, uri, channels)
            return
        if not migration.incoming.started:
            vm.taps.check_before_incoming(bool(migration.parameters.get("local", False)))
        migration.incoming.start(monitor, uri, channels, exit_on_error=self._exit_on_error)
