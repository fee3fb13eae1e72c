"""A background snapshot: the guest stands still for a moment, then runs while it is saved.

Memory is saved as it was at that moment, by catching the guest's writes, so one pass is enough
and the guest keeps its run state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fakeqemu.migration.precopy import SETUP_TIME
from fakeqemu.migration.streams.returnpath import Answer
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing


class Snapshot:
    """One background snapshot."""

    def __init__(self, run: Outgoing) -> None:
        self._run = run
        self._runstate = "running"

    def begin(self) -> None:
        """The channel is open: set up."""
        self._run.later(SETUP_TIME, self._set_up)

    def go_on(self) -> None:
        """There is no switchover to go on with."""

    def answered(self, answer: Answer) -> None:
        """Nobody is asked."""

    def settle(self) -> None:
        """Let the model follow the clock."""
        self._run.transfer.advance(self._run.vm.clock.now())

    def schedule(self) -> None:
        """Wait for the end of the pass."""
        run = self._run
        if run.status != "active" or run.hold.old_state is not None:
            return
        if run.transfer.remaining:
            run.later_at(run.transfer.next_change(), self._advance)
        else:
            run.later(0, self._advance)

    def _set_up(self) -> None:
        run = self._run
        assert run.sender is not None
        run.sender.setup()
        if run.status != "setup":
            return
        run.begin_transfer()
        run.transfer.workload = replace(run.transfer.workload, dirty_rate=0)
        run.setup_time = run.total_time
        run.state.move("active")
        self._runstate = run.vm.runstate.current
        run.hold.stop(runstate="paused")
        run.later(run.transfer.workload.device_time, self._go_on)

    def _go_on(self) -> None:
        run = self._run
        if run.memory_watched and run.traits.snapshot_leaves_memory_watched:
            # nobody lets the guest go on
            run.refused(QapiError("its memory is watched already"), record=False)
            return
        run.memory_watched = True
        run.hold.restore()
        run.hold.end_downtime()
        run.transfer.advance(run.vm.clock.now())
        assert run.sender is not None
        run.sender.part(content=True)
        self.schedule()

    def _advance(self) -> None:
        run = self._run
        run.transfer.advance(run.vm.clock.now())
        if run.transfer.remaining:
            self.schedule()
            return
        run.all_sent = True
        assert run.sender is not None
        run.sender.end(self._runstate, run.vm.clock.now())
        run.memory_watched = False
        if run.status == "active":
            run.complete(run.vm.runstate.current)
