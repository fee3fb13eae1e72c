"""A device that the board makes: among the unattached ones, on its bus, with its properties.

See hw/pci/pci.c: pci_create_simple(); hw/isa/isa-bus.c: isa_create_simple().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.boards.board import cpu_object, settle_address_bits
from fakeqemu.model.boards.cpus import Cpu, name_cpu
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import QapiError, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fakeqemu.model.machine import Machine
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qom.tree import QomObject
    from fakeqemu.profile import TreeObject


def new_onboard(
    vm: Machine, type: str, number: int, properties: Mapping[str, str] | None = None
) -> DeviceObject:
    """A device of the board, not realized; `properties` as texts. Raises StartupError."""
    device = vm.devices.bare(type)
    vm.qom.container("/machine/unattached").add_child(f"device[{number}]", device)
    vm.devices.properties.apply_defaults(device)
    for name, text in (properties or {}).items():
        vm.devices.properties.set(device, name, text, typed=False)
    return device


def create_onboard(
    vm: Machine, type: str, bus: Bus, number: int, properties: Mapping[str, str] | None = None
) -> DeviceObject:
    """Make a device of the board on `bus`. Raises StartupError."""
    try:
        device = new_onboard(vm, type, number, properties)
        vm.devices.realize(device, bus)
    except QapiError as error:
        raise StartupError(error.desc, hint=error.hint) from error
    return device


def apply_globals(vm: Machine, objects: QomObject) -> None:
    """What -global says about devices of the board, `objects` and below. Raises StartupError."""
    if all(given.driver == "migration" for given in vm.configuration.globals):
        return
    for obj in objects.walk():
        if isinstance(obj, DeviceObject):
            vm.devices.properties.apply_globals(obj)


def create_cpu(
    vm: Machine, recorded: TreeObject, index: int, rename: Callable[[str], str], number: int
) -> None:
    """Make CPU `index`, of the model that was asked for, as the device of that number."""
    unattached = vm.qom.container("/machine/unattached")
    unattached.forget_child(f"device[{number}]")
    add_cpu(vm, recorded, index, rename, parent=unattached, name=f"device[{number}]")


def add_cpu(
    vm: Machine,
    recorded: TreeObject,
    index: int,
    rename: Callable[[str], str],
    *,
    parent: QomObject,
    name: str,
) -> None:
    """Make CPU `index` a child of `parent`."""
    obj = cpu_object(vm.cpus, vm.profile, recorded, index, rename)
    parent.add_child(name, obj)
    name_cpu(obj)
    apply_globals(vm, obj)
    settle_address_bits(obj.values, obj.given)
    vm.cpus.add(Cpu(index, obj))
