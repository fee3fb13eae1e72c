"""Background snapshot: the guest is stopped briefly, then runs while its memory is saved.

See migration/migration.c: bg_migration_thread(). The memory of that moment is saved, with guest
writes caught by userfaultfd, so one pass is enough and the guest keeps its run state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.migration.outgoing.phase import (
    ChannelBrokenError,
    CheckError,
    MigrationFailedError,
    NotConnectedError,
    Phase,
)
from fakeqemu.migration.outgoing.precopy import SETUP_TIME
from fakeqemu.migration.phases.requests import Due, Sleep, Wait

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing.outgoing import Outgoing


class BackgroundSnapshot:
    """The background snapshots of one machine, one after the other."""

    def __init__(self, run: Outgoing) -> None:
        self._run = run
        #: writes to memory are caught
        self._write_tracked = False

    def run(self) -> Phase:
        """One background snapshot: set up, stop the guest, resume it, save."""
        run = self._run
        yield Sleep(SETUP_TIME)
        yield from run.save_vm.setup()
        yield CheckError()
        run.progress.begin(guest_writes=False)
        run.end_setup()
        runstate = run.vm.runstate.current
        run.vm_stop.stop(runstate="paused")
        yield Sleep(run.transfer.workload.device_time)
        if self._write_tracked and run.traits.snapshot_leaves_memory_watched:
            # QEMU leaves the guest stopped in this case
            raise NotConnectedError("its memory is write-tracked already", record=False)
        self._write_tracked = True
        run.vm_stop.restore()
        run.vm_stop.end_downtime()
        run.transfer.advance(run.now)
        yield from run.save_vm.part(content=True)
        while run.transfer.remaining:
            if isinstance((yield Wait(run.transfer.next_change())), Due):
                run.transfer.advance(run.now)
        yield from run.save_vm.end(runstate, run.now)
        self._write_tracked = False
        try:
            yield CheckError()
        except ChannelBrokenError as broken:
            # a destination that has received everything may close the channel
            if not broken.clean:
                raise MigrationFailedError(broken.text) from broken
        return run.vm.runstate.current
