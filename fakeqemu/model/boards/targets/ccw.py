"""Numbers of devices on the channel subsystem of s390x: of the device, and of its subchannel.

See hw/s390x/css.c: css_create_sch(), css_find_free_subch_and_devno() and
css_find_free_subch_for_devno(); hw/core/qdev-properties-system.c: set_css_devid().
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qdev.device import DeviceObject

_GIVEN, _DEVICE, _SUBCHANNEL = "devno", "dev_id", "subch_id"
_ID = re.compile(r"([0-9a-fA-F]{1,2})\.([0-3])\.([0-9a-fA-F]{1,4})")
#: the channel subsystem of virtual devices, and what a set in it has room for
_VIRTUAL, _MOST = 0xFE, 0x10000


def take_numbers(device: DeviceObject, bus: Bus) -> None:
    """Give a device on the bus its numbers. Raises QapiError."""
    if not device.has(_DEVICE):
        return
    others = [each for each in bus.devices if each is not device and each.has(_DEVICE)]
    devices = {str(each.values[_DEVICE]) for each in others}
    channels = {str(each.values[_SUBCHANNEL]) for each in others}
    if _GIVEN in device.given:
        text = str(device.values[_GIVEN])
        found = _ID.fullmatch(text)
        if found is None:
            raise QapiError(f"Property '{device.type}.{_GIVEN}' doesn't take value '{text}'")
        css, group, number = (int(part, 16) for part in found.groups())
        wanted = _text(css, group, number)
        if wanted in devices:
            raise QapiError(f"Device {wanted} already exists")
        device.values[_GIVEN] = device.values[_DEVICE] = wanted
        device.values[_SUBCHANNEL] = _text(css, group, _free(channels, css, group, 0))
        return
    channel = _free(channels, _VIRTUAL, 0, 0)
    device.values[_SUBCHANNEL] = _text(_VIRTUAL, 0, channel)
    device.values[_DEVICE] = _text(_VIRTUAL, 0, _free(devices, _VIRTUAL, 0, channel))


def _free(taken: set[str], css: int, group: int, start: int) -> int:
    numbers: tuple[int, ...] = (*range(start, _MOST), *range(start))
    found = next((n for n in numbers if _text(css, group, n) not in taken), None)
    if found is None:
        raise QapiError(f"No free subchannel found for {_text(css, group, start)}")
    return found


def _text(css: int, group: int, number: int) -> str:
    return f"{css:x}.{group:x}.{number:04x}"
