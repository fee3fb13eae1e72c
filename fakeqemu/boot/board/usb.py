"""-usb and -usbdevice: the USB controllers of a board, and devices on the first of them.

See hw/i386/pc_piix.c: pc_init1(); hw/i386/pc_q35.c: ehci_create_ich9_with_companions();
hw/usb/bus.c: usbdevice_create().
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fakeqemu.boot.board.onboard import create_onboard
from fakeqemu.boot.board.switches import has
from fakeqemu.boot.board.vga import is_vga_wanted
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.boot.board.numbering import Numbering
    from fakeqemu.boot.state import BootState
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import TreeObject

#: -usbdevice value -> type (usb_legacy_register())
_DEVICES = {
    "tablet": "usb-tablet",
    "mouse": "usb-mouse",
    "keyboard": "usb-kbd",
    "wacom-tablet": "usb-wacom-tablet",
    "braille": "usb-braille",
}
_UHCI, _PM = "piix3-usb-uhci", "PIIX4_PM"
#: of a pseries board
_XHCI, _PSERIES_INPUT = "nec-usb-xhci", ("usb-kbd", "usb-mouse")
#: function of slot 0x1d -> controller, and the port of the EHCI controller that it begins at
_ICH9 = {
    7: ("ich9-usb-ehci1", None),
    0: ("ich9-usb-uhci1", 0),
    1: ("ich9-usb-uhci2", 2),
    2: ("ich9-usb-uhci3", 4),
}


def _is_wanted(vm: Machine) -> bool:
    return bool(vm.qom.container("/machine").values.get("usb"))


def add_controllers(vm: Machine, numbering: Numbering) -> None:
    """Have the controllers made. Raises NotModelledError for those of other boards than PCs."""
    if vm.profile.is_a(vm.qom.container("/machine").type, "spapr-machine"):
        _make_pseries(vm, numbering)
        return
    if not _is_wanted(vm):
        return
    south = numbering.find(lambda obj: has(obj, "piix3-ide"))
    if south and numbering.recorded[south[0]].type == "PIIX3":
        numbering.keep(south[0], partial(_create_inside, vm))
    elif south:
        after = numbering.place_of(lambda obj: obj.type == _PM)
        numbering.add(south[0] if after is None else after, partial(
            _create, vm, _UHCI, {"addr": "1.2"}
        ))
    elif numbering.place_of(lambda obj: obj.type == "ich9-ahci") is not None:
        after = numbering.place_of(lambda obj: obj.type == "ICH9-SMB")
        assert after is not None
        for function, (type, first_port) in _ICH9.items():
            properties = {"addr": f"1d.{function}", "multifunction": "on"}
            if first_port is not None:
                properties["firstport"] = str(first_port)
            numbering.add(after, partial(_create, vm, type, properties))
    elif vm.profile.is_a(vm.qom.container("/machine").type, "microvm-machine"):
        raise NotModelledError("-machine microvm,usb=on")


def _make_pseries(vm: Machine, numbering: Numbering) -> None:
    """A controller beside an adapter, or if asked for; with an adapter also what a user needs.

    See hw/ppc/spapr.c: spapr_machine_init().
    """
    machine, has_vga = vm.qom.container("/machine"), is_vga_wanted(vm)
    if "usb" not in vm.configuration.machine_options:
        machine.values["usb"] = has_vga and vm.configuration.has_defaults
    wanted = [_XHCI, *(_PSERIES_INPUT if has_vga else ())] if machine.values["usb"] else []
    for type in (_XHCI, *_PSERIES_INPUT):
        recorded = numbering.find(partial(_has_type, type))
        # the recorded controller stands behind an adapter
        if type not in wanted or not has_vga:
            for number in recorded:
                numbering.leave_out(number)
        if type in wanted and not (recorded and has_vga):
            after = numbering.place_of(lambda obj: obj.type == _XHCI)
            assert after is not None, "the recorded board has one by default"
            numbering.add(after, partial(_create, vm, type, {}))


def _has_type(type: str, obj: TreeObject) -> bool:
    return obj.type == type


def _create_inside(vm: Machine, number: int) -> None:
    """The controller that is a part of the south bridge of that number."""
    south = vm.qom.container("/machine/unattached").child(f"device[{number}]")
    bus = vm.buses.find_by_kind("PCI")
    assert south is not None and bus is not None
    south.values["has-usb"] = True
    device = vm.devices.bare(_UHCI)
    south.add_child("uhci", device)
    vm.devices.properties.apply_defaults(device)
    vm.devices.properties.set(device, "addr", "1.2", typed=False)
    # it is realized before the next function of its slot
    later = [each for each in bus.devices if each.type == _PM]
    for each in later:
        bus.drop(each)
    vm.devices.realize(device, bus)
    for each in later:
        bus.add(each)


def _create(vm: Machine, type: str, properties: dict[str, str], number: int) -> None:
    """A controller, or a device on one, with a number of its own."""
    bus = vm.buses.find_by_kind("usb-bus" if type in _PSERIES_INPUT else "PCI")
    assert bus is not None, "a board with a SATA or IDE controller has such a bus"
    if "firstport" in properties:
        master = vm.buses.find_by_kind("usb-bus")
        assert master is not None, "the first function has one"
        properties = {**properties, "masterbus": master.name}
    create_onboard(vm, type, bus, number, properties)


def create_usb_devices(boot: BootState) -> None:
    """Each -usbdevice. Raises StartupError."""
    vm = boot.vm
    if not _is_wanted(vm):
        return
    for entry in boot.configuration.usb_devices:
        try:
            _create_usb_device(vm, entry.text)
        except QapiError as error:
            if error.desc:
                boot.messages.report(error.desc, entry.location)
            boot.messages.fail(f"could not add USB device '{entry.text}'", entry.location)


def _create_usb_device(vm: Machine, name: str) -> None:
    """Raises QapiError; its text is empty where QEMU has none."""
    if ":" in name:
        raise QapiError("usbdevice parameters are not supported anymore")
    type = _DEVICES.get(name)
    if type is None or type not in vm.profile.qom_types:
        raise QapiError("")
    bus = vm.buses.find_by_kind("usb-bus")
    if bus is None:
        raise QapiError(
            f"Error: no usb bus to attach usbdevice {name}, please try -machine usb=on and check "
            "that the machine model supports USB"
        )
    try:
        vm.devices.plug_unattached(type, bus)
    except NotModelledError:
        raise
    except QapiError as error:
        raise error.prefixed(f"Failed to initialize USB device '{type}': ") from None
