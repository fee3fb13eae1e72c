"""-vga: the display adapter that a board makes, in the place where it makes it.

The recorded board has the adapter that it makes by default, or with -nodefaults none. Here it
gets the one that is asked for, or none, and what is made after it is numbered accordingly.

See system/vl.c: select_vgahw() and qemu_disable_default_devices(); hw/i386/pc.c: pc_vga_init();
hw/pci/pci.c: pci_vga_init(); hw/isa/isa-bus.c: isa_vga_init().
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fakeqemu.boot.board.numbering import numbered
from fakeqemu.boot.board.onboard import create_onboard
from fakeqemu.model.boards.guest_memory import is_vga

if TYPE_CHECKING:
    from fakeqemu.boot.board.numbering import Numbering
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


def add_vga(vm: Machine, numbering: Numbering) -> None:
    """Have the adapter made that is asked for, if the board is not right as it was recorded."""
    configuration = vm.configuration
    if configuration.vga is None and configuration.defaults.vga == configuration.has_defaults:
        return

    def is_adapter(obj: TreeObject) -> bool:
        return is_vga(vm.profile, obj.type)

    place = numbering.place_of(is_adapter)
    if place is None:
        return
    usual = next(obj.type for obj in numbering.usual.values() if is_adapter(obj))
    wanted = _wanted(vm, usual)
    for number in numbering.find(is_adapter):
        if numbering.recorded[number].type == wanted:
            return
        numbering.leave_out(number)
    if wanted is not None:
        numbering.add(place, partial(_create, vm, wanted))


def is_vga_wanted(vm: Machine) -> bool:
    """Whether a board that can have an adapter has one."""
    asked, defaults = vm.configuration.vga, vm.configuration.defaults.vga
    return defaults if asked is None else asked != "none"


def _wanted(vm: Machine, usual: str) -> str | None:
    """The type of the adapter that is asked for; `usual` is the one made by default."""
    asked = vm.configuration.vga
    if asked is None:
        return usual if vm.configuration.defaults.vga else None
    on_pci, on_isa = ADAPTERS[asked.partition(",")[0]]
    return on_isa if vm.profile.is_a(usual, "isa-device") else on_pci


def _create(vm: Machine, type: str, number: int) -> None:
    """Make the adapter. Raises StartupError."""
    kind = "ISA" if vm.profile.is_a(type, "isa-device") else "PCI"
    bus = vm.buses.find_by_kind(kind)
    assert bus is not None, "the recorded board has an adapter on such a bus"
    create_onboard(vm, type, bus, number)


def warn_of_unused_vga(boot: BootState) -> None:
    """Say so if there is a -vga that the board has no use for.

    See system/vl.c: qemu_machine_creation_done(); hw/isa/isa-bus.c: isa_vga_init().
    """
    boot.read(vga=boot.configuration.vga)
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
