"""CPUs that are parts of something: threads of a core, or parts of a chip with others like it.

See hw/ppc/spapr.c: spapr_init_cpus(); hw/ppc/spapr_cpu_core.c: spapr_cpu_core_realize();
hw/riscv/riscv_hart.c: riscv_harts_realize().
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from fakeqemu.boot.board.onboard import add_cpu, apply_globals
from fakeqemu.model.boards.board import maker
from fakeqemu.model.boards.cpus import Cpu
from fakeqemu.model.boards.targets.spapr_irq import without_presenters
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.tree import from_recorded
from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.boot.board.numbering import Numbering
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.qom.tree import QomObject
    from fakeqemu.profile import TreeObject

#: a CPU that is a part of something
_PART = re.compile(r"([\w-]+?)(\d*)/([\w-]+)\[0\]")


def create_core(
    vm: Machine, recorded: TreeObject, index: int, rename: Callable[[str], str], number: int
) -> None:
    """Make a core whose first thread is CPU `index`."""
    unattached = vm.qom.container("/machine/unattached")
    unattached.forget_child(f"device[{number}]")
    core = from_recorded(recorded, rename=rename, make=maker(vm.profile))
    rules = vm.cpus.slots_recorded
    core.type = vm.cpus.type if rules is None else rules.slot_type(vm.cpus.type)
    core.values["type"] = core.type
    threads = vm.cpus.topology.levels["threads"]
    values = {**vm.cpus.props(index), "nr-threads": threads}
    core.values.update((name, value) for name, value in values.items() if name in core.shapes)
    model = recorded.at("thread[0]")
    core.forget_child("thread[0]")
    unattached.add_child(f"device[{number}]", core)
    mode = vm.qom.container("/machine").values["ic-mode"]
    for thread in range(min(threads, vm.cpus.topology.cpus - index)):
        name = f"thread[{thread}]"
        add_cpu(vm, model, index + thread, rename, parent=core, name=name)
        without_presenters(core.children[name], mode)
    apply_globals(vm, core)


def _keep(vm: Machine, first: str) -> None:
    """The recorded CPU, of the model that was asked for, where it is."""
    obj = vm.qom.at(f"/machine/{first}")
    assert isinstance(obj, DeviceObject), "a CPU is a device"
    if obj.type != vm.cpus.type:
        raise NotModelledError("another CPU model of this machine type")
    apply_globals(vm, obj)
    vm.cpus.add(Cpu(0, obj))


def create_on_chips(vm: Machine, node: TreeObject, first: str) -> None:
    """Make CPUs that are parts of something that is no device of the machine."""
    found = _PART.fullmatch(first)
    if found is None and vm.cpus.topology.cpus == 1:
        _keep(vm, first)
        return
    if found is None:
        raise NotModelledError("several CPUs of this machine type")
    whole, number, part = found.groups()
    model = node.at(first)
    per_chip = vm.cpus.topology.cpus
    if number:
        per_chip = max(1, vm.cpus.topology.cpus // sockets_of(vm))
    machine = vm.qom.container("/machine")
    for index in range(vm.cpus.topology.cpus):
        chip, place = divmod(index, per_chip)
        name = f"{whole}{int(number) + chip}" if number else whole
        if machine.child(name) is None:
            machine.add_child(name, from_recorded(node.at(first.partition("/")[0]),
                                                  make=maker(vm.profile)))
        parent = machine.child(name)
        assert parent is not None
        if not place:
            parent.forget_child(f"{part}[0]")
            for key, value in (("num-harts", per_chip), ("hartid-base", index)):
                if key in parent.shapes:
                    parent.values[key] = value
        add_cpu(vm, model, index, lambda text: text, parent=parent, name=f"{part}[{place}]")


def sockets_of(vm: Machine) -> int:
    """How many sockets have parts of their own: NUMA nodes. See hw/riscv/numa.c:
    riscv_socket_count().
    """
    return max(1, len(vm.numa.nodes))


def add_controllers(vm: Machine, numbering: Numbering) -> None:
    """Have the controllers made that other sockets, and other harts, have besides."""
    from fakeqemu.model.boards.targets.by_cpus import OF_HARTS, OF_SOCKETS

    sockets = sockets_of(vm)
    of_harts = numbering.find(lambda obj: obj.type == OF_HARTS)
    if of_harts and sockets > 1:
        raise NotModelledError(f"{OF_HARTS} of several sockets")
    for number in of_harts:
        for hart in range(1, vm.cpus.topology.cpus):
            make = partial(_make_for_hart, vm, numbering.recorded[number], hart)
            numbering.add(number, make)
    numbers = numbering.find(lambda obj: obj.type in OF_SOCKETS)
    for socket in range(1, sockets if numbers else 1):
        first_hart = socket * (vm.cpus.topology.cpus // sockets)
        for number in numbers:
            again = partial(_make_again, vm, numbering.recorded[number], first_hart)
            numbering.add(numbers[-1], again)


def _make_again(vm: Machine, recorded: TreeObject, first_hart: int, number: int) -> None:
    controller = from_recorded(recorded, make=maker(vm.profile))
    controller.values["hartid-base"] = first_hart
    _add_controller(vm, controller, number)


def _make_for_hart(vm: Machine, recorded: TreeObject, hart: int, number: int) -> None:
    from fakeqemu.model.boards.targets.by_cpus import be_of_hart

    controller = from_recorded(recorded, make=maker(vm.profile))
    be_of_hart(controller, hart)
    _add_controller(vm, controller, number)


def _add_controller(vm: Machine, controller: QomObject, number: int) -> None:
    vm.qom.container("/machine/unattached").add_child(f"device[{number}]", controller)
    system = vm.buses.system()
    assert system is not None and isinstance(controller, DeviceObject)
    system.add(controller)
