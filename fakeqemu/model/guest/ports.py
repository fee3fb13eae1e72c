"""The guest's ends of character devices: serial ports it prints to, virtio ports it opens.

See hw/char/virtio-serial-bus.c: virtio_serial_open(); hw/char/serial.c: serial_ioport_write().
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fakeqemu.model.qdev.device import DeviceObject, user_devices
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import Port
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.events import Events
    from fakeqemu.model.qom.tree import Qom

#: device types that a guest prints to
_CONSOLES = ("isa-serial", "pci-serial", "virtconsole")
#: the type whose host end sees whether the guest has opened it
PORT = "virtserialport"


class GuestPorts:
    """Those of one machine."""

    def __init__(
        self, events: Events, qom: Qom, chardevs: Chardevs, onboard: Sequence[Port]
    ) -> None:
        """`onboard`: what the command line asked the board for."""
        self._events = events
        self._qom = qom
        self._chardevs = chardevs
        self._onboard = onboard

    def consoles(self) -> list[Chardev]:
        """Where the guest may print, in order: serial ports, then consoles that were plugged."""
        names = [port.chardev for port in self._onboard if port.kind == "serial"]
        for device in user_devices(self._qom):
            if device.type in _CONSOLES and isinstance(device.values.get("chardev"), str):
                names.append(device.values["chardev"])
        return [self._chardevs[name] for name in names if name in self._chardevs]

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
        for device in user_devices(self._qom):
            if device.type == PORT and device.values.get("name") == name:
                chardev = self._chardevs.get(str(device.values.get("chardev")))
                if chardev is not None:
                    yield device, chardev

    def set_open(self, device: DeviceObject, chardev: Chardev, is_open: bool) -> None:
        """The guest opens or closes a virtio port: VSERPORT_CHANGE."""
        if chardev.frontend_open == is_open:
            return
        chardev.frontend_open = is_open
        chardev.pause(not is_open)
        if device.id is not None:
            self._events.emit("VSERPORT_CHANGE", {"open": is_open, "id": device.id})
