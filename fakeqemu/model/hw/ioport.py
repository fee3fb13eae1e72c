"""The I/O port space of one machine: who answers at which port.

A chip is a small class that handles ports; which chips there are follows from the objects of the
machine, board's and user's alike. A port nobody handles reads as all ones and takes writes to no
effect, as an empty bus does; that is written to the journal, since a device may be there that is
not modelled.

See system/ioport.c: cpu_outb(), cpu_inb() and unassigned_io_ops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fakeqemu.model.hw.guest_clock import GuestClock
from fakeqemu.model.qdev.device import user_devices

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.tree import QomObject
    from fakeqemu.model.runstate import RunState


class IoPortDevice:
    """One device's ports. A subclass gives the registers it really has."""

    #: bytes that one access takes at most; wider ones are split
    widest = 1

    def __init__(self, io: IoSpace, object: QomObject) -> None:
        self.io = io
        self.object = object

    def handles(self, port: int, size: int) -> bool:
        """Whether an access of `size` bytes at `port` is for this chip."""
        raise NotImplementedError

    def read(self, port: int, size: int) -> int:
        """What is at `port`."""
        raise NotImplementedError

    def write(self, port: int, size: int, value: int) -> None:
        """Take `value` at `port`."""

    def reset(self) -> None:
        """The machine was reset."""

    def firmware(self) -> None:
        """Firmware has run: what it sets up on this chip."""


#: makes the chip of an object
Maker = Callable[["IoSpace", "QomObject"], IoPortDevice]


class IoSpace:
    """The ports of one machine."""

    def __init__(
        self,
        process: Process,
        runstate: RunState,
        lifecycle: Lifecycle,
        state: MachineState,
        makers: Mapping[str, Sequence[Maker]],
    ) -> None:
        """`makers`: QOM type -> what makes the chips in a device of that type."""
        self.process = process
        self.lifecycle = lifecycle
        self.state = state
        self._runstate = runstate
        self._makers = makers
        self._stepped = state.accelerator == "qtest"
        self.clock = GuestClock(process.clock, runstate, lifecycle, stepped=self._stepped)
        #: whether firmware has set up the board since the last reset
        self._firmware = False
        self._chips: list[IoPortDevice] = []
        self._known: set[QomObject] = set()
        #: what was there at the last look, and how often that was something new
        self._seen: tuple[object, ...] = ()
        self.changes = 0
        #: what qtest programs intercept: called with (device, line, level)
        self.on_irq: Callable[[str, int, int], None] | None = None
        #: ports that were written to since the last reset, and that nobody handles
        self.ineffective: set[int] = set()
        lifecycle.on_reset.append(self._reset)
        lifecycle.on_state_change.append(self._state_changed)
        self._has_run = not runstate.check("prelaunch", "inmigrate")

    def present(self) -> list[IoPortDevice]:
        """The chips, whether or not firmware has run."""
        self._look()
        return self._chips

    def chips(self) -> list[IoPortDevice]:
        """The chips, those of devices plugged since the last look included."""
        self._look()
        if self._has_run and not self._firmware and not self._stepped:
            self._firmware = True
            for chip in self._chips:
                chip.firmware()
        return self._chips

    def read(self, port: int, size: int) -> int:
        """`size` bytes (1, 2 or 4) at `port`, little endian."""
        chip = self._claiming(port, size)
        if chip is not None and size <= chip.widest:
            return chip.read(port, size) & ((1 << 8 * size) - 1)
        if size > 1:
            parts = (self.read(port + n & 0xFFFF, 1) << 8 * n for n in range(size))
            return sum(parts)
        if chip is None:
            self.process.journal.note("unclaimed-port", f"{port:#06x}", access="read")
        return 0xFF

    def write(self, port: int, size: int, value: int) -> None:
        """Put `size` bytes to `port`."""
        value &= (1 << 8 * size) - 1
        chip = self._claiming(port, size)
        if chip is not None and size <= chip.widest:
            chip.write(port, size, value)
        elif size > 1:
            for n in range(size):
                self.write(port + n & 0xFFFF, 1, value >> 8 * n)
        else:
            self.ineffective.add(port)
            self.process.journal.note("unclaimed-port", f"{port:#06x}", access="write", value=value)

    def chip(self, kind: type[IoPortDevice]) -> IoPortDevice | None:
        """The chip of that kind, if there is one."""
        return next((chip for chip in self.chips() if isinstance(chip, kind)), None)

    def irq(self, device: str, line: int, level: int) -> None:
        """Interrupt line `line` of the device of that type changes."""
        if self.on_irq is not None:
            self.on_irq(device, line, level)

    def _claiming(self, port: int, size: int) -> IoPortDevice | None:
        return next((chip for chip in self.chips() if chip.handles(port, size)), None)

    def _look(self) -> None:
        # the board is there for good; what users plug comes and goes
        devices = user_devices(self.state.qom)
        there = (self.process.phases.current, self.state.qom.root, *devices)
        if there == self._seen:
            return
        self._seen = there
        self.changes += 1
        present = set()
        for obj in self.objects():
            present.add(obj)
            if obj in self._known:
                continue
            self._chips += [make(self, obj) for make in self._makers[obj.type]]
            self._known.add(obj)
        if self._known - present:
            self._known &= present
            self._chips = [chip for chip in self._chips if chip.object in present]

    def objects(self) -> Iterator[QomObject]:
        """The devices with ports that are modelled, the board's first."""
        users = user_devices(self.state.qom)
        types = self._makers.keys()
        machine = self.state.qom.container("/machine")
        for name, child in machine.children.items():
            if name not in ("peripheral", "peripheral-anon"):
                yield from (obj for obj in child.walk() if obj.type in types)
        yield from (device for device in users if device.type in types)

    def _reset(self, _cause: str) -> None:
        for chip in self._chips:
            chip.reset()
        self.ineffective.clear()
        self._firmware = False
        self._has_run = self._runstate.running

    def _state_changed(self, running: bool, _state: str) -> None:
        self._has_run = self._has_run or running
