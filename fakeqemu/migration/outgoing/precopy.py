"""Precopy: memory in passes while the guest runs, then the guest is stopped and the rest sent.

See migration/migration.c: migration_thread(), migration_iteration_run() and
migration_completion(). A pass wakes the phase only when the time model says that something
changes.
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
    Due,
    MigrationFailedError,
    Phase,
    Request,
    Sleep,
    StartPostcopy,
    Steps,
    Wait,
)
from fakeqemu.migration.transfer.model import WINDOW
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing.outgoing import Outgoing

#: what the set-up of a channel takes before the first page
SETUP_TIME = 5 * MILLISECOND
#: how often a full queue is polled while the end waits for it
_DRAIN_INTERVAL = MILLISECOND
#: passes after which one that does not end is only looked at once in a window: an hour of them
#: would otherwise be millions of timers
_MANY_PASSES = 2000
#: pages that a command gets to see: more than its pipe holds, so that one which does not
#: read is noticed
_PIPE_PAGES = 8192


class Precopy:
    """One migration from its open channels on; postcopy may follow the passes."""

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
        """What comes before memory. See migration/savevm.c: qemu_savevm_state_setup()."""
        run = self._run
        # with a return path setting up is over before an error is noticed
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
        # a real one is held up by a full pipe here, and so sees a command that has ended
        while run.open_channel.is_pipe and run.open_channel.queued:
            yield Sleep(_DRAIN_INTERVAL)

    def _setup_bitmaps(self) -> Generator[Request, None, str | None]:
        """Begin with the dirty bitmaps; what the migration fails for, None if for nothing."""
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
        """Passes until the guest may be stopped. Whether it is for postcopy.

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
        """Whether all may be sent now, as far as it does not depend on memory.

        See migration_can_switchover().
        """
        run = self._run
        few = run.bitmaps is None or run.bitmaps.pending <= run.transfer.threshold
        return few and self._destination_agrees

    @property
    def _destination_agrees(self) -> bool:
        """Whether the destination, where it is asked, agrees to the switchover."""
        run = self._run
        if not run.migration.capabilities("switchover-ack") or not run.vm.runstate.running:
            return True
        return run.return_path.switchover_acked or not run.traits.switchover_ack_from_destination

    @property
    def _may_follow(self) -> bool:
        """Whether what is left is such that it can be sent in postcopy."""
        return self._run.transfer.converged or self._run.migration.capabilities("postcopy-ram")

    def _next_change(self) -> Generator[Request, object, None]:
        """Wait until something is different, by the time model or by what somebody says."""
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
            # nothing is written until it goes on, so no error is noticed
            while not isinstance((yield Wait(keeps_errors=True)), Continue):
                pass
            # the reply goes first
            yield Sleep(0, keeps_errors=True)
        if run.status == "pre-switchover" or run.traits.precopy_device_state:
            run.state.move("device")
        run.vm.hand_over_images()
        try:
            yield CheckError()
        except ChannelBrokenError as broken:
            text = run.traits.switchover_write_error.format(broken.text)
            raise MigrationFailedError(text) from broken
        # as things stood when it was decided: the guest has not run since
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
                # without a return path, a destination that has everything closes
                if not broken.clean or run.open_channel.return_path:
                    text = "" if broken.by_return_path else broken.text
                    raise MigrationFailedError(text) from broken

    def _taken(self) -> Steps:
        """Until the destination says so, or has at least been sent all there is."""
        run = self._run
        yield CheckError()
        if run.open_channel.return_path:
            while run.return_path.succeeded is None:
                yield Wait()
            if not run.return_path.succeeded:
                raise MigrationFailedError("")
        while run.open_channel.queued:
            yield Sleep(_DRAIN_INTERVAL)
