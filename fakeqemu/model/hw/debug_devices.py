"""Devices that are there so that a guest can tell the outside something.

See hw/misc/pvpanic.c: handle_event(); hw/misc/debugexit.c: debug_exit_write(); hw/char/debugcon.c:
debugcon_ioport_write().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.hw.ioport import IoPortDevice

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.qom.tree import QomObject


class _OnePort(IoPortDevice):
    """A device whose place is one of its properties."""

    property = "iobase"
    length = 1

    def handles(self, port: int, size: int) -> bool:  # noqa: ARG002
        """The ports that its property says."""
        base = int(self.object.values[self.property])
        return base <= port < base + self.length


class Pvpanic(_OnePort):
    """A guest's word that it has crashed, or is to end."""

    property = "ioport"
    PANICKED, CRASH_LOADED, SHUTDOWN = 1, 2, 4

    def read(self, port: int, size: int) -> int:  # noqa: ARG002
        """The events it knows."""
        return int(self.object.values["events"])

    def write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """One event, the gravest first."""
        lifecycle, known = self.io.lifecycle, self.io.process.profile.schema.events
        if value & self.PANICKED:
            lifecycle.guest_panicked()
        elif value & self.CRASH_LOADED:
            self.io.process.events.emit("GUEST_CRASHLOADED", {"action": "run"})
        elif value & self.SHUTDOWN and "GUEST_PVSHUTDOWN" in known:
            self.io.process.events.emit("GUEST_PVSHUTDOWN")
            lifecycle.shutdown("guest-shutdown")


class DebugExit(_OnePort):
    """Ends the process with a code of the guest's choice."""

    widest = 4

    @property
    def length(self) -> int:  # type: ignore[override]
        """Its property says."""
        return int(self.object.values["iosize"])

    def read(self, port: int, size: int) -> int:  # noqa: ARG002
        """Nothing."""
        return 0

    def write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """Leave with an odd code."""
        code = (value << 1 | 1) & 0xFF
        if self.io.process.profile.traits.debug_exit_is_shutdown:
            self.io.lifecycle.shutdown("guest-shutdown", code=code)
        else:
            self.io.process.exit(code)


class DebugConsole(_OnePort):
    """Bytes for a character device."""

    def __init__(self, io: IoSpace, object: QomObject, chardevs: Chardevs) -> None:
        super().__init__(io, object)
        self._chardevs = chardevs

    def read(self, port: int, size: int) -> int:  # noqa: ARG002
        """A mark by which a guest knows it."""
        return int(self.object.values["readback"])

    def write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """One byte out."""
        chardev = self._chardevs.get(str(self.object.values.get("chardev")))
        if chardev is not None:
            chardev.write(bytes([value]))
