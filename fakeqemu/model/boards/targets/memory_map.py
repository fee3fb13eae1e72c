"""Where boards that are no PCs have their memory.

See hw/arm/virt.c: base_memmap; hw/riscv/virt.c: virt_memmap; hw/s390x/s390-virtio-ccw.c:
s390_memory_init(); hw/ppc/spapr.c: spapr_machine_init().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState

#: target, machine type -> the first address
_STARTS = {
    ("aarch64", "virt-machine"): 0x40000000,
    ("arm", "virt-machine"): 0x40000000,
    ("riscv64", "virt-machine"): 0x80000000,
    ("riscv32", "virt-machine"): 0x80000000,
    ("s390x", "s390-ccw-machine"): 0,
    ("ppc64", "spapr-machine"): 0,
}


def start_of_ram(state: MachineState) -> int:
    """Raises NotModelledError for a board that is not known."""
    for (target, machine), start in _STARTS.items():
        if state.profile.target == target and state.is_a(machine):
            return start
    raise NotModelledError("guest memory of this machine type")
