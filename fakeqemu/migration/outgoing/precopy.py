"""Precopy: memory in passes while the guest runs, then the guest is stopped and the rest sent.

See migration/migration.c: migration_thread(), migration_iteration_run() and migration_completion().
The phase is woken only when the time model says that something changes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from fakeqemu.clock import MILLISECOND
from fakeqemu.formats.migration_stream.channels.return_path import SwitchoverAck
from fakeqemu.migration import cpr
from fakeqemu.migration.outgoing.phase import (
    Changed,
    ChannelBrokenError,
    CheckError,
    Continue,
    MigrationFailedError,
    Phase,
    Request,
    StartPostcopy,
    Steps,
)
from fakeqemu.migration.phases.requests import Due, Sleep, Wait
from fakeqemu.migration.transfer.model import WINDOW
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing.outgoing import Outgoing

#: time that the set-up takes before the first page
SETUP_TIME = 5 * MILLISECOND
#: interval in which the queue is polled until it is drained
_DRAIN_INTERVAL = MILLISECOND
#: number of passes after which a migration that does not converge is only examined once per
#: bandwidth window: an hour of passes would otherwise be millions of timers
_MANY_PASSES = 2000
#: pages written to a command: more than its pipe holds, so that one which does not read is noticed
_PIPE_PAGES = 8192


class Precopy:
    """One precopy migration, from its connected channels on; may switch to postcopy."""

    def __init__(self, run: Outgoing) -> None:
        self._run = run

    def run(self) -> Phase:
        """Set-up, passes, switchover, completion. See migration_thread()."""
        yield from self._setup()
        if (yield from self.iterate()):
            return (yield from self._run.postcopy.run())
        yield from self._switchover()
        yield from self._completion()
        return "postmigrate"

    # -- set-up ------------------------------------------------------------------------------

    def _setup(self) -> Steps:
        """Send the sections before memory. See migration/savevm.c: qemu_savevm_state_setup()."""
        run = self._run
        # with a return path, set-up ends before an error is noticed
        unnoticed = run.open_channel.return_path and not run.open_channel.uses_tls
        yield Sleep(SETUP_TIME, keeps_errors=unnoticed)
        yield from run.save_vm.setup()
        if not unnoticed:
            yield CheckError()
        refusal = yield from self._setup_bitmaps()
        run.progress.begin()
        run.progress.emit_passes()
        run.end_setup()
        if refusal is not None:
            raise MigrationFailedError(refusal)
        try:
            yield CheckError()
        except ChannelBrokenError as broken:
            raise MigrationFailedError(broken.text) from broken
        yield from run.save_vm.part(_PIPE_PAGES if run.open_channel.is_pipe else 0)
        yield CheckError()
        # a real source blocks here while the pipe is full, so it notices a command that has ended
        while run.open_channel.is_pipe and run.open_channel.queued:
            yield Sleep(_DRAIN_INTERVAL)

    def _setup_bitmaps(self) -> Generator[Request, None, str | None]:
        """Begin the dirty bitmaps; returns the error for which the migration fails, or None."""
        run = self._run
        try:
            bitmaps = run.gather_bitmaps()
            if bitmaps is not None:
                yield from run.save_vm.setup_bitmaps(bitmaps)
        except QapiError as error:
            if run.traits.setup_error_recorded:
                return error.desc
            run.vm.host.warn(error.desc)
            return ""
        return None

    # -- passes ------------------------------------------------------------------------------

    def iterate(self) -> Generator[Request, object, bool]:
        """Run passes until the guest may be stopped; returns whether postcopy starts.

        See migration_iteration_run().
        """
        run = self._run
        transfer = run.transfer
        while True:
            syncs = transfer.dirty_sync_count
            run.settle()
            if transfer.converged and self.can_switchover and not run.traits.pass_before_active:
                transfer.sync_again()
            if transfer.dirty_sync_count != syncs:
                run.progress.emit_passes()
                yield from run.save_vm.part(pass_ends=True)
                yield CheckError()
            if transfer.converged and self.can_switchover:
                return False
            if run.postcopy_wanted and self._destination_agrees and self._may_follow:
                return True
            yield from self._next_change()

    @property
    def can_switchover(self) -> bool:
        """Whether a switchover is possible, apart from the amount of memory left.

        See migration_can_switchover().
        """
        run = self._run
        few = run.bitmaps is None or run.bitmaps.pending <= run.transfer.threshold
        return few and self._destination_agrees

    @property
    def _destination_agrees(self) -> bool:
        """Whether the destination has sent SWITCHOVER_ACK, where that is required."""
        run = self._run
        if not run.migration.capabilities("switchover-ack") or not run.vm.runstate.running:
            return True
        return run.return_path.switchover_acked or not run.traits.switchover_ack_from_destination

    @property
    def _may_follow(self) -> bool:
        """Whether what is left can be sent in postcopy."""
        return self._run.transfer.converged or self._run.migration.capabilities("postcopy-ram")

    def _next_change(self) -> Generator[Request, object, None]:
        """Wait until the time model changes, or for an event."""
        run, event = self._run, object()
        at = self._change_time()
        while not isinstance(event, Due):
            event = yield Wait(at)
            match event:
                case Changed():
                    at = self._change_time()
                case StartPostcopy() | SwitchoverAck():
                    # the reply goes first
                    at = run.now

    def _change_time(self) -> int | None:
        transfer = self._run.transfer
        at = transfer.next_change()
        if at is not None and transfer.dirty_sync_count > _MANY_PASSES:
            at = max(at, transfer.now + WINDOW)
        return at

    # -- the end -----------------------------------------------------------------------------

    def _switchover(self) -> Steps:
        """Stop the guest and send what is left. See migration_switchover_start()."""
        run = self._run
        run.vm_stop.stop()
        if run.migration.capabilities("pause-before-switchover"):
            run.state.move("pre-switchover")
            # nothing is written until migrate-continue, so no error is noticed
            while not isinstance((yield Wait(keeps_errors=True)), Continue):
                pass
            # the reply goes first
            yield Sleep(0, keeps_errors=True)
        if run.status == "pre-switchover" or run.traits.precopy_device_state:
            run.state.move("device")
        run.vm_stop.inactivate()
        try:
            yield CheckError()
        except ChannelBrokenError as broken:
            text = run.traits.switchover_write_error.format(broken.text)
            raise MigrationFailedError(text) from broken
        # with the figures of the decision: the guest has not run since
        run.transfer.stop(run.transfer.now)
        run.progress.emit_passes()
        if run.migration.mode == cpr.TRANSFER:
            cpr.fill_memory(run.vm)
        yield from run.save_vm.ram_end()
        yield CheckError()
        run.transfer.advance(run.now)
        while run.transfer.phase != "done":
            if isinstance((yield Wait(run.transfer.next_change())), Due):
                run.transfer.advance(run.now)
        yield from run.save_vm.end(run.vm_stop.vm_old_state or "running", run.now)

    def _completion(self) -> Steps:
        """Everything is sent: wait for the destination. See migration_completion()."""
        run = self._run
        while True:
            try:
                yield from self._taken()
                return
            except ChannelBrokenError as broken:
                # without a return path, a destination that has loaded everything closes the channel
                if not broken.clean or run.open_channel.return_path:
                    text = "" if broken.by_return_path else broken.text
                    raise MigrationFailedError(text) from broken

    def _taken(self) -> Steps:
        """Wait for the return path's SHUT, or without a return path until the queue is drained."""
        run = self._run
        yield CheckError()
        if run.open_channel.return_path:
            while run.return_path.succeeded is None:
                yield Wait()
            if not run.return_path.succeeded:
                raise MigrationFailedError("")
        while run.open_channel.queued:
            yield Sleep(_DRAIN_INTERVAL)
