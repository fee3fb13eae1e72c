"""Consoles: what display devices and text consoles would show on a screen.

Before firmware has touched it a display device shows a message of QEMU's; the boards' firmware
puts VGA adapters into a text mode of 720 by 400. What it would write there we have not, so the
screen of a guest that has run is black. Text consoles (`vc`) say what is connected to them.

See ui/console.c: qemu_console_lookup_by_device_name() and qemu_create_placeholder_surface();
ui/console-vc.c: vc_chr_open().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.model.boards.guest_memory import is_vga
from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError

if TYPE_CHECKING:
    from fakeqemu.formats.image import Picture
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.qom.tree import QomObject

_FIRST_SIZE = (640, 480)
_TEXT_MODE = (720, 400)
_TEXT_CONSOLE = (640, 384)
_UNTOUCHED = "Guest has not initialized the display (yet)."
#: properties that only display devices have
_MARKS = frozenset({"vgamem_mb", "xres"})
_HEADS = "max_outputs"


@dataclass(frozen=True, slots=True)
class Console:
    """One console; a device may have several, its heads."""

    #: the display device; None for a text console
    device: QomObject | None
    head: int = 0
    #: name of a text console's character device
    label: str = ""


class Display:
    """The consoles of one machine."""

    def __init__(self, state: MachineState, lifecycle: Lifecycle, chardevs: Chardevs) -> None:
        self._state = state
        self._chardevs = chardevs
        #: whether the guest has run, and so its firmware
        self._started = False
        lifecycle.on_state_change.append(self._state_changed)

    def consoles(self) -> list[Console]:
        """All consoles, graphical ones first; the first is the default."""
        found = [
            Console(device, head)
            for device in self._devices()
            for head in range(_heads(device))
        ]
        text = [Console(None, label=c.id) for c in self._chardevs.values() if c.backend == "vc"]
        return found + text

    def console(self, device: str | None = None, head: int | None = None) -> Console:
        """The console of a head of a device, or the default one. Raises QapiError."""
        if device is not None:
            return self._of_device(device, head or 0)
        if head is not None:
            raise QapiError("'head' must be specified together with 'device'")
        consoles = self.consoles()
        if not consoles:
            raise QapiError("There is no console to take a screendump from")
        return consoles[0]

    def picture(self, console: Console | None) -> Picture:
        """What the console shows; None is the place of one that is not there."""
        from fakeqemu.formats.image import blank, message, written

        if console is None or (console.device is not None and not self._has_text(console)):
            return message(*_FIRST_SIZE, _UNTOUCHED)
        if console.device is not None:
            return blank(*_TEXT_MODE)
        return written(blank(*_TEXT_CONSOLE), 0, 0, f"{console.label} console")

    def _of_device(self, name: str, head: int) -> Console:
        device = self._state.qom.at(f"/machine/peripheral/{name}")
        if device is None:
            raise DeviceNotFoundError(texts.device_not_found(name))
        for console in self.consoles():
            if console.device is device and console.head == head:
                return console
        raise QapiError(f"Device {name} (head {head}) is not bound to a QemuConsole")

    def _devices(self) -> list[QomObject]:
        """Display devices in order of creation."""
        qom = self._state.qom
        if not self._state.phases.reached("machine-initialized"):
            return []
        board = qom.container("/machine/unattached").children.values()
        return [obj for obj in (*board, *user_devices(qom)) if self._shows(obj.type)]

    def _shows(self, type: str) -> bool:
        try:
            names = {entry["name"] for entry in self._state.profile.device_properties(type)}
        except KeyError:
            return False
        return bool(names & _MARKS) or type == "ramfb"

    def _has_text(self, console: Console) -> bool:
        device = console.device
        return self._started and device is not None and is_vga(self._state.profile, device.type)

    def _state_changed(self, running: bool, _state: str) -> None:
        self._started = self._started or running


def _heads(device: QomObject) -> int:
    heads = device.values.get(_HEADS, 1)
    return heads if isinstance(heads, int) else 1
