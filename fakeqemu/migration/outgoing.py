"""The source side: one outgoing migration at a time, from `migrate` to its end.

The order of checks is QEMU's and differs: since 10.0 addresses and transports are judged
before anything else, up to 7.2 last, when the migration has already begun to fail. What
happens once the channel is open is the affair of a course (`precopy`, `postcopy`, `snapshot`);
how a migration begins and ends, and what becomes of the guest then, is the same for all and
stands here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import MILLISECOND, Timer
from fakeqemu.migration import cpr, guest, schemainfo, state
from fakeqemu.migration.address import Address
from fakeqemu.migration.bitmaps import OutgoingBitmaps, mapping_of
from fakeqemu.migration.channel import OutgoingChannel
from fakeqemu.migration.hearing import LOST, Hearing
from fakeqemu.migration.hold import Hold
from fakeqemu.migration.postcopy import Postcopy
from fakeqemu.migration.precopy import Precopy
from fakeqemu.migration.prepare import (
    NO_PROTOCOL,
    channel_addresses,
    check_cpr_exec,
    check_disks,
    check_migrate,
    old_address,
)
from fakeqemu.migration.sender import Sender
from fakeqemu.migration.snapshot import Snapshot
from fakeqemu.migration.state import POSTCOPY, RUNNING, Status
from fakeqemu.migration.workload import Limits, Transfer, Workload
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.object import MigrationObject
    from fakeqemu.model.host import CprLink
    from fakeqemu.model.machine import Machine

#: what the numbers of threads begin with, where they are counted
_THREADS = 2000
#: how long it takes until a cancel is noticed
_CANCEL_TIME = 20 * MILLISECOND


class Outgoing:
    """Outgoing migration of one machine; owns its status."""

    def __init__(self, vm: Machine, migration: MigrationObject) -> None:
        self.vm = vm
        self.migration = migration
        self.traits = vm.profile.traits
        table = state.rows(state.OUTGOING, self.traits, schemainfo.statuses(vm.profile))
        self.state = Status("outgoing", table, vm.journal, self._announce)
        #: why the migration failed; empty if nothing was recorded
        self.error = ""
        self.transfer = Transfer(Workload(ram=0), Limits(), 0)
        #: the channel and the stream on it; None before, and when all is over
        self.channel: OutgoingChannel | None = None
        self.sender: Sender | None = None
        #: nanoseconds
        self.setup_time = 0
        self.hold = Hold(vm)
        #: dirty bitmaps that go along; None without the capability
        self.bitmaps: OutgoingBitmaps | None = None
        #: migrate-start-postcopy was asked for
        self.postcopy_wanted = False
        #: writes to memory are caught, for a snapshot in the background
        self.memory_watched = False
        #: nothing more will be sent; the destination's answer is awaited
        self.all_sent = False
        #: the destination has answered: all went well, or something went wrong; None: not yet
        self.answered_well: bool | None = None
        #: what goes on once the channel is open; None before, and when all is over
        self.course: Precopy | Postcopy | Snapshot | None = None
        #: the cpr channel, while the new process is waited for
        self._cpr_link: CprLink | None = None
        #: names of the threads that somebody was told of
        self._threads: set[str] = set()
        self._began = 0
        self._ended = 0
        self._told_passes = 0
        self._timer: Timer | None = None
        vm.on_exit.append(self._exiting)
        vm.runstate.listen(self._runstate_changed)

    # -- what others see ---------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The MigrationStatus of the source."""
        return self.state.current

    @property
    def total_time(self) -> int:
        """Nanoseconds the migration takes, or took."""
        return (self._ended if self.status not in RUNNING else self.vm.clock.now()) - self._began

    @property
    def yankable(self) -> bool:
        """Whether query-yank lists this migration."""
        waits = self._cpr_link is not None and self.channel is None
        return self.status in RUNNING and (not waits or self.traits.yankable_while_cpr_waits)

    def threads(self) -> list[dict[str, Any]]:
        """What query-migrationthreads lists."""
        if self.channel is None or self.status not in RUNNING - {"setup"}:
            return []
        names = ["mig/src/main"]
        names += [f"mig/src/send_{number}" for number in range(self.channel.multifd_channels)]
        self._threads.update(names)
        threads = [
            {"name": name, "thread-id": self.vm.host.thread_id(name, _THREADS + number)}
            for number, name in enumerate(names)
        ]
        return threads[::-1]

    def settle(self) -> None:
        """Bring the numbers up to now."""
        if self.course is not None:
            self.course.settle()

    # -- commands ----------------------------------------------------------------------------

    def migrate(
        self,
        monitor: Any,
        uri: str | None = None,
        channels: list[dict[str, Any]] | None = None,
        *,
        resume: bool = False,
        block: bool = False,
        incremental: bool = False,
    ) -> None:
        """The command `migrate`. Raises QapiError."""
        vm, migration = self.vm, self.migration
        if not self.traits.migration_channels:
            assert uri is not None
            check_migrate(vm, migration, resume=resume)
            if block or incremental:
                check_disks(vm, migration, incremental=incremental)
            if not resume:
                self._begin()
            try:
                address = old_address(vm, uri)
            except QapiError as error:
                # a scheme it does not know is refused without being recorded
                self.refused(error, record=error.desc != NO_PROTOCOL)
                raise
            self._open(monitor, address, resume=resume)
            return
        address, cpr_address = channel_addresses(vm, migration, uri, channels)
        check_migrate(vm, migration, resume=resume)
        cpr.check_channel(migration.mode, cpr_address)
        if migration.mode == cpr.EXEC:
            check_cpr_exec(migration)
        if not resume:
            self._begin()
        elif self.traits.postcopy_recover_setup_state:
            self.state.move("postcopy-recover-setup")
        if migration.mode == cpr.TRANSFER:
            self._open_after_cpr(cpr_address, address)
        else:
            self._open(monitor, address, resume=resume)

    def cancel(self) -> None:
        """The command `migrate_cancel`. Raises QapiError in postcopy where it is refused."""
        if self.status in POSTCOPY and self.traits.migrate_cancel_in_postcopy_refused:
            raise QapiError("Postcopy migration in progress, cannot cancel.")
        if self.status == "cancelling":
            self._announce("cancelling")
        if self.status not in RUNNING or self.status in ("cancelling", "failing"):
            return
        interrupted = self.status == "pre-switchover"
        self.state.move("cancelling")
        self._stop_timer()
        if interrupted:
            self.error = self.traits.switchover_interrupted_error
        elif self.channel is not None and self.channel.return_path:
            self.record(LOST if self.traits.return_path_error_recorded else "")
        if self.channel is None or not self.channel.connected:
            self._cancelled()
        else:
            self.later(_CANCEL_TIME, self._cancelled)

    def continue_(self, expected: str) -> None:
        """The command `migrate-continue`. Raises QapiError in another state than `expected`."""
        if self.status != expected:
            raise QapiError(f"Migration not in expected state: {self.status}")
        if expected == "pre-switchover" and self.course is not None:
            self.course.go_on()

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
        if self.status == "active" and isinstance(self.course, Precopy):
            # the reply goes first
            self.later(0, self.course.advance)

    def pause(self) -> bool:
        """Break a postcopy as `migrate-pause` does; false if there is none to break."""
        alive = state.pausable(self.traits)
        if self.status not in alive or not isinstance(self.course, Postcopy):
            return False
        self.record(self.traits.migrate_pause_error)
        course = self.course
        self.later(0, lambda: course.broken(""))
        return True

    def parameters_changed(self) -> None:
        """Bandwidth and downtime take effect while the migration runs."""
        if self.course is not None:
            self.transfer.set_limits(self.vm.clock.now(), guest.limits(self.migration))
            self.course.schedule()

    def guest_dirties(self, rate: int, working_set: int | None) -> None:
        """The guest writes to `rate` bytes a second from now on, within `working_set` bytes."""
        given = self.vm.guest_workload
        base = Workload(vcpus=max(1, self.vm.cpus.topology.cpus)) if given is None else given
        self.vm.guest_workload = replace(base, dirty_rate=rate, working_set=working_set)
        if self.course is not None:
            changed = guest.workload(self.vm, self.migration)
            self.transfer.set_workload(self.vm.clock.now(), changed)
            self.course.schedule()

    def yank(self) -> None:
        """Break the channel as the command `yank` does; it knows only sockets."""
        if self.channel is not None and self.channel.is_socket:
            self.channel.yank()

    # -- before the channel ------------------------------------------------------------------

    def _begin(self) -> None:
        self.error = ""
        self.setup_time = 0
        self.hold = Hold(self.vm)
        self._began = self._ended = self.vm.clock.now()
        self.all_sent = self.postcopy_wanted = False
        self.answered_well = None
        self.begin_transfer()
        self.state.move("setup")

    def save_to_image(self) -> None:
        """The machine's state has gone into a disk image at once: a migration to nowhere."""
        self._begin()
        if self.migration.capabilities("events") and self.traits.pass_before_active:
            for number in (1, 2):
                self.vm.events.emit("MIGRATION_PASS", {"pass": number})
        self.state.move("completed")

    def begin_transfer(self) -> None:
        """The guest's memory is all to be sent, from now on."""
        self.transfer = Transfer(
            guest.workload(self.vm, self.migration),
            guest.limits(self.migration),
            self.vm.clock.now(),
            running=self.vm.runstate.running,
            last_look_counts=self.traits.pass_before_active,
        )
        self._told_passes = 0 if self.traits.pass_before_active else 1

    def _open(self, monitor: Any, address: Address, *, resume: bool = False) -> None:
        self.channel = OutgoingChannel(
            self.vm, self.migration, Hearing(self), resume=resume
        )
        try:
            self.channel.open(monitor, address)
        except QapiError as error:
            self.refused(error, record=not resume or self.traits.resume_refusal_recorded)
            raise

    def _open_after_cpr(self, channel: Address | None, address: Address) -> None:
        """Connect once the new process has taken the CPR state and listens."""

        def go_on() -> None:
            with contextlib.suppress(QapiError):
                self._open(None, address)

        try:
            self._cpr_link = cpr.send_state(self.vm, channel, go_on)
        except QapiError as error:
            self.refused(error)
            raise

    def refused(self, error: QapiError, *, record: bool = True) -> None:
        """The migration, or its resumption, came to nothing before it had a channel."""
        if record:
            self.error = error.desc
        if isinstance(self.course, Postcopy):
            self.course.not_resumed()
            return
        if self.state.can("failing"):
            self.state.move("failing")
        self.state.move("failed")
        self._finish()

    # -- for the courses ---------------------------------------------------------------------

    def later(self, delay: int, call: Callable[[], None]) -> None:
        """The one thing that happens next, unless something else does before."""
        self._stop_timer()
        self._timer = self.vm.call_later(delay, call, self.fail_by_bug)

    def later_at(self, time: int | None, call: Callable[[], None]) -> None:
        """The same at a time of the clock; None: nothing happens by itself."""
        self._stop_timer()
        if time is not None:
            self.later(max(0, time - self.vm.clock.now()), call)

    def tell_passes(self) -> None:
        """Announce the looks at dirty memory that have not been announced."""
        if self._told_passes < self.transfer.dirty_sync_count:
            latest = str(self.transfer.dirty_sync_count)
            self.vm.journal.note("migration-pass", latest, remaining=self.transfer.remaining)
        if self.migration.capabilities("events"):
            for number in range(self._told_passes, self.transfer.dirty_sync_count):
                self.vm.events.emit("MIGRATION_PASS", {"pass": number + 1})
        self._told_passes = self.transfer.dirty_sync_count

    def gather_bitmaps(self) -> None:
        """Begin to send the dirty bitmaps. Raises QapiError if one of them stands against it."""
        if self.migration.capabilities("dirty-bitmaps"):
            assert self.sender is not None
            self.bitmaps = OutgoingBitmaps(self.vm, mapping_of(self.migration))
            self.sender.setup_bitmaps(self.bitmaps)

    def complete(self, runstate: str) -> None:
        """All is sent and taken; `runstate` is what the guest is in afterwards."""
        self._ended = self.vm.clock.now()
        self.hold.end_downtime()
        self.state.move("completed")
        self.vm.runstate.set(runstate)
        self._finish()
        if self.migration.mode == cpr.EXEC:
            self._execute()

    def fail(self, text: str) -> None:
        """The migration has failed for good, for `text` unless there was a reason before."""
        self.record(text)
        if self.error:
            self.vm.host.warn(self.error)
        if self.state.can("failing"):
            self.state.move("failing")
            self.hold.restore()
            self.state.move("failed")
        else:
            self.state.move("failed")
            self.hold.restore()
        self._finish()

    def fail_by_bug(self, error: QapiError) -> None:
        """Something of ours went wrong on the way: this migration comes to nothing."""
        if self.status == "cancelling":
            self._cancelled()
        elif self.status in RUNNING:
            self.record(error.desc)
            if self.state.can("failing") or self.state.can("failed"):
                self.fail(error.desc)
            elif isinstance(self.course, Postcopy):
                # the guest runs elsewhere: as if the channel had broken
                self.course.broken(error.desc)

    # -- the end -----------------------------------------------------------------------------

    def record(self, text: str) -> None:
        """Remember a reason; the first one counts."""
        self.error = self.error or text

    def _execute(self) -> None:
        """Mode cpr-exec, everything is sent: become the new process, or go on as the old one."""
        try:
            cpr.execute(self.vm, self.migration.parameters["cpr-exec-command"])
        except QapiError as error:
            self.error = error.desc
            self.vm.host.warn(error.desc)
            self.state.move("failed")
            if self.hold.old_state == "running":
                self.vm.lifecycle.vm_start()

    def _cancelled(self) -> None:
        if isinstance(self.course, Postcopy):
            self.vm.runstate.set("postmigrate")
        else:
            self.hold.restore()
        if self.error:
            self.vm.host.warn(self.error)
        self.state.move("cancelled")
        self._finish()

    def _finish(self) -> None:
        self._stop_timer()
        self._ended = self.vm.clock.now()
        self.course = self.sender = None
        bitmaps, self.bitmaps = self.bitmaps, None
        if bitmaps is not None:
            bitmaps.release()
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()
        while self._threads:
            self.vm.host.end_thread(self._threads.pop())
        link, self._cpr_link = self._cpr_link, None
        if link is not None:
            link.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _exiting(self, _code: int) -> None:
        if self.status in RUNNING - {"cancelling", "failing"} - POSTCOPY:
            self._stop_timer()
            self.state.move("cancelling")
            if self._cpr_link is not None:
                self._cancelled()

    def _runstate_changed(self, _old: str, _new: str) -> None:
        if isinstance(self.course, Precopy) and self.hold.old_state is None:
            self.transfer.set_running(self.vm.clock.now(), self.vm.runstate.running)
            self.course.schedule()

    def _announce(self, status: str) -> None:
        if self.migration.capabilities("events"):
            self.vm.events.emit("MIGRATION", {"status": status})
