"""The interface of drives for which none is named, on boards without a default CD drive to tell it.

See block_default_type in hw/arm/virt.c: virt_machine_class_init(); hw/riscv/virt.c:
virt_machine_class_init(); hw/s390x/s390-virtio-ccw.c: ccw_machine_class_init().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.profile import MachineType, Profile

_INTERFACES = {"virt-machine": "virtio", "s390-ccw-machine": "virtio"}


def interface_of(profile: Profile, machine: MachineType) -> str:
    """The machine type's, as -drive names it."""
    types = profile.qom_types
    if machine.typename in types:
        for base, interface in _INTERFACES.items():
            if base in types and profile.is_a(machine.typename, base):
                return interface
    return "none"
