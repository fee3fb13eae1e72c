"""Stops the VM for the switchover and restores its run state afterwards.

See migration/migration.c: migration_stop_vm(), migration_downtime_end() and the tail of
migration_iteration_finish().
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fakeqemu.migration.outgoing.phase import MigrationFailedError
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


class VmStop:
    """One stop of the VM for a switchover, and its undoing."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._stopped = 0
        #: run state before the stop (QEMU's vm_old_state); None if the VM was not stopped
        self.vm_old_state: str | None = None
        #: downtime in nanoseconds
        self.downtime = 0

    def stop(self, runstate: str = "finish-migrate") -> None:
        """Stop the VM, once. See migration_stop_vm().

        A stopped guest whose state has no way to `runstate` keeps it, where QEMU aborts
        ("invalid runstate transition"): a background snapshot of a machine in prelaunch.
        """
        if self.vm_old_state is None:
            self._stopped = self._vm.clock.now()
            self.vm_old_state = self._vm.runstate.current
            if self._vm.runstate.can(runstate):
                self._vm.lifecycle.vm_stop_force_state(runstate)

    def enter(self, runstate: str) -> None:
        """Go on to `runstate`, if the state that the VM was stopped in leads there."""
        if self._vm.runstate.can(runstate):
            self._vm.runstate.set(runstate)

    def end_downtime(self) -> None:
        """The downtime ends: the destination runs, or may run. See migration_downtime_end()."""
        if not self.downtime and self.vm_old_state is not None:
            self.downtime = self._vm.clock.now() - self._stopped

    def inactivate(self) -> None:
        """Hand the disks over. Raises MigrationFailedError if a job still writes to one."""
        vm = self._vm
        try:
            vm.inactivate_disks()
        except QapiError:
            said, text = vm.profile.traits.inactivate_failure
            vm.host.warn(said)
            raise MigrationFailedError(text) from None

    def restore(self) -> None:
        """Restore the run state before the stop."""
        vm = self._vm
        old, self.vm_old_state = self.vm_old_state, None
        if old is None or not vm.runstate.check("finish-migrate", "paused"):
            return
        with contextlib.suppress(QapiError):
            vm.activate_disks()
        if old == "running":
            vm.lifecycle.vm_start()
        elif vm.profile.traits.stopped_source_ends_postmigrate:
            vm.runstate.set("postmigrate")
        else:
            vm.runstate.set(old)
