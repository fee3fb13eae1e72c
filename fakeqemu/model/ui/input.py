"""Keyboards, mice and screens that devices of the machine offer, and which mouse is in use.

See ui/input.c: qemu_input_handler_register(), qmp_query_mice() and qemu_mouse_set().
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.process import Phases
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qom.tree import Qom, QomObject

_KEYS = frozenset({"key"})
_MOUSE = frozenset({"btn", "rel"})
_TABLET = frozenset({"btn", "abs"})
#: QOM type -> name of its handler, kinds of events that it takes. A vmmouse has one only once the
#: guest has woken it.
_HANDLERS = {
    "ps2-kbd": ("QEMU PS/2 Keyboard", _KEYS),
    "ps2-mouse": ("QEMU PS/2 Mouse", _MOUSE),
    "usb-kbd": ("QEMU HID Keyboard", _KEYS),
    "usb-mouse": ("QEMU HID Mouse", _MOUSE),
    "usb-tablet": ("QEMU HID Tablet", _TABLET),
    "virtio-keyboard-device": ("QEMU Virtio Keyboard", _KEYS),
    "virtio-mouse-device": ("QEMU Virtio Mouse", _MOUSE),
    "virtio-tablet-device": ("QEMU Virtio Tablet", _TABLET),
    "virtio-multitouch-device": ("QEMU Virtio MultiTouch", frozenset({"btn", "mtt"})),
}


@dataclass
class _Handler:
    obj: QomObject
    #: counted from 1, never used again
    number: int

    @property
    def name(self) -> str:
        return _HANDLERS[self.obj.type][0]

    @property
    def takes(self) -> frozenset[str]:
        return _HANDLERS[self.obj.type][1]

    @property
    def is_mouse(self) -> bool:
        return not self.takes.isdisjoint(("rel", "abs"))


class InputHandlers:
    """The list of handlers: in order of creation, but one that was chosen comes first.

    It is brought up to date when somebody looks, and before a device that goes is forgotten: so
    every handler has the number that it got when it was made.
    """

    def __init__(self, qom: Qom, phases: Phases) -> None:
        self._qom = qom
        self._phases = phases
        self._handlers: list[_Handler] = []
        self._made = 0

    def removed(self, device: DeviceObject) -> None:
        """`device` has been taken out."""
        self._update(device)
        gone = {id(obj) for obj in device.walk()}
        self._handlers = [each for each in self._handlers if id(each.obj) not in gone]

    def mice(self) -> list[dict[str, Any]]:
        """What query-mice returns: the one in use comes last."""
        if not self._phases.reached("machine-initialized"):
            return []
        self._update()
        found = [handler for handler in self._handlers if handler.is_mouse]
        return [
            {
                "name": handler.name,
                "index": handler.number,
                "current": handler is found[0],
                "absolute": "abs" in handler.takes,
            }
            for handler in reversed(found)
        ]

    def choose(self, number: int) -> None:
        """Have the mouse with that number get the events. Raises QapiError."""
        self._update()
        handler = next((each for each in self._handlers if each.number == number), None)
        if handler is None:
            raise QapiError(f"Mouse at index '{number}' not found")
        if not handler.is_mouse:
            raise QapiError(f"Input device '{handler.name}' is not a mouse")
        self._handlers.remove(handler)
        self._handlers.insert(0, handler)

    def check_events(self, events: list[dict[str, Any]]) -> None:
        """Raise QapiError if an event is of a kind that nothing takes."""
        self._update()
        taken = {kind for handler in self._handlers for kind in handler.takes}
        for event in events:
            if event["type"] not in taken:
                raise QapiError(f"Input handler not found for event type {event['type']}")

    def _update(self, leaving: DeviceObject | None = None) -> None:
        known = {id(handler.obj) for handler in self._handlers}
        for obj in self._objects(leaving):
            if id(obj) not in known:
                self._made += 1
                self._handlers.append(_Handler(obj, self._made))

    def _objects(self, leaving: DeviceObject | None) -> Iterator[QomObject]:
        """What has a handler, in order of creation; a board's PS/2 pair comes first."""
        users = user_devices(self._qom) + ([leaving] if leaving is not None else [])
        users.sort(key=lambda device: device.number)
        for root in (self._qom.container("/machine/unattached"), *users):
            for obj in root.walk():
                if obj.type in _HANDLERS:
                    yield obj
