"""The iothread of a virtio-scsi controller, which does the I/O of all disks on it.

See hw/scsi/virtio-scsi.c: virtio_scsi_hotplug() and virtio_scsi_hotunplug().
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node, User

_CONTROLLER = "virtio-scsi-device"


def take_to_iothread(disk: DeviceObject, node: Node, user: User, *, required: bool) -> None:
    """The medium of a disk on such a controller goes to its thread.

    `required`: QapiError where it cannot, also to the main loop's where there is no other.
    """
    controller = _controller_of(disk)
    if controller is None:
        return
    iothread = _iothread_of(controller)
    if required:
        node.move_to(iothread, asked_by=user)
    elif iothread is not None:
        with suppress(QapiError):
            node.move_to(iothread, asked_by=user)


def bring_back(disk: DeviceObject, node: Node, user: User) -> None:
    """The disk goes: the main loop does its medium's I/O, unless others want it elsewhere."""
    controller = _controller_of(disk)
    if controller is not None and _iothread_of(controller) is not None:
        with suppress(QapiError):
            node.move_to(None, asked_by=user)


def check_controller(disk: DeviceObject) -> None:
    """Whether a disk whose medium has an iothread can be where it is. Raises QapiError.

    See hw/scsi/scsi-disk.c: scsi_realize().
    """
    if _controller_of(disk) is None:
        raise QapiError("HBA does not support iothreads")


def _controller_of(disk: DeviceObject) -> DeviceObject | None:
    above = disk.bus.object.parent if disk.bus is not None else None
    return above if isinstance(above, DeviceObject) and above.type == _CONTROLLER else None


def _iothread_of(controller: DeviceObject) -> str | None:
    """The thread of the first queue for requests; None for the main loop's."""
    mapping = controller.values.get("iothread-vq-mapping") or ()
    for each in mapping:
        queues = each.get("vqs")
        if not queues or 0 in queues:
            return str(each["iothread"])
    path = controller.values.get("iothread")
    return path.rpartition("/")[2] if path else None


__all__ = ["bring_back", "check_controller", "take_to_iothread"]
