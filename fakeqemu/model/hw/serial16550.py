"""A serial port: a 16550 whose other end is a character device, and never busy.

See hw/char/serial.c: serial_ioport_write() and serial_ioport_read().
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fakeqemu.model.hw.ioport import IoPortDevice
from fakeqemu.model.qdev.backends import DeviceFrontend

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.qom.tree import QomObject

_DATA, _INTERRUPTS, _IDENT, _LINE, _MODEM, _STATUS, _MODEM_STATUS, _SCRATCH = range(8)
_DIVISOR_LATCH, _READY, _EMPTY, _LOOP = 0x80, 0x01, 0x60, 0x10


class Uart(IoPortDevice):
    """One port."""

    def __init__(self, io: IoSpace, object: QomObject, chardevs: Chardevs) -> None:
        super().__init__(io, object)
        self._chardevs = chardevs
        self.reset()
        chardev = self.chardev
        if chardev is not None and isinstance(chardev.frontend, DeviceFrontend):
            chardev.frontend.on_data = self._received

    @property
    def chardev(self) -> Chardev | None:
        """Where it leads."""
        return self._chardevs.get(str(self.object.values.get("chardev")))

    def handles(self, port: int, size: int) -> bool:
        """Eight ports from its property's on."""
        base = int(self.object.values["iobase"])
        return base <= port < base + 8 and size == 1

    def reset(self) -> None:
        """As at the start."""
        self._registers = [0, 0, 0, 0, 0x08, 0, 0, 0]
        self._divisor = 12
        self._input: deque[int] = deque(maxlen=4096)

    def read(self, port: int, size: int) -> int:  # noqa: ARG002
        """A register."""
        register = port - int(self.object.values["iobase"])
        if register < 2 and self._registers[_LINE] & _DIVISOR_LATCH:
            return self._divisor >> 8 * register & 0xFF
        if register == _DATA:
            return self._input.popleft() if self._input else 0
        if register == _IDENT:
            return 1 | (self._registers[_IDENT] & 1) * 0xC0
        if register == _STATUS:
            return _EMPTY | (_READY if self._input else 0)
        if register == _MODEM_STATUS:
            return 0xB0
        return self._registers[register]

    def write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """A register; data goes out."""
        register = port - int(self.object.values["iobase"])
        if register < 2 and self._registers[_LINE] & _DIVISOR_LATCH:
            shift = 8 * register
            self._divisor = self._divisor & ~(0xFF << shift) | value << shift
        elif register == _DATA:
            self._send(value)
        elif register not in (_STATUS, _MODEM_STATUS):
            self._registers[register] = value

    def _send(self, value: int) -> None:
        if self._registers[_MODEM] & _LOOP:
            self._input.append(value)
        elif (chardev := self.chardev) is not None:
            chardev.write(bytes([value]))

    def _received(self, data: bytes, _fds: Sequence[int]) -> None:
        self._input.extend(data)
