"""Floppy drives: which type one has that nobody has chosen.

See hw/block/fdc.c: fd_formats, pick_geometry() and pick_drive_type().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.block.drivers import base

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node
    from fakeqemu.model.qdev.device import DeviceObject

_TYPE, _AUTO = "drive-type", "auto"
#: sectors of a disk's formats by the type of drive that reads them; the first that fits counts
_FORMATS = (
    ("144", (2880, 3200, 3360, 3444, 3486, 3520, 3680, 3840)),
    ("288", (5760, 6240, 6400, 7040, 7680)),
    ("144", (1440, 1600, 1640, 1660, 2080, 2240)),
    ("120", (2400, 2880, 2952, 2988, 3200, 1440, 1760)),
    ("120", (720, 360, 820, 840, 640, 320)),
)
_SECTOR = 512


def choose_type(device: DeviceObject, node: Node | None) -> None:
    """The one that reads the disk in it; without any, what the controller falls back to."""
    given = device.values[_TYPE] if _TYPE in device.given else _AUTO
    if given != _AUTO:
        return
    sectors = base.length(node) // _SECTOR if node is not None else -1
    found = next((type for type, sizes in _FORMATS if sectors in sizes), None)
    controller = device.bus.object.parent if device.bus is not None else None
    fallback = controller.values.get("fallback") if controller is not None else None
    device.values[_TYPE] = found or fallback or "288"
