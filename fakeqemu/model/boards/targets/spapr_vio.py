"""The bus of virtual devices of pseries machines: what is on it is called as firmware calls it.

See hw/ppc/spapr_vio.c: spapr_vio_busdev_realize().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qom.tree import QomObject

#: dt_name of each class
_NAMES = {
    "spapr-nvram": "nvram", "spapr-vty": "vty", "spapr-vlan": "l-lan", "spapr-vscsi": "v-scsi",
}  # fmt: skip
_FIRST, _NOT_SET = 0x71000000, 0xFFFFFFFF


def name_devices(unattached: QomObject) -> None:
    """Give the board's devices there their ids."""
    for obj in unattached.children.values():
        if obj.type in _NAMES and isinstance(obj, DeviceObject):
            _name(obj)


def take_address(device: DeviceObject, bus: Bus) -> None:
    """Take the address that was asked for, or the next one. Raises QapiError."""
    taken = {other.values["reg"]: other for other in bus.devices if other is not device}
    # a second card of a board's begins with the values that were recorded of the first
    wanted = device.values["reg"] if "reg" in device.given else _NOT_SET
    if wanted == _NOT_SET:
        wanted = next_address(bus, besides=device)
        device.values["reg"] = wanted
    elif wanted in taken:
        raise QapiError(
            f"{device.type} and {taken[wanted].type} devices conflict at address {wanted:#x}"
        )
    _name(device)


def next_address(bus: Bus, besides: DeviceObject | None = None) -> int:
    """The first address that no device there has, other than `besides`."""
    taken = {other.values["reg"] for other in bus.devices if other is not besides}
    return next(each for each in range(_FIRST, _NOT_SET) if each not in taken)


def _name(device: DeviceObject) -> None:
    if device.id is None and device.type in _NAMES:
        device.id = f"{_NAMES[device.type]}@{device.values['reg']:x}"
