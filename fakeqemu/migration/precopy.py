"""The usual course of a migration: memory in passes while the guest runs, then the rest.

One timer at a time, set to when the time model says that something changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.clock import MILLISECOND
from fakeqemu.migration import cpr
from fakeqemu.migration.postcopy import Postcopy
from fakeqemu.migration.streams.returnpath import Answer, SwitchoverAck
from fakeqemu.migration.workload import WINDOW
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing

#: what the set-up of a channel takes before the first page
SETUP_TIME = 5 * MILLISECOND
#: how often a full queue is looked at while the end waits for it
_DRAIN_INTERVAL = MILLISECOND
#: passes after which one that does not end is only looked at once in a window: an hour of them
#: would otherwise be millions of timers
_MANY_PASSES = 2000
#: pages that a command gets to see: more than its pipe holds, so that one which does not
#: read is noticed
_PIPE_PAGES = 8192


class Precopy:
    """Passes, switchover and end of one migration."""

    def __init__(self, run: Outgoing) -> None:
        self._run = run
        self._acknowledged = False
        #: the channel has broken before memory began to be sent: how
        self.broken_early: str | None = None
        #: it has broken while pre-switchover lasted: how
        self.broken_meanwhile: str | None = None

    def begin(self) -> None:
        """The channels are open: set up."""
        self._run.later(SETUP_TIME, self._set_up)

    def answered(self, answer: Answer) -> None:
        """The destination said something."""
        run = self._run
        if isinstance(answer, SwitchoverAck):
            self._acknowledged = True
            if run.status == "active":
                run.later(0, self.advance)
        if run.all_sent and run.answered_well is not None:
            self._complete()

    def settle(self) -> None:
        """Let the model follow the clock, but not past the moment of the switchover."""
        transfer, now = self._run.transfer, self._run.vm.clock.now()
        if self._run.status == "active" and self._may_switch:
            change = transfer.next_change()
            while change is not None and change <= now and not transfer.converged:
                transfer.advance(change)
                change = transfer.next_change()
            if transfer.converged:
                return
        transfer.advance(now)

    def schedule(self) -> None:
        """Wait for the next thing that the time model knows of."""
        run = self._run
        if run.transfer.phase == "switchover":
            self._sending()
        elif run.status == "active" and run.transfer.phase == "precopy":
            at = run.transfer.next_change()
            if at is not None and run.transfer.dirty_sync_count > _MANY_PASSES:
                at = max(at, run.transfer.now + WINDOW)
            run.later_at(at, self.advance)

    def go_on(self) -> None:
        """migrate-continue: leave pre-switchover."""
        self._run.later(0, self._device)

    # -- passes ------------------------------------------------------------------------------

    def _set_up(self) -> None:
        run = self._run
        assert run.sender is not None and run.channel is not None
        run.sender.setup()
        if run.status != "setup":
            return
        refusal = self._set_up_bitmaps()
        run.begin_transfer()
        run.tell_passes()
        run.setup_time = run.total_time
        run.state.move("active")
        if refusal is not None:
            run.fail(refusal)
            return
        if self.broken_early is not None:
            run.fail(self.broken_early)
            return
        run.sender.part(_PIPE_PAGES if run.channel.is_pipe else 0)
        if run.status == "active":
            self.advance()

    def _set_up_bitmaps(self) -> str | None:
        """Begin with the dirty bitmaps; what the migration fails for, None if for nothing."""
        run = self._run
        try:
            run.gather_bitmaps()
        except QapiError as error:
            if run.traits.setup_error_recorded:
                return error.desc
            run.vm.host.warn(error.desc)
            return ""
        return None

    def advance(self) -> None:
        """Go through what has happened since, and see whether the guest may be stopped."""
        run = self._run
        transfer = run.transfer
        if run.status != "active" or transfer.phase != "precopy":
            return
        looks = transfer.dirty_sync_count
        self.settle()
        if transfer.converged and self._may_switch and not run.traits.pass_before_active:
            transfer.look_again()
        if transfer.dirty_sync_count != looks:
            run.tell_passes()
            assert run.sender is not None
            run.sender.part(pass_ends=True)
        if run.status != "active":
            return
        if transfer.converged and self._may_switch:
            self._switchover()
        elif run.postcopy_wanted and self._agreed and self._may_follow:
            postcopy = Postcopy(run)
            run.course = postcopy
            postcopy.begin()
        else:
            self.schedule()

    @property
    def _may_switch(self) -> bool:
        """Whether all may be sent now, as far as it does not depend on memory."""
        bitmaps = self._run.bitmaps
        few = bitmaps is None or bitmaps.pending <= self._run.transfer.threshold
        return few and self._agreed

    @property
    def _may_follow(self) -> bool:
        """Whether what is left is such that it can be sent in postcopy."""
        return self._run.transfer.converged or self._run.migration.capabilities("postcopy-ram")

    @property
    def _agreed(self) -> bool:
        """Whether the destination, where it is asked, agrees to the switchover."""
        run = self._run
        if not run.migration.capabilities("switchover-ack") or not run.vm.runstate.running:
            return True
        return self._acknowledged or not run.traits.switchover_ack_from_destination

    # -- switching over ----------------------------------------------------------------------

    def _switchover(self) -> None:
        run = self._run
        run.hold.stop()
        if run.migration.capabilities("pause-before-switchover"):
            run.state.move("pre-switchover")
            return
        self._device()

    def _device(self) -> None:
        run = self._run
        if run.status == "pre-switchover" or run.traits.precopy_device_state:
            run.state.move("device")
        run.vm.hand_over_images()
        if self.broken_meanwhile is not None:
            run.fail(run.traits.switchover_write_error.format(self.broken_meanwhile))
            return
        # as things stood when it was decided: the guest has not run since
        run.transfer.stop(run.transfer.now)
        run.tell_passes()
        assert run.sender is not None
        if run.migration.mode == cpr.TRANSFER:
            cpr.fill_memory(run.vm)
        run.sender.ram_end()
        self._sending()

    def _sending(self) -> None:
        """The rest of memory and the device states are on their way."""
        run = self._run
        if run.sender is None or run.status not in ("active", "device"):
            return
        run.transfer.advance(run.vm.clock.now())
        if run.transfer.phase != "done":
            run.later_at(run.transfer.next_change(), self._sending)
            return
        run.all_sent = True
        run.sender.end(run.hold.old_state or "running", run.vm.clock.now())
        self._complete()

    def _complete(self) -> None:
        run = self._run
        if run.channel is None or run.status not in ("active", "device"):
            return
        if run.channel.return_path:
            if run.answered_well is None:
                return  # until the destination has answered
            if not run.answered_well:
                run.fail("")
                return
        if run.channel.queued:
            run.later(_DRAIN_INTERVAL, self._complete)
            return
        run.complete("postmigrate")
