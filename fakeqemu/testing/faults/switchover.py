"""A migration brought to its last moment, however busy its guest is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


def switch_over(vm: Machine) -> None:
    """Have an outgoing migration in precopy stop the guest now, as if it had converged."""
    if vm.migration is not None:
        vm.migration.outgoing.force_switchover()
