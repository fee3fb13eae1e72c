"""The guest of a source that stands still for the switchover, and what becomes of it after.

See migration/migration.c: migration_stop_vm(), migration_downtime_end() and the tail of
migration_iteration_finish().
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


class VmStop:
    """One stop of the guest, at most, and its undoing."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._stopped = 0
        #: the run state the guest was stopped in; None if it was not
        self.vm_old_state: str | None = None
        #: nanoseconds for which the guest ran on neither side
        self.downtime = 0

    def stop(self, runstate: str = "finish-migrate") -> None:
        """Stop the guest, once."""
        if self.vm_old_state is None:
            self._stopped = self._vm.clock.now()
            self.vm_old_state = self._vm.runstate.current
            self._vm.lifecycle.vm_stop_force_state(runstate)

    def end_downtime(self) -> None:
        """The guest runs, or may run, on the other side."""
        if not self.downtime and self.vm_old_state is not None:
            self.downtime = self._vm.clock.now() - self._stopped

    def restore(self) -> None:
        """Let the guest be again what it was before it was stopped."""
        vm = self._vm
        old, self.vm_old_state = self.vm_old_state, None
        if old is None or not vm.runstate.check("finish-migrate", "paused"):
            return
        with contextlib.suppress(QapiError):
            vm.take_images()
        if old == "running":
            vm.lifecycle.vm_start()
        elif vm.profile.traits.stopped_source_ends_postmigrate:
            vm.runstate.set("postmigrate")
        else:
            vm.runstate.set(old)
