"""The source side: one outgoing migration at a time, from `migrate` to its end.

See migration/migration.c: struct MigrationState, migration_cancel() and
migration_iteration_finish(). What happens between is a phase (`precopy`, `postcopy`,
`background_snapshot`), which a `PhaseDriver` resumes. How a migration begins and ends, and the
guest's run state afterwards, is common to all phases and implemented here with the state that they
share: they read it and call methods, and assign nothing.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import MILLISECOND, Timer
from fakeqemu.migration import cpr, state, vmstate as guest
from fakeqemu.migration.block_dirty_bitmaps import OutgoingBitmaps, mapping_of
from fakeqemu.migration.channels.address import Address, requires_unix_socket
from fakeqemu.migration.outgoing.background_snapshot import BackgroundSnapshot
from fakeqemu.migration.outgoing.channel_errors import report_broken_channel
from fakeqemu.migration.outgoing.channels import OutgoingChannel
from fakeqemu.migration.outgoing.driver import OutgoingDriver
from fakeqemu.migration.outgoing.phase import (
    Changed,
    ChannelBrokenError,
    Continue,
    NotConnectedError,
    OpenFurtherChannels,
    Phase,
    StartPostcopy,
    WaitForChannel,
)
from fakeqemu.migration.outgoing.postcopy import Postcopy
from fakeqemu.migration.outgoing.precopy import Precopy
from fakeqemu.migration.outgoing.progress import Progress
from fakeqemu.migration.outgoing.return_path import LOST, SourceReturnPath
from fakeqemu.migration.outgoing.savevm import SaveVm
from fakeqemu.migration.outgoing.vm_stop import VmStop
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.phases.requests import Due, PhaseError
from fakeqemu.migration.state import POSTCOPY, RUNNING, Status
from fakeqemu.migration.threads import MigrationThreads
from fakeqemu.migration.transfer.model import Transfer
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.host import CprLink
    from fakeqemu.model.machine import Machine

#: time until a cancel takes effect
_CANCEL_TIME = 20 * MILLISECOND


class Outgoing:
    """Outgoing migration of one machine; owns its status."""

    def __init__(self, vm: Machine, migration: MigrationSettings) -> None:
        self.vm = vm
        self.migration = migration
        self.traits = vm.profile.traits
        table = state.rows(state.OUTGOING, self.traits, schemainfo.statuses(vm.profile))
        self.state = Status("outgoing", table, vm.journal, migration.announce)
        #: why the migration failed; empty if nothing was recorded
        self.error = ""
        self.vm_stop = VmStop(vm)
        self.progress = Progress(vm, migration, self.vm_stop)
        #: None before the start and after the end
        self.channel: OutgoingChannel | None = None
        #: nanoseconds
        self.setup_time = 0
        #: dirty bitmaps that go along; None without the capability
        self.bitmaps: OutgoingBitmaps | None = None
        #: migrate-start-postcopy was asked for
        self.postcopy_wanted = False
        self.return_path = SourceReturnPath()
        self.postcopy = Postcopy(self)
        self._precopy = Precopy(self)
        self._snapshot = BackgroundSnapshot(self)
        self._driver = OutgoingDriver(vm.guard, vm.process, self.traits, self)
        #: the stream; None until the channel is open, and when all is over
        self._save_vm: SaveVm | None = None
        #: the cpr channel, until the new process listens
        self._cpr_link: CprLink | None = None
        self._threads = MigrationThreads(vm.host)
        self._began = 0
        self._ended = 0
        self._cancel_timer: Timer | None = None

    # -- what others see ---------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The MigrationStatus of the source."""
        return self.state.current

    @property
    def transfer(self) -> Transfer:
        """The transfer of the guest's memory: passes, bytes, downtime."""
        return self.progress.transfer

    @property
    def total_time(self) -> int:
        """Duration of the migration so far, or in the end, in nanoseconds."""
        return (self._ended if self.status not in RUNNING else self.now) - self._began

    @property
    def yankable(self) -> bool:
        """Whether query-yank lists this migration."""
        waits = self._cpr_link is not None and self.channel is None
        return self.status in RUNNING and (not waits or self.traits.yankable_while_cpr_waits)

    def threads(self) -> list[dict[str, Any]]:
        """MigrationThreadInfo list of query-migrationthreads."""
        if self.channel is None or self.status not in RUNNING - {"setup"}:
            return []
        return self._threads.query(self.channel.multifd_channels)

    @property
    def under_way(self) -> bool:
        """Whether the migration has a channel, had one, or may get another (postcopy pause)."""
        return self._save_vm is not None

    def settle(self) -> None:
        """Advance the transfer to now, but not past the moment of a switchover."""
        if self.under_way:
            iterates = self.status == "active" and self._passes
            self.progress.settle(stops_converged=iterates and self._precopy.can_switchover)

    # -- commands ----------------------------------------------------------------------------

    def cancel(self) -> None:
        """The command `migrate_cancel`. Raises QapiError in postcopy where it is refused."""
        if self.status in POSTCOPY and self.traits.migrate_cancel_in_postcopy_refused:
            raise QapiError("Postcopy migration in progress, cannot cancel.")
        if self.status == "cancelling":
            self.migration.announce("cancelling")
        if self.status not in RUNNING or self.status in ("cancelling", "failing"):
            return
        interrupted = self.status == "pre-switchover"
        self.state.move("cancelling")
        self._driver.stop()
        if interrupted:
            self.error = self.traits.switchover_interrupted_error
        elif self.channel is not None and self.channel.return_path:
            self.record(LOST if self.traits.return_path_error_recorded else "")
        if self.channel is None or not self.channel.connected:
            self._cancelled()
        else:
            self._cancel_timer = self.vm.process.call_later(
                _CANCEL_TIME, self._cancelled, self.fail_by_bug
            )

    def continue_(self, expected: str) -> None:
        """The command `migrate-continue`. Raises QapiError in another state than `expected`."""
        if self.status != expected:
            raise QapiError(f"Migration not in expected state: {self.status}")
        if expected == "pre-switchover":
            self._driver.post(Continue())

    def start_postcopy(self) -> None:
        """The command `migrate-start-postcopy`. Raises QapiError."""
        capabilities = self.migration.capabilities
        if not (capabilities("postcopy-ram") or capabilities("dirty-bitmaps")):
            raise QapiError(
                "Enable postcopy with migrate_set_capability before the start of migration"
            )
        if self.status == "none":
            raise QapiError("Postcopy must be started after migration has been started")
        self.postcopy_wanted = True
        if self.status == "active":
            self._driver.wake(StartPostcopy())

    def pause(self) -> bool:
        """Break a postcopy's channel as `migrate-pause` does; false if the state does not allow it.
        """
        alive = state.pausable(self.traits)
        if self.status not in alive:
            return False
        self.record(self.traits.migrate_pause_error)
        self._driver.break_channel_later("")
        return True

    def parameters_changed(self) -> None:
        """Apply changed bandwidth and downtime limits to the running migration."""
        if self.under_way:
            self.progress.limits_changed()
            self._driver.wake(Changed())

    def guest_dirties(self, rate: int, working_set: int | None) -> None:
        """The guest dirties `rate` bytes a second from now on, in `working_set` bytes of memory."""
        self.progress.guest_dirties(rate, working_set, under_way=self.under_way)
        if self.under_way:
            self._driver.wake(Changed())

    def force_switchover(self) -> None:
        """Switch over as if precopy had converged: the guest dirties no more."""
        if self.status == "active" and self._passes and self.transfer.phase == "precopy":
            self.progress.force_convergence()
            self._driver.wake(Due())

    def yank(self) -> None:
        """Shut the channel down as the command `yank` does; sockets only."""
        if self.channel is not None and self.channel.is_socket:
            self.channel.yank()

    # -- before the channel ------------------------------------------------------------------

    def begin(self) -> None:
        """Reset the state of the last migration and enter `setup`."""
        self.error, self.setup_time, self.postcopy_wanted = "", 0, False
        self.vm_stop = VmStop(self.vm)
        self._began = self._ended = self.now
        self.return_path = SourceReturnPath()
        self.postcopy = Postcopy(self)
        self.progress.begin()
        self.state.move("setup")

    def save_to_image(self) -> None:
        """Record that savevm has saved the machine's state: a migration without a channel."""
        self.begin()
        if self.migration.capabilities("events") and self.traits.pass_before_active:
            for number in (1, 2):
                self.vm.events.emit("MIGRATION_PASS", {"pass": number})
        self.state.move("completed")

    def open(self, monitor: Any, address: Address, *, resume: bool = False) -> None:
        """Begin to connect. Raises QapiError for an address that is refused at once."""
        self.channel = OutgoingChannel(self.vm, self.migration, self._driver, resume=resume)
        if not resume:
            self._driver.start(self._run())
        try:
            self.channel.open(monitor, address)
        except QapiError as error:
            self.refused(error, record=not resume or self.traits.resume_refusal_recorded)
            raise

    def open_after_cpr(self, channel: Address | None, address: Address) -> None:
        """Connect once the new process has loaded the CPR state and listens. Raises QapiError."""

        def go_on() -> None:
            with contextlib.suppress(QapiError):
                self.open(None, address)

        listening = self.vm.guard.bind(go_on, self.fail_by_bug)
        try:
            self._cpr_link = cpr.send_state(self.vm, channel, listening)
        except QapiError as error:
            self.refused(error)
            raise

    def _run(self) -> Phase:
        """The whole migration as one generator, from connecting on."""
        yield WaitForChannel()
        source = guest.source(self.vm, self.migration)
        self._save_vm = SaveVm(source, self.traits, offset=self.open_channel.file_offset)
        if self.migration.mode != "normal":
            self.vm_stop.stop()
        yield from self.save_vm.begin(return_path=self.open_channel.return_path)
        yield OpenFurtherChannels()
        return (yield from (self._precopy if self._passes else self._snapshot).run())

    def not_connected(self, error: NotConnectedError) -> None:
        """Connecting the channel failed."""
        if error.record and (self.traits.reports_connect_failure or self.postcopy.started):
            self.vm.host.warn(error.text)
            if error.hint:
                self.vm.host.warn(error.hint)
        self.refused(QapiError(error.text), record=error.record)

    def refused(self, error: QapiError, *, record: bool = True) -> None:
        """The migration, or its resumption, failed before it had a channel."""
        if record:
            self.error = error.desc
        if self.postcopy.started:
            self.drop_channel()
            if self.status == "postcopy-recover-setup":
                self.state.move("postcopy-paused")
            return
        if self.state.can("failing"):
            self.state.move("failing")
        self.state.move("failed")
        self._finish()

    # -- for the phases ----------------------------------------------------------------------

    @property
    def now(self) -> int:
        """Nanoseconds of the machine's clock."""
        return self.vm.clock.now()

    @property
    def open_channel(self) -> OutgoingChannel:
        """The channel, which must exist."""
        assert self.channel is not None
        return self.channel

    @property
    def save_vm(self) -> SaveVm:
        """The stream writer, which must exist."""
        assert self._save_vm is not None
        return self._save_vm

    @property
    def _passes(self) -> bool:
        """Whether memory is sent in passes while the guest runs on this side."""
        snapshot = self.migration.capabilities("background-snapshot")
        return not snapshot and not self.postcopy.started

    def end_setup(self) -> None:
        """Enter `active`: memory is sent from now on."""
        self.setup_time = self.total_time
        self.state.move("active")

    def begin_recovery(self) -> None:
        """A new channel is connected: forget the error of the last one."""
        self.error = ""
        self.return_path.restart()
        self.state.move("postcopy-recover")

    def drop_channel(self) -> None:
        """Close the channel; postcopy waits for another one."""
        self.transfer.set_halted(self.now, True)
        self.return_path.restart()
        self._driver.forget_events()
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()

    def gather_bitmaps(self) -> OutgoingBitmaps | None:
        """Choose the dirty bitmaps to migrate; None without the capability.

        Raises QapiError if one of them cannot be migrated.
        """
        if self.migration.capabilities("dirty-bitmaps"):
            self.bitmaps = OutgoingBitmaps(self.vm, mapping_of(self.migration))
        return self.bitmaps

    def complete(self, runstate: str) -> None:
        """Everything is sent and loaded; `runstate` is the guest's run state afterwards."""
        self._ended = self.now
        self.vm_stop.end_downtime()
        self.state.move("completed")
        if requires_unix_socket(self.migration.parameters):
            self.vm.taps.handed_over()
        self.vm_stop.enter(runstate)
        self._finish()
        if self.migration.mode == cpr.EXEC:
            self._execute()

    def fail(self, text: str) -> None:
        """Fail the migration, with `text` unless an error was recorded before."""
        self.record(text)
        if self.error:
            self.vm.host.warn(self.error)
        if self.state.can("failing"):
            self.state.move("failing")
            self.vm_stop.restore()
            self.state.move("failed")
        else:
            self.state.move("failed")
            self.vm_stop.restore()
        self._finish()

    def fail_by_bug(self, error: QapiError) -> None:
        """Fail the migration after an unexpected exception in its code."""
        if self.status == "cancelling":
            self._cancelled()
        elif self.status in RUNNING:
            self.record(error.desc)
            if self.state.can("failing") or self.state.can("failed"):
                self.fail(error.desc)
            elif self.status != "postcopy-paused":
                # the guest runs on the destination: handled as a broken channel
                self._driver.start(self.postcopy.broken(error.desc))

    def phase_failed(self, error: PhaseError) -> None:
        """A phase raised `error`: the migration fails."""
        match error:
            case NotConnectedError():
                self.not_connected(error)
            case ChannelBrokenError() if self.status == "setup" and self.open_channel.uses_tls:
                self.not_connected(NotConnectedError(self.traits.tls_hangup))
            case ChannelBrokenError():
                self.fail(report_broken_channel(self, error))
            case _:
                self.fail(error.text)

    # -- the end -----------------------------------------------------------------------------

    def record(self, text: str) -> None:
        """Record an error; the first one is kept. See migrate_set_error()."""
        self.error = self.error or text

    def _execute(self) -> None:
        """Mode cpr-exec, all is sent: execute the new program, or continue as the old one."""
        try:
            cpr.execute(self.vm, self.migration.parameters["cpr-exec-command"])
        except QapiError as error:
            self.error = error.desc
            self.vm.host.warn(error.desc)
            self.state.move("failed")
            if self.vm_stop.vm_old_state == "running":
                self.vm.lifecycle.vm_start()

    def _cancelled(self) -> None:
        if self.postcopy.started:
            self.vm_stop.enter("postmigrate")
        else:
            self.vm_stop.restore()
        if self.error:
            self.vm.host.warn(self.error)
        self.state.move("cancelled")
        self._finish()

    def _finish(self) -> None:
        self._driver.stop()
        if self._cancel_timer is not None:
            self._cancel_timer.cancel()
            self._cancel_timer = None
        self._ended = self.now
        self._save_vm = None
        bitmaps, self.bitmaps = self.bitmaps, None
        if bitmaps is not None:
            bitmaps.release()
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()
        self._threads.end()
        link, self._cpr_link = self._cpr_link, None
        if link is not None:
            link.close()

    def exiting(self) -> None:
        """The process ends."""
        if self.status in RUNNING - {"cancelling", "failing"} - POSTCOPY:
            self._driver.stop()
            self.state.move("cancelling")
            if self._cpr_link is not None:
                self._cancelled()

    def runstate_changed(self) -> None:
        """The guest was resumed or stopped, perhaps."""
        if self.under_way and self._passes and self.vm_stop.vm_old_state is None:
            self.progress.running_changed()
            self._driver.wake(Changed())
