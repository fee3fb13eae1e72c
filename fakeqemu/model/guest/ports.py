"""The guest's ends of character devices: serial ports it prints to, virtio ports it opens.

See hw/char/virtio-serial-bus.c: virtio_serial_open(); hw/char/serial.c: serial_ioport_write().
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.machine import Machine

#: device types that a guest prints to
_CONSOLES = ("isa-serial", "pci-serial", "virtconsole")
#: the type whose host end sees whether the guest has opened it
PORT = "virtserialport"


class GuestPorts:
    """Those of one machine."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm

    def consoles(self) -> list[Chardev]:
        """Where the guest may print, in order: serial ports, then consoles that were plugged."""
        vm = self._vm
        names = [port.chardev for port in vm.ports if port.kind == "serial"]
        for device in vm.devices.user_devices():
            if device.type in _CONSOLES and isinstance(device.values.get("chardev"), str):
                names.append(device.values["chardev"])
        return [vm.chardevs[name] for name in names if name in vm.chardevs]

    def print(self, text: bytes, port: str | None = None) -> None:
        """Print to the console of a character device, or to the first. Raises QapiError."""
        consoles = self.consoles()
        chosen = [each for each in consoles if port is None or each.id == port]
        if not chosen:
            what = "no serial port" if port is None else f"no serial port on '{port}'"
            raise QapiError(f"the guest has {what}")
        chosen[0].write(text)

    def named(self, name: str) -> Iterator[tuple[DeviceObject, Chardev]]:
        """The virtio ports of that name, and what is behind them."""
        for device in self._vm.devices.user_devices():
            if device.type == PORT and device.values.get("name") == name:
                chardev = self._vm.chardevs.get(str(device.values.get("chardev")))
                if chardev is not None:
                    yield device, chardev

    def set_open(self, device: DeviceObject, chardev: Chardev, is_open: bool) -> None:
        """The guest opens or closes a virtio port: VSERPORT_CHANGE."""
        if chardev.frontend_open == is_open:
            return
        chardev.frontend_open = is_open
        chardev.pause(not is_open)
        if device.id is not None:
            self._vm.events.emit("VSERPORT_CHANGE", {"open": is_open, "id": device.id})
