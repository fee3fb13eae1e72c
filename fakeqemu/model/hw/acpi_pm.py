"""Chips by which a guest turns itself off, sends itself to sleep and resets itself.

See hw/acpi/core.c: acpi_pm_cnt_write(); hw/i386/port92.c: port92_write(); hw/input/pckbd.c:
kbd_write_command(); hw/isa/piix.c: rcr_write(); hw/isa/lpc_ich9.c: ich9_rst_cnt_write().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.clock import SECOND
from fakeqemu.model.hw.ioport import IoPortDevice

if TYPE_CHECKING:
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.hw.pci_config import PciConfig
    from fakeqemu.model.qom.tree import QomObject

#: ticks a second of the ACPI timer
PM_FREQUENCY = 3_579_545
#: where firmware puts the power management registers
FIRMWARE_PM_BASE = 0x600
_SLEEP_ENABLE, _SCI_ENABLE = 1 << 13, 1
_POWER_BUTTON, _TIMER, _WAKE = 1 << 8, 1, 1 << 15


class PiixReset(IoPortDevice):
    """The reset control register of a PIIX3."""

    #: the bits that stay
    kept = 2

    def __init__(self, io: IoSpace, object: QomObject) -> None:
        super().__init__(io, object)
        self._value = 0

    def handles(self, port: int, size: int) -> bool:
        """Port 0xcf9, by bytes."""
        return port == 0xCF9 and size == 1

    def reset(self) -> None:
        """Nothing is asked for."""
        self._value = 0

    def read(self, port: int, size: int) -> int:  # noqa: ARG002
        """What was written, but for the request."""
        return self._value

    def write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """Bit 2 asks for a reset."""
        if value & 4:
            self.io.lifecycle.reset("guest-reset")
            return
        self._value = value & self.kept


class Ich9Reset(PiixReset):
    """That of an ICH9."""

    kept = 0xA


class Port92(IoPortDevice):
    """The system control port: A20 and fast reset."""

    _value = 0

    def handles(self, port: int, size: int) -> bool:
        """Port 0x92."""
        return port == 0x92 and size == 1

    def reset(self) -> None:
        """As at the start."""
        self._value = 0

    def read(self, port: int, size: int) -> int:  # noqa: ARG002
        """What was written."""
        return self._value

    def write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """The rising of bit 0 asks for a reset."""
        rises = value & 1 and not self._value & 1
        self._value = value
        if rises:
            self.io.lifecycle.reset("guest-reset")


class Keyboard(IoPortDevice):
    """The keyboard controller's own commands; no keys are ever in it."""

    _READ_MODE, _WRITE_MODE, _SELF_TEST, _KEYBOARD_TEST = 0x20, 0x60, 0xAA, 0xAB
    _MOUSE_TEST, _READ_OUTPUT, _WRITE_OUTPUT, _RESET = 0xA9, 0xD0, 0xD1, 0xFE

    def __init__(self, io: IoSpace, object: QomObject) -> None:
        super().__init__(io, object)
        self.reset()

    def handles(self, port: int, size: int) -> bool:
        """Ports 0x60 and 0x64."""
        return port in (0x60, 0x64) and size == 1

    def reset(self) -> None:
        """As at the start."""
        self._mode, self._output, self._status = 0x03, 0xCF, 0x18
        self._pending: int | None = None
        self._expects = 0
        self._last = 0

    def read(self, port: int, size: int) -> int:  # noqa: ARG002
        """The status, or what waits to be read."""
        if port == 0x64:
            return self._status | (0 if self._pending is None else 1)
        if self._pending is not None:
            self._last = self._pending
            self._put(None)
        return self._last

    def write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """A command, or the byte that one waits for."""
        if port == 0x60:
            expects, self._expects = self._expects, 0
            if expects == self._WRITE_MODE:
                self._mode = value
            elif expects == self._WRITE_OUTPUT:
                self._output = value
                if not value & 1:
                    self.io.lifecycle.reset("guest-reset")
            return
        if value & 0xF0 == 0xF0:
            # pulses of the lines that are zero; line 0 resets
            if not value & 1:
                self.io.lifecycle.reset("guest-reset")
        elif value == self._SELF_TEST:
            self._status |= 4
            self._put(0x55)
        elif value in (self._KEYBOARD_TEST, self._MOUSE_TEST):
            self._put(0)
        elif value == self._READ_MODE:
            self._put(self._mode)
        elif value == self._READ_OUTPUT:
            self._put(self._output)
        else:
            self._expects = value

    def _put(self, value: int | None) -> None:
        """Have `value` wait to be read, and the interrupt with it if the mode says so."""
        self._pending = value
        self.io.irq("ioapic", 1, int(value is not None and self._mode & 1))


class PowerManagement(IoPortDevice):
    """ACPI's PM1 block and timer, where configuration space says that they are."""

    widest = 4
    #: bytes of the block; PCI function; commands that turn ACPI on and off
    size, function, enable, disable = 64, (1 << 3) | 3, 0xF1, 0xF0

    def __init__(self, io: IoSpace, object: QomObject) -> None:
        super().__init__(io, object)
        self.reset()
        self.io.lifecycle.on_powerdown.append(self._button)

    @property
    def base(self) -> int | None:
        """The first port; None while the block is off."""
        raise NotImplementedError

    def reset(self) -> None:
        """As at the start."""
        self._status = self._enabled = self._control = 0
        self._command = [0, 0]

    def handles(self, port: int, size: int) -> bool:  # noqa: ARG002
        """Event, control and timer registers, and the command port."""
        if port in (0xB2, 0xB3):
            return True
        base = self.base
        return base is not None and (base <= port < base + 6 or base + 8 <= port < base + 12)

    def read(self, port: int, size: int) -> int:
        """A register or a part of it."""
        if port in (0xB2, 0xB3):
            return self._command[port - 0xB2]
        base = self.base
        assert base is not None
        offset = port - base
        if offset >= 8:
            timer = self.io.clock.now() * PM_FREQUENCY // SECOND & 0xFFFFFF
            return timer >> 8 * (offset - 8)
        registers = self._status | self._enabled << 16 | self._control << 32
        return registers >> 8 * offset & ((1 << 8 * size) - 1)

    def write(self, port: int, size: int, value: int) -> None:
        """A register or a part of it."""
        if port in (0xB2, 0xB3):
            self._command[port - 0xB2] = value & 0xFF
            if port == 0xB2 and value == self.enable:
                self._control |= _SCI_ENABLE
            elif port == 0xB2 and value == self.disable:
                self._control &= ~_SCI_ENABLE
            return
        base = self.base
        assert base is not None
        register, shift = divmod(port - base, 2)
        if size == 4:
            self.write(port, 2, value & 0xFFFF)
            self.write(port + 2, 2, value >> 16)
            return
        old = (0, self._enabled, self._control, 0)[min(register, 3)]
        if size == 1:
            mask = 0xFF << 8 * shift
            value = old & ~mask | value << 8 * shift
        if register == 0:
            self._status &= ~value
        elif register == 1:
            self._enabled = value
        elif register == 2:
            self._set_control(value)

    def _set_control(self, value: int) -> None:
        self._control = value & ~_SLEEP_ENABLE
        if not value & _SLEEP_ENABLE:
            return
        kind, lifecycle = value >> 10 & 7, self.io.lifecycle
        if kind == 0:
            lifecycle.shutdown("guest-shutdown")
        elif kind == 1:
            lifecycle.suspend()
        elif kind == self._hibernates:
            self.io.process.events.emit("SUSPEND_DISK")
            lifecycle.shutdown("guest-shutdown")

    @property
    def _hibernates(self) -> int:
        """The kind of sleep that stands for S4."""
        value = self.object.values.get("s4_val", 2)
        return value if isinstance(value, int) else 2

    def _button(self) -> None:
        self._status |= _POWER_BUTTON

    def _pci(self) -> PciConfig | None:
        from fakeqemu.model.hw.pci_config import PciConfig

        return next((c for c in self.io.present() if isinstance(c, PciConfig)), None)

    def _config(self, register: int) -> int:
        pci = self._pci()
        return 0 if pci is None else pci.get(self.function, register, 4)

    def _configure(self, register: int, size: int, value: int) -> None:
        pci = self._pci()
        if pci is not None:
            pci.put(self.function, register, size, value)


class Piix4Pm(PowerManagement):
    """Power management of a PIIX4: its I/O base is in PCI configuration space."""

    @property
    def base(self) -> int | None:
        """Register 0x40, while bit 0 of 0x80 is set."""
        return self._config(0x40) & 0xFFC0 if self._config(0x80) & 1 else None

    def firmware(self) -> None:
        """Firmware gives it its ports and turns it on."""
        self._configure(0x40, 4, FIRMWARE_PM_BASE | 1)
        self._configure(0x80, 1, 1)


class Ich9Pm(PowerManagement):
    """An ICH9's."""

    size, function, enable, disable = 128, 0x1F << 3, 2, 3

    @property
    def base(self) -> int | None:
        """Register 0x40, while bit 7 of 0x44 is set."""
        return self._config(0x40) & 0xFF80 if self._config(0x44) & 0x80 else None

    def firmware(self) -> None:
        """Firmware gives it its ports and turns it on."""
        self._configure(0x40, 4, FIRMWARE_PM_BASE | 1)
        self._configure(0x44, 1, 0x80)
