"""The human monitor's `boot_set`: from what firmware starts the guest after a reset.

See monitor/hmp-cmds-target.c and system/bootdevice.c: qemu_boot_set() and validate_bootdevices();
hw/i386/pc.c: set_boot_dev().
"""

from __future__ import annotations

from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model.hw.mc146818 import BOOT_DEVICES
from fakeqemu.model.machine import Machine

_LETTERS = "abcdefghijklmnop"
#: nibbles that a PC has for it
_MOST = 3


@hmp("boot_set")
def boot_set(vm: Machine, bootdevice: str) -> str:
    """Set the order; the clock's memory tells firmware."""
    refusal = _refusal(vm, bootdevice)
    if refusal:
        return f"{refusal}\n"
    vm.state.set_boot_order(bootdevice)
    return f"boot device list now set to {bootdevice}\n"


def _refusal(vm: Machine, order: str) -> str:
    if not vm.state.is_a("generic-pc-machine"):
        return "no function defined to set boot device list for this architecture"
    for at, letter in enumerate(order):
        if letter not in _LETTERS:
            return f"Invalid boot device '{letter}'"
        if letter in order[:at]:
            return f"Boot device '{letter}' was given twice"
    if len(order) > _MOST:
        return "Too many boot devices for PC"
    wrong = next((letter for letter in order if letter not in BOOT_DEVICES), None)
    return "" if wrong is None else f"Invalid boot device for PC: '{wrong}'"
