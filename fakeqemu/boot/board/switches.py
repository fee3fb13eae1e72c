"""What a board leaves out because a machine property says so.

See hw/i386/pc.c: pc_basic_device_init() and pc_superio_init(); hw/i386/pc_q35.c: pc_q35_init();
hw/i386/pc_piix.c: pc_init1(); hw/i386/microvm.c: microvm_devices_init().
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fakeqemu.boot.board.numbering import Numbering
    from fakeqemu.profile import TreeObject

#: machine property -> types of devices that are not made when it is off
_TYPES = {
    "hpet": ("hpet",),
    "pic": ("isa-i8259",),
    "pit": ("isa-pit", "isa-pcspk"),
    "rtc": ("mc146818rtc",),
    "isa-serial": ("isa-serial",),
    "i8042": ("i8042", "vmport", "vmmouse", "port92"),
    "vmport": ("vmport", "vmmouse"),
    "sata": ("ich9-ahci", "ide-cd"),
    "smbus": ("ICH9-SMB", "smbus-eeprom"),
    "acpi": ("PIIX4_PM", "smbus-eeprom"),
}
#: machine property -> a device without which it does not concern the board
_CONCERNS = {"sata": "ich9-ahci", "smbus": "ICH9-SMB", "acpi": "PIIX4_PM"}
OFF = (False, "off")


def leave_out(
    properties: dict[str, Any], asked: Mapping[str, Any], numbering: Numbering, *, checked: bool
) -> None:
    """Leave out what is switched off.

    `properties` are the machine's, `asked` those on the command line; `checked`: whether a
    contradiction is refused (StartupError).
    """
    off = [name for name in _TYPES if properties.get(name) in OFF]
    if "i8042" in off and "vmport" in properties:
        if asked.get("vmport") != "on":
            properties["vmport"] = "off"
        elif checked:
            raise StartupError("vmport requires the i8042 controller to be enabled")
    for name in off:
        if name not in _CONCERNS or numbering.find(partial(has, type=_CONCERNS[name])):
            for number in numbering.find(partial(_is_one_of, types=_TYPES[name])):
                numbering.leave_out(number)


def _is_one_of(obj: TreeObject, types: tuple[str, ...]) -> bool:
    return obj.type in types


def has(obj: TreeObject, type: str) -> bool:
    """Whether a recorded device is of that type or consists of one among others."""
    return obj.type == type or any(child.type == type for child in obj.children.values())
