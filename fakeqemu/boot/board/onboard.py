"""A device that the board makes: among the unattached ones, on its bus, with its properties.

See hw/pci/pci.c: pci_create_simple(); hw/isa/isa-bus.c: isa_create_simple().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import QapiError, StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fakeqemu.model.machine import Machine
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qdev.device import DeviceObject


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
