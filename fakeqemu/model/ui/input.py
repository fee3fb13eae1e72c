"""Keyboards, mice and screens that devices of the machine offer.

See ui/input.c: qmp_query_mice() and qemu_input_handler_register().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.process import Phases
    from fakeqemu.model.qom.tree import Qom, QomObject

#: QOM type -> (name in query-mice, absolute)
_MICE = {
    "ps2-mouse": ("QEMU PS/2 Mouse", False),
    "vmmouse": ("vmmouse", True),
    "usb-mouse": ("QEMU HID Mouse", False),
    "usb-tablet": ("QEMU HID Tablet", True),
    "virtio-mouse-device": ("QEMU Virtio Mouse", False),
    "virtio-tablet-device": ("QEMU Virtio Tablet", True),
}
#: types that the guest has to wake before they count
_ASLEEP = frozenset({"vmmouse", "virtio-mouse-device", "virtio-tablet-device"})
_KEYBOARDS = frozenset({"ps2-kbd", "usb-kbd", "virtio-keyboard-device"})
#: handlers get numbers in order of creation, keyboards too; a board's PS/2 pair comes first
_FIRST = 1


def _objects(qom: Qom) -> list[QomObject]:
    built_in = list(qom.container("/machine/unattached").walk())
    users = [obj for device in user_devices(qom) for obj in device.walk()]
    handlers = {*_MICE, *_KEYBOARDS} - _ASLEEP
    return [obj for obj in (*built_in, *users) if obj.type in handlers]


def mice(qom: Qom, phases: Phases) -> list[dict[str, Any]]:
    """What query-mice returns: the newest first, the current one marked."""
    if not phases.reached("machine-initialized"):
        return []
    numbered = list(enumerate(_objects(qom), _FIRST))
    found = [
        {
            "name": _MICE[obj.type][0],
            "index": number,
            "current": False,
            "absolute": _MICE[obj.type][1],
        }
        for number, obj in reversed(numbered)
        if obj.type in _MICE
    ]
    for entry in reversed(found):
        if entry["name"] == _MICE["ps2-mouse"][0]:
            entry["current"] = True
            break
    else:
        if found:
            found[0]["current"] = True
    return found


def check_events(qom: Qom, events: list[dict[str, Any]]) -> None:
    """Raise QapiError if an event is of a kind that nothing takes."""
    types = {obj.type for obj in _objects(qom)}
    relative = any(t in _MICE and not _MICE[t][1] for t in types)
    absolute = any(t in _MICE and _MICE[t][1] for t in types)
    taken = {
        "key": bool(types & _KEYBOARDS),
        "rel": relative,
        "abs": absolute,
        "btn": relative or absolute,
        "mtt": False,
    }
    for event in events:
        if not taken[event["type"]]:
            raise QapiError(f"Input handler not found for event type {event['type']}")
