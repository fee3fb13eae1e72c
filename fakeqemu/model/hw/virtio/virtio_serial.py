"""Ports of a virtio-serial bus: their numbers and names, the first number kept for a console.

See hw/char/virtio-serial-bus.c: virtser_port_device_realize(), find_free_port_id() and
find_port_by_name().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.qdev.device import user_devices
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.model.qom.tree import Qom
    from fakeqemu.profile import Profile

_MOST, _WORD = 31, 32


def take(qom: Qom, profile: Profile, device: DeviceObject, bus: Bus) -> None:
    """Give the port its number. Raises QapiError."""
    taken = {other.values.get("nr") for other in bus.devices}
    wanted = device.values.get("nr") if "nr" in device.given else None
    console = profile.is_a(device.type, "virtconsole")
    if wanted is not None and wanted in taken:
        raise QapiError(f"virtio-serial-bus: A port already exists at id {wanted}")
    name = device.values.get("name")
    if name and name in _names(qom, profile, device):
        raise QapiError(f"virtio-serial-bus: A port already exists by name {name}")
    most = _max_ports(bus)
    if wanted is None:
        first = 0 if console and 0 not in taken else 1
        # the map of numbers is looked through in whole words
        end = -(-most // _WORD) * _WORD
        wanted = next((n for n in range(first, end) if n not in taken), None)
        if wanted is None:
            raise QapiError("virtio-serial-bus: Maximum port limit for this device reached")
    if wanted >= most:
        raise QapiError(
            "virtio-serial-bus: Out-of-range port id specified,"
            f" max. allowed: {most - 1}"
        )
    if wanted == 0 and not console:
        raise QapiError(
            "Port number 0 on virtio-serial devices reserved for virtconsole devices for"
            " backward compatibility."
        )
    device.values["nr"] = wanted


def _names(qom: Qom, profile: Profile, device: DeviceObject) -> set[str]:
    """Names of the other ports of all buses."""
    return {
        other.values["name"]
        for other in user_devices(qom)
        if other is not device
        and profile.is_a(other.type, "virtio-serial-port")
        and other.bus is not None
        and other.values.get("name")
    }


def _max_ports(bus: Bus) -> int:
    owner = bus.object.parent
    number = owner.values.get("max_ports") if owner is not None else None
    return number if isinstance(number, int) else _MOST
