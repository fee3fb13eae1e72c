"""A migration brought to its last moment, however busy its guest is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fakeqemu.migration.precopy import Precopy

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


def switch_over(vm: Machine) -> None:
    """Have an outgoing migration in precopy stop the guest now, as if it had converged.

    The guest writes no more, so what is left is all there is. Does nothing in other states.
    """
    outgoing = None if vm.migration is None else vm.migration.outgoing
    if outgoing is None or outgoing.status != "active":
        return
    course, transfer = outgoing.course, outgoing.transfer
    if not isinstance(course, Precopy) or transfer.phase != "precopy":
        return
    transfer.advance(vm.clock.now())
    transfer.workload = replace(transfer.workload, dirty_rate=0)
    transfer.converged = True
    course.advance()
