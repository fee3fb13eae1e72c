"""Which chips there are, by the QOM type of the device they are in, and what each is wired to.

A chip's module loads when the first of its kind is made.

See hw/i386/pc.c: pc_basic_device_init(); hw/isa/lpc_ich9.c: ich9_lpc_realize().
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.guest_memory import GuestMemory
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.hw.ioport import IoPortDevice, IoSpace, Maker
    from fakeqemu.model.qdev.bus import Buses
    from fakeqemu.model.qom.tree import QomObject


def makers(
    memory: GuestMemory, cpus: Cpus, numa: Numa, chardevs: Chardevs, buses: Buses
) -> dict[str, tuple[Maker, ...]]:
    """QOM type -> what makes the chips in a device of that type."""

    def console(io: IoSpace, obj: QomObject) -> IoPortDevice:
        from fakeqemu.model.hw.debug_devices import DebugConsole

        return DebugConsole(io, obj, chardevs)

    def uart(io: IoSpace, obj: QomObject) -> IoPortDevice:
        from fakeqemu.model.hw.serial16550 import Uart

        return Uart(io, obj, chardevs)

    def rtc(io: IoSpace, obj: QomObject) -> IoPortDevice:
        from fakeqemu.model.hw.mc146818 import Rtc

        return Rtc(io, obj, memory, cpus)

    def fw_cfg(io: IoSpace, obj: QomObject) -> IoPortDevice:
        from fakeqemu.model.hw.fw_cfg import FwCfg

        return FwCfg(io, obj, memory, cpus, numa)

    def pci_config(io: IoSpace, obj: QomObject) -> IoPortDevice:
        from fakeqemu.model.hw.pci_config import PciConfig

        return PciConfig(io, obj, buses)

    return {
        "PIIX3": (_plain("acpi_pm:PiixReset"),),
        "ICH9-LPC": (_plain("acpi_pm:Ich9Reset"), _plain("acpi_pm:Ich9Pm")),
        "PIIX4_PM": (_plain("acpi_pm:Piix4Pm"),),
        "port92": (_plain("acpi_pm:Port92"),),
        "i8042": (_plain("acpi_pm:Keyboard"),),
        "pvpanic": (_plain("debug_devices:Pvpanic"),),
        "isa-debug-exit": (_plain("debug_devices:DebugExit"),),
        "isa-debugcon": (console,),
        "mc146818rtc": (rtc,),
        "fw_cfg_io": (fw_cfg,),
        "isa-pit": (_plain("i8254:Pit"),),
        "isa-serial": (uart,),
        "i440FX-pcihost": (pci_config,),
        "q35-pcihost": (pci_config,),
    }


def _plain(name: str) -> Maker:
    """A chip that needs nothing besides the ports."""

    def make(io: IoSpace, obj: QomObject) -> IoPortDevice:
        module, _, kind = name.partition(":")
        made: IoPortDevice = getattr(import_module(f"fakeqemu.model.hw.{module}"), kind)(io, obj)
        return made

    return make
