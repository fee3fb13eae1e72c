"""The machine that was chosen: what QEMU keeps in MachineState, apart from its devices.

See include/hw/boards.h: struct MachineState.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from fakeqemu.model.boards.memory import Memory

if TYPE_CHECKING:
    from fakeqemu.configuration import Configuration
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.tree import Qom
    from fakeqemu.profile import MachineType


#: target (None: any), machine type -> kinds of devices that sit on no bus and that it plugs; see
#: its get_hotplug_handler(): hw/i386/pc.c, hw/arm/virt.c, hw/riscv/virt.c, hw/ppc/spapr.c,
#: hw/s390x/s390-virtio-ccw.c
_PLUGS: dict[tuple[str | None, str], tuple[str, ...]] = {
    (None, "generic-pc-machine"): ("cpu", "pc-dimm", "x86-iommu", "sgx-epc"),
    (None, "microvm-machine"): ("cpu",),
    ("aarch64", "virt-machine"): ("pc-dimm",),
    ("arm", "virt-machine"): ("pc-dimm",),
    (None, "spapr-machine"): ("pc-dimm", "spapr-cpu-core", "spapr-pci-host-bridge"),
    (None, "s390-ccw-machine"): ("cpu",),
}


class Port(NamedTuple):
    """One -serial or -parallel that leads somewhere."""

    #: the option
    kind: str
    #: id of the character device
    chardev: str
    #: how many ports of this kind come before it, with and without a character device
    number: int


class MachineState:
    """Type, accelerator and memory of the machine, and the tree that it is the object of."""

    def __init__(self, process: Process, configuration: Configuration, qom: Qom) -> None:
        self.profile = process.profile
        self.phases = process.phases
        #: what the command line asked for
        self.configuration = configuration
        self.qom = qom
        #: set with the machine object; None before
        self.type: MachineType | None = None
        #: name of the accelerator in use; empty until it is chosen
        self.accelerator = ""
        self.memory = Memory()
        #: whether one instruction is translated at a time (7.2); see softmmu/globals.c: singlestep
        self.single_step = configuration.single_step
        #: whether waits for locks are measured; see util/qsp.c: qsp_is_enabled()
        self.sync_profile = configuration.sync_profile
        #: what boot_set has asked for; None: what -boot has
        self._boot_order: str | None = None
        self.on_boot_order: list[Callable[[], None]] = []
        #: what -acpitable gives, as fw_cfg holds it
        self.acpi_tables = b""
        #: -boot splash=: name and content of the item that firmware finds it under
        self.boot_splash: tuple[str, bytes] | None = None

    @property
    def boot_order(self) -> str:
        """The letters of devices from which firmware is to boot, first one first."""
        if self._boot_order is not None:
            return self._boot_order
        given: str | None = self.configuration.machine_options.get("boot", {}).get("order")
        return given or "cad"

    def set_boot_order(self, order: str) -> None:
        """Change it for the boots to come."""
        self._boot_order = order
        for listener in self.on_boot_order:
            listener()

    def is_a(self, kind: str) -> bool:
        """Whether there is a machine, and of a type that descends from `kind`."""
        return self.type is not None and self.profile.is_a(self.type.typename, kind)


def plugged_by_machine(state: MachineState) -> tuple[str, ...]:
    """The kinds of devices without a bus that may come while the machine is there."""
    target = state.profile.target
    for (where, machine), kinds in _PLUGS.items():
        if where in (None, target) and state.is_a(machine):
            return kinds
    return ()
