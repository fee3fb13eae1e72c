"""Interrupt controllers in both monitors.

See hw/core/machine-qmp-cmds.c: qmp_x_query_interrupt_controllers() and qmp_x_query_irq();
target/i386/cpu-apic.c: hmp_info_local_apic().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.commands.hmp.registry import HmpMonitor, hmp
from fakeqemu.commands.registry import command
from fakeqemu.model.hw.intc import controllers
from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: the QOM interface of what is listed
_PROVIDER = "intctrl"


def _check_target(vm: Machine, name: str) -> None:
    """Raise NotModelledError for controllers of other targets that have something to tell."""
    if vm.state.type is None or vm.state.is_a("x86-machine"):
        return
    if any(vm.profile.is_a(obj.type, _PROVIDER) for obj in vm.qom.root.walk()):
        raise NotModelledError(name)


@command("x-query-interrupt-controllers")
def query_interrupt_controllers(vm: Machine) -> dict[str, Any]:
    """HumanReadableText."""
    return {"human-readable-text": pic(vm)}


@command("x-query-irq")
def query_irq(vm: Machine) -> dict[str, Any]:
    """HumanReadableText."""
    return {"human-readable-text": irq(vm)}


@hmp("info pic")
def pic(vm: Machine) -> str:
    """Registers of those of the board."""
    _check_target(vm, "info pic")
    controllers.check_known(vm.cpus, vm.io)
    return controllers.controllers_text(vm.qom.root)


@hmp("info irq")
def irq(vm: Machine) -> str:
    """How often lines have risen."""
    _check_target(vm, "info irq")
    controllers.check_known(vm.cpus, vm.io)
    return controllers.statistics_text(vm.qom.root)


@hmp("info lapic", monitor=True)
def lapic(vm: Machine, monitor: HmpMonitor, apic_id: int | None = None) -> str:
    """Registers of a CPU's own."""
    controllers.check_known(vm.cpus, vm.io)
    if apic_id is None:
        cpu = vm.cpus.get(monitor.cpu_index)
    else:
        topology = vm.cpus.topology
        cpu = next((c for c in vm.cpus.present() if topology.apic_id(c.index) == apic_id), None)
    if cpu is None:
        return "No CPU available\n"
    apic = controllers.local_apic(vm.cpus, cpu)
    return "local apic state not available\n" if apic is None else apic.text()
