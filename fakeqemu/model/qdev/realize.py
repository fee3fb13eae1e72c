"""What realizing a device does to the bus it sits on and to the backends it takes.

PCI hands out slots, USB ports, SCSI addresses; a network card takes a netdev, a serial port a
character device. What is taken is given back when the device goes, or when a check fails.

See hw/core/qdev.c: device_set_realized() and device_unparent().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fakeqemu.model.qdev.recorded import is_hotpluggable

if TYPE_CHECKING:
    from fakeqemu.model.process import Process
    from fakeqemu.model.qdev.backends import DeviceBackends
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qdev.realize_checks import RealizeChecks
    from fakeqemu.model.qdev.usb_ports import UsbPorts
    from fakeqemu.model.qom.tree import Qom


class Realizer:
    """Realizes and unrealizes the devices of one machine."""

    def __init__(
        self,
        process: Process,
        qom: Qom,
        usb: UsbPorts,
        checks: RealizeChecks,
        backends: DeviceBackends,
    ) -> None:
        self._process = process
        self._qom = qom
        self._usb = usb
        self._checks = checks
        self._backends = backends

    def realize(
        self, device: DeviceObject, bus: Bus | None, check: Callable[[], None] | None = None
    ) -> None:
        """Take the place on `bus` and the backends. Raises QapiError, nothing taken then.

        `check`, what the type asks for, comes when the bus has been satisfied.
        """
        if bus is not None:
            self._take_place(device, bus)
            bus.add(device)
            device.bus = bus
        try:
            if check is not None:
                check()
            self._checks.run(device)
            self._backends.take(device)
        except BaseException:
            if bus is not None:
                self._leave(device, bus)
            raise
        if bus is not None and "hotpluggable" in device.values:
            device.values["hotpluggable"] = bus.hotpluggable and is_hotpluggable(
                self._process.profile, device.type
            )

    def unrealize(self, device: DeviceObject) -> None:
        """Give back what `realize` took."""
        if device.bus is not None:
            self._leave(device, device.bus)
        self._backends.release(device)

    def _take_place(self, device: DeviceObject, bus: Bus) -> None:
        # a machine without devices needs neither
        from fakeqemu.model.hw.virtio import virtio_serial
        from fakeqemu.model.qdev import addresses
        from fakeqemu.model.qdev.usb_ports import be_companion

        profile = self._process.profile
        if bus.is_a("PCI"):
            addresses.take_slot(self._process, device, bus)
            addresses.take_chassis(self._qom, profile, device)
            if device.values.get("masterbus"):
                be_companion(device, bus.buses)
            if "disable-legacy" in device.values and "disable-legacy" not in device.given:
                addresses.be_modern(profile, device, bus)
        elif bus.is_a("usb-bus"):
            self._usb.take(device, bus)
        elif bus.is_a("SCSI"):
            addresses.take_address(profile, device, bus)
        elif bus.is_a("IDE"):
            addresses.take_unit(profile, device, bus)
        elif bus.is_a("floppy-bus"):
            addresses.take_floppy_unit(device, bus)
        elif bus.is_a("virtio-serial-bus"):
            virtio_serial.take(self._qom, profile, device, bus)
        elif bus.is_a("virtual-css-bus"):
            # one target has it
            from fakeqemu.model.boards.targets import ccw

            ccw.take_numbers(device, bus)
        elif bus.is_a("spapr-vio-bus"):
            from fakeqemu.model.boards.targets import spapr_vio

            spapr_vio.take_address(device, bus)

    def take_usb_ports(self, buses: Iterable[Bus]) -> None:
        """Have devices that a board has put on USB buses sit down in ports as they were made."""
        for bus in buses:
            for device in reversed(bus.devices) if bus.is_a("usb-bus") else ():
                if not device.port:
                    self._usb.take(device, bus)

    def _leave(self, device: DeviceObject, bus: Bus) -> None:
        bus.drop(device)
        if device.port:
            self._usb.release(device, bus)
