"""-vga: the display adapter that a board makes, in the place where it makes it.

The recorded board has the adapter that it makes by default, or with -nodefaults none. Here it
gets the one that is asked for, or none, and what is made after it is numbered accordingly.

See system/vl.c: select_vgahw() and qemu_disable_default_devices(); hw/i386/pc.c: pc_vga_init();
hw/pci/pci.c: pci_vga_init(); hw/isa/isa-bus.c: isa_vga_init().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.boards.guest_memory import is_vga
from fakeqemu.model.boards.numbering import DisplayPlace
from fakeqemu.model.boards.onboard_ports import numbered
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import TreeObject

#: -vga value -> type of the adapter on a PCI bus, and on an ISA bus of a board without PCI
ADAPTERS: dict[str, tuple[str | None, str | None]] = {
    "none": (None, None),
    "std": ("VGA", "isa-vga"),
    "cirrus": ("cirrus-vga", "isa-cirrus-vga"),
    "vmware": ("vmware-svga", None),
    "qxl": ("qxl-vga", None),
    "virtio": ("virtio-vga", None),
}

#: -vga value -> how an ISA board calls the adapter that it cannot have
_ON_ISA = {"vmware": "vmware_vga", "virtio": "virtio-vga"}

_UNATTACHED = "/machine/unattached"
_UNUSED = (
    "A -vga option was passed but this machine type does not use that option; "
    "No VGA device has been created"
)


def place(vm: Machine, recorded: TreeObject) -> DisplayPlace | None:
    """Where the board's adapter is to be changed; None if the board is right as it was recorded.

    `recorded` is the container of unattached devices that this machine is made from.
    """
    machine, configuration = vm.state.type, vm.configuration
    assert machine is not None
    if configuration.vga is None and configuration.defaults.vga == configuration.has_defaults:
        return None
    tree = vm.profile.object_tree(machine.name, defaults=True)
    default = numbered(tree.at("machine/unattached"))
    usual = next((n for n, obj in default.items() if is_vga(vm.profile, obj.type)), None)
    if usual is None:
        return None
    numbers = numbered(recorded)
    here = next((n for n, obj in numbers.items() if is_vga(vm.profile, obj.type)), None)
    wanted = _wanted(vm, default[usual].type)
    if here is not None:
        return DisplayPlace(here, numbers[here].type, wanted)
    before = [obj.type for number, obj in sorted(default.items()) if number < usual]
    number = 0
    for type in before:
        if number in numbers and numbers[number].type == type:
            number += 1
    return DisplayPlace(number, None, wanted)


def _wanted(vm: Machine, usual: str) -> str | None:
    """The type of the adapter that is asked for; `usual` is the one made by default."""
    asked = vm.configuration.vga
    if asked is None:
        return usual if vm.configuration.defaults.vga else None
    on_pci, on_isa = ADAPTERS[asked.partition(",")[0]]
    return on_isa if vm.profile.is_a(usual, "isa-device") else on_pci


def replace(vm: Machine, display: DisplayPlace, number: int) -> None:
    """Put the adapter that is asked for in the place of the recorded one, at `number`.

    Raises StartupError.
    """
    unattached = vm.qom.container(_UNATTACHED)
    if display.wanted == display.recorded:
        return
    if display.removed is not None:
        old = unattached.child(display.set_aside)
        assert isinstance(old, DeviceObject)
        for bus in vm.buses.all():
            bus.drop(old)
        old.remove()
    if display.wanted is None:
        return
    kind = "ISA" if vm.profile.is_a(display.wanted, "isa-device") else "PCI"
    parent = vm.buses.find_by_kind(kind)
    assert parent is not None, "the recorded board has an adapter on such a bus"
    device = vm.devices.bare(display.wanted)
    unattached.add_child(f"device[{number}]", device)
    vm.devices.properties.apply_defaults(device)
    try:
        vm.devices.realize(device, parent)
    except QapiError as error:
        raise StartupError(error.desc, hint=error.hint) from error


def warn_of_unused_vga(boot: BootState) -> None:
    """Say so if there is a -vga that the board has no use for.

    See system/vl.c: qemu_machine_creation_done(); hw/isa/isa-bus.c: isa_vga_init().
    """
    vm, asked = boot.vm, (boot.configuration.vga or "none").partition(",")[0]
    machine = vm.state.type
    if asked == "none" or machine is None:
        return
    if any(is_vga(vm.profile, obj.type) for obj in vm.qom.container(_UNATTACHED).walk()):
        return
    usual = numbered(vm.profile.object_tree(machine.name, defaults=True).at("machine/unattached"))
    if any(is_vga(vm.profile, obj.type) for obj in usual.values()):
        boot.messages.report(f"isa_vga_init: {_ON_ISA.get(asked, asked)}: no PCI bus")
    else:
        boot.warn(_UNUSED)
