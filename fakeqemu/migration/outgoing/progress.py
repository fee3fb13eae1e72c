"""Progress of a source's memory transfer, and the MIGRATION_PASS events.

Owns the `Transfer` of the migration and keeps it in step with parameters and guest. See
migration/ram.c: migration_bitmap_sync(), which emits MIGRATION_PASS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.dataclass import replace
from fakeqemu.migration import vmstate as guest
from fakeqemu.migration.transfer.model import Limits, Transfer
from fakeqemu.model.guest.workload import Workload

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing.vm_stop import VmStop
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.machine import Machine


class Progress:
    """The transfers of one machine's memory, one migration after the other."""

    def __init__(self, vm: Machine, migration: MigrationSettings, vm_stop: VmStop) -> None:
        self._vm = vm
        self._vm_stop = vm_stop
        self._migration = migration
        self.transfer = Transfer(Workload(ram=0), Limits(), 0)
        #: MIGRATION_PASS events so far
        self._emitted = 0

    def begin(self, *, guest_writes: bool = True) -> None:
        """Start the transfer of all guest memory; `workload` None: no dirtying."""
        counted = self._vm.profile.traits.pass_before_active
        workload = self._workload()
        self.transfer = Transfer(
            workload if guest_writes else replace(workload, dirty_rate=0),
            guest.limits(self._migration),
            self._vm.clock.now(),
            running=self._vm.runstate.running,
            last_sync_counts=counted,
        )
        self._emitted = 0 if counted else 1

    def _workload(self) -> Workload:
        return guest.workload(self._vm, self._migration, self._vm_stop.vm_old_state)

    def emit_passes(self) -> None:
        """Emit MIGRATION_PASS for each dirty bitmap sync that has none yet."""
        syncs = self.transfer.dirty_sync_count
        if self._emitted < syncs:
            remaining = self.transfer.remaining
            self._vm.journal.note("migration-pass", str(syncs), remaining=remaining)
        if self._migration.capabilities("events"):
            for number in range(self._emitted, syncs):
                self._vm.events.emit("MIGRATION_PASS", {"pass": number + 1})
        self._emitted = syncs

    def settle(self, *, stops_converged: bool) -> None:
        """Advance to now, or only to the moment at which the guest may be stopped."""
        transfer, now = self.transfer, self._vm.clock.now()
        if stops_converged:
            change = transfer.next_change()
            while change is not None and change <= now and not transfer.converged:
                transfer.advance(change)
                change = transfer.next_change()
        if not (stops_converged and transfer.converged):
            transfer.advance(now)

    def limits_changed(self) -> None:
        """Migration parameters changed."""
        self.transfer.set_limits(self._vm.clock.now(), guest.limits(self._migration))

    def guest_dirties(self, rate: int, working_set: int | None, *, under_way: bool) -> None:
        """The guest dirties `rate` bytes a second from now on, in `working_set` bytes of memory."""
        vm, given = self._vm, self._vm.guest_workload
        base = Workload(vcpus=max(1, vm.cpus.topology.cpus)) if given is None else given
        vm.guest_workload = replace(base, dirty_rate=rate, working_set=working_set)
        if under_way:
            self.transfer.set_workload(vm.clock.now(), self._workload())

    def running_changed(self) -> None:
        """The guest was resumed or stopped."""
        self.transfer.set_running(self._vm.clock.now(), self._vm.runstate.running)

    def force_convergence(self) -> None:
        """Dirty nothing more, so that the rest is final."""
        self.transfer.advance(self._vm.clock.now())
        self.transfer.workload = replace(self.transfer.workload, dirty_rate=0)
        self.transfer.converged = True
