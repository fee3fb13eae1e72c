"""The human monitor's side of dirty rates and limits.

See migration/dirtyrate.c: hmp_calc_dirty_rate() and hmp_info_dirty_rate(); system/dirtylimit.c:
hmp_set_vcpu_dirty_limit().
"""

from __future__ import annotations

from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.commands.migration import dirtyrate as qmp
from fakeqemu.migration.transfer.dirtyrate import PAGE_SAMPLING
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError


@hmp("calc_dirty_rate")
def calc_dirty_rate(
    vm: Machine,
    second: int,
    sample_pages_per_GB: int = -1,  # noqa: N803 - its name is QEMU's
    dirty_ring: bool = False,
    dirty_bitmap: bool = False,
) -> str:
    """Start to measure."""
    if not second:
        return "Incorrect period length specified!\n"
    if dirty_ring and dirty_bitmap:
        return "Either dirty ring or dirty bitmap can be specified!\n"
    mode = PAGE_SAMPLING
    if dirty_bitmap or dirty_ring:
        mode = "dirty-bitmap" if dirty_bitmap else "dirty-ring"
    samples = None if sample_pages_per_GB == -1 else sample_pages_per_GB
    qmp.measurement_of(vm).measure(second, samples=samples, mode=mode)
    return (
        f"Starting dirty rate measurement with period {second} seconds\n"
        "[Please use 'info dirty_rate' to check results]\n"
    )


@hmp("info dirty_rate")
def info_dirty_rate(vm: Machine) -> str:
    """How far the measurement is, or what it found."""
    info = qmp.measurement_of(vm).info()
    lines = [f"Status: {info['status']}", f"Start Time: {info['start-time']} (ms)"]
    if info["mode"] == PAGE_SAMPLING:
        lines.append(f"Sample Pages: {info['sample-pages']} (per GB)")
    lines += [f"Period: {info['calc-time']} (sec)", f"Mode: {info['mode']}"]
    rate = f"{info['dirty-rate']} (MB/s)" if "dirty-rate" in info else "(not ready)"
    lines.append(f"Dirty rate: {rate}")
    return "".join(f"{line}\n" for line in lines)


@hmp("set_vcpu_dirty_limit")
def set_vcpu_dirty_limit(
    vm: Machine, dirty_rate: int, cpu_index: int = -1
) -> None:
    """Refused: it takes KVM."""
    if dirty_rate < 0 and vm.profile.traits.hmp_dirty_limit_checked:
        raise QapiError(f"invalid dirty page limit {dirty_rate}")
    qmp.set_vcpu_dirty_limit(vm, dirty_rate, cpu_index)


@hmp("cancel_vcpu_dirty_limit")
def cancel_vcpu_dirty_limit(vm: Machine, cpu_index: int = -1) -> str:  # noqa: ARG001
    """There never is a limit to be taken away, which is no error."""
    return "[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]\n"


@hmp("info vcpu_dirty_limit")
def info_vcpu_dirty_limit(vm: Machine) -> str:  # noqa: ARG001
    """No CPU has a limit."""
    return "Dirty page limit not enabled!\n"
