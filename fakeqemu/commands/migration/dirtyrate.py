"""Commands about how fast the guest dirties its memory, of QAPI's migration module.

See migration/dirtyrate.c: qmp_calc_dirty_rate() and qmp_query_dirty_rate(); system/dirtylimit.c:
qmp_set_vcpu_dirty_limit().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.migration.migration import migration_of
from fakeqemu.commands.registry import command
from fakeqemu.migration.transfer.dirtyrate import PAGE_SAMPLING, DirtyRate
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.schema import ObjectType


def measurement_of(vm: Machine) -> DirtyRate:
    """The machine's measurement."""
    return migration_of(vm).dirty_rate


@command("calc-dirty-rate")
def calc_dirty_rate(
    vm: Machine,
    calc_time: int,
    calc_time_unit: str = "second",
    sample_pages: int | None = None,
    mode: str = PAGE_SAMPLING,
) -> None:
    """Start to measure."""
    measurement_of(vm).measure(calc_time, calc_time_unit, sample_pages, mode)


@command("query-dirty-rate")
def query_dirty_rate(vm: Machine, calc_time_unit: str = "second") -> dict[str, Any]:
    """How far the measurement is, or what it found."""
    shape = vm.profile.schema.commands["query-dirty-rate"].ret_type
    assert isinstance(shape, ObjectType)
    names = {member.name for member in shape.members}
    info = measurement_of(vm).info(calc_time_unit)
    return {name: value for name, value in info.items() if name in names}


@command("set-vcpu-dirty-limit")
def set_vcpu_dirty_limit(
    vm: Machine, dirty_rate: int, cpu_index: int | None = None  # noqa: ARG001
) -> None:
    """Refused: it takes KVM's dirty ring, which is never there."""
    raise QapiError(
        "dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'"
    )


@command("cancel-vcpu-dirty-limit")
def cancel_vcpu_dirty_limit(vm: Machine, cpu_index: int | None = None) -> None:
    """There never is a limit to be taken away, which is no error."""


@command("query-vcpu-dirty-limit")
def query_vcpu_dirty_limit(vm: Machine) -> list[Any]:  # noqa: ARG001
    """No CPU has a limit."""
    return []
