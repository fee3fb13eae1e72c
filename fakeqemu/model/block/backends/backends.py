"""All BlockBackends of one machine: by name or device, made, given to devices, dropped.

See block/block-backend.c: blk_by_name(), blk_by_qdev_id() and blk_attach_dev(); blockdev.c:
do_open_tray() and qmp_blockdev_insert_anon_medium().
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from fakeqemu.model.block.backends import guest_io
from fakeqemu.model.block.backends.backend import Backend
from fakeqemu.model.block.backends.device_profiles import (
    KINDS,
    BlockDeviceProfile,
    check_block_sizes,
)
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import inserted
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.qdev.device import DeviceObject, find_device
from fakeqemu.model.qom.throttle_limits import check_limits
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.tree import Qom
    from fakeqemu.model.runstate import RunState

_SHARED = perms.CONSISTENT_READ | perms.WRITE_UNCHANGED


class Backends:
    """All backends of one machine."""

    def __init__(
        self,
        process: Process,
        runstate: RunState,
        qom: Qom,
        graph: Graph,
        named: dict[str, Backend],
    ) -> None:
        """`named`: those with a name will be kept in it; the graph looks there."""
        self.process = process
        self.graph = graph
        self._runstate = runstate
        self._qom = qom
        #: oldest first
        self.all: list[Backend] = []
        self.named = named
        graph.objects.users["throttle-group"] = self._in_throttle_group
        runstate.listen(self._state_changed)

    def _state_changed(self, _old: str, _new: str) -> None:
        for backend in self.all:
            backend.release_shared_permissions()

    # -- finding -----------------------------------------------------------------------------

    def shown(self) -> Iterator[Backend]:
        """Those that query-block lists."""
        return (b for b in self.all if b.name or b.device is not None)

    def get(self, device: str | None, id: str | None) -> Backend:
        """By the name of a -drive, or by a device's id or path. Raises QapiError."""
        if (device is None) == (id is None):
            raise QapiError("Need exactly one of 'device' and 'id'")
        if device is not None:
            found = self.named.get(device)
            if found is None:
                raise DeviceNotFoundError(texts.device_not_found(device))
            return found
        assert id is not None
        at = find_device(self._qom, self.process.profile.traits, id)
        for backend in self.all:
            if backend.device is at:
                return backend
        raise QapiError("Device does not have a block device backend")

    def of_device(self, device: DeviceObject) -> Backend | None:
        """The backend of a device, or of one inside."""
        return next((b for b in self.all if b.device is device), None)

    def on(self, node: Node) -> Backend | None:
        """A backend whose medium is `node`."""
        return next((b for b in self.all if b.node is node), None)

    def _in_throttle_group(self, group: str) -> bool:
        """Whether a node or a backend has joined the group."""
        return any(b.throttle_group == group for b in self.all) or any(
            node.driver.throttle_group == group for node in self.graph.nodes.values()
        )

    # -- making and dropping -------------------------------------------------------------------

    def create(self, name: str = "") -> Backend:
        """A backend without medium and device. Raises QapiError."""
        from fakeqemu.qapi.readers.scalars import is_identifier

        if name:
            if not is_identifier(name):
                raise QapiError("Invalid device name")
            if name in self.named:
                raise QapiError(f"Device with id '{name}' already exists")
            if self.graph.find(name) is not None:
                raise QapiError(f"Device name '{name}' conflicts with an existing node name")
        backend = Backend(self, name)
        self.all.append(backend)
        if name:
            self.named[name] = backend
        return backend

    def drop(self, backend: Backend) -> None:
        """Forget a backend and take its medium out."""
        self.set_throttle(backend, None, "")
        backend.remove()
        if backend in self.all:
            self.all.remove(backend)
        if self.named.get(backend.name) is backend:
            del self.named[backend.name]

    # -- devices -------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether a device's `drive` can be `name`."""
        return name in self.named or self.graph.find(name) is not None

    def kind_of(self, type: str) -> BlockDeviceProfile | None:
        """How devices of a type use their backend; None for types that have none."""
        here: str | None = type
        while here is not None:
            if here in KINDS:
                return KINDS[here]
            known = self.process.profile.qom_types.get(here)
            here = known.parent if known is not None else None
        return None

    def choose(self, device: DeviceObject, name: str) -> None:
        """A device's property `drive` is set to `name`. Raises QapiError."""
        backend = self.named.get(name)
        if backend is None:
            node = self.graph.find(name)
            assert node is not None
            backend = self.create()
            kind = self.kind_of(device.type)
            try:
                if node.iothread is not None and not (kind is not None and kind.iothreads):
                    node.move_to(None)
                backend.insert(node)
            except QapiError:
                self.drop(backend)
                raise
        elif backend.device is not None and backend.device is not device:
            if backend.legacy.get("automatic"):
                raise QapiError(
                    f"Drive '{name}' is already in use because it has been automatically"
                    " connected to another device (did you need 'if=none' in the drive options?)"
                )
            raise QapiError(f"Drive '{name}' is already in use by another device")
        backend.device = device

    def realize(self, device: DeviceObject) -> None:
        """A device with a backend is realized: take what it wants. Raises QapiError."""
        kind = self.kind_of(device.type)
        if kind is None:
            return
        backend = self.of_device(device)
        if backend is None:
            if not kind.may_be_empty:
                return
            backend = self.create()
            backend.device = device
        backend.kind = kind
        # an export or a job may write to the image until the guest comes in
        backend.inactive = self._runstate.check("inmigrate")
        node = backend.node
        if (node is None or not inserted(node)) and not kind.may_be_empty:
            raise QapiError("Device needs media, but drive is empty")
        if kind.iothreads and node is not None and node.iothread is not None:
            from fakeqemu.model.hw.virtio import virtio_scsi

            virtio_scsi.check_controller(device)
        check_block_sizes(device)
        guest_io.check_actions(backend, kind)
        perm, shared = perms.CONSISTENT_READ, _SHARED
        follows = node is not None and node.read_only and kind.on_read_only == "follow"
        if not kind.read_only and not follows:
            perm |= perms.WRITE
        if kind.resizable:
            shared |= perms.RESIZE
        if device.values.get("share-rw"):
            shared |= perms.WRITE
        backend.set_permissions(perm, shared)
        guest_io.take_options(backend, device.values)
        if node is not None and _on_scsi(device):
            from fakeqemu.model.hw.virtio import virtio_scsi

            required = self.process.profile.traits.scsi_iothread_required
            virtio_scsi.take_to_iothread(device, node, backend, required=required)
        _show(device, backend)
        backend.realized = True
        if kind.guesses_geometry and node is not None and "cyls" not in device.given:
            self._guess_geometry(node)
        if "drive" in device.shapes:
            device.setters["drive"] = partial(self._replace_medium, backend)

    def _guess_geometry(self, node: Node) -> None:
        """The host is waited for where the medium is on it.

        See hw/block/hd-geometry.c: hd_geometry_guess().
        """
        if any(each.driver.is_protocol and each.driver.waits for each in node.subtree()):
            self.process.polled()

    def _replace_medium(self, backend: Backend, name: str) -> None:
        """Another medium for a device that is realized: qom-set of `drive`. Raises QapiError.

        See hw/core/qdev-properties-system.c: set_drive_helper().
        """
        node = self.graph.lookup(None, name)
        old = backend.node
        if old is None:
            backend.insert(node)  # QEMU reads through a null pointer
        elif old.iothread != node.iothread:
            raise QapiError("Different aio context is not supported for new node")
        else:
            assert backend.root is not None
            self.graph.redirect([backend.root], node)
            self.graph.collect()
        assert backend.device is not None
        backend.device.values["drive"] = backend.name or node.name

    def unrealize(self, device: DeviceObject) -> None:
        """The device goes; so does a backend without a name."""
        backend = self.of_device(device)
        if backend is None:
            return
        if backend.realized and backend.node is not None and _on_scsi(device):
            from fakeqemu.model.hw.virtio import virtio_scsi

            virtio_scsi.bring_back(device, backend.node, backend)
        backend.device = None
        backend.kind = BlockDeviceProfile(io_status=False, may_be_empty=True)
        backend.tray_open = False
        goes, backend.realized = backend.realized or not backend.name, False
        if goes:
            self.drop(backend)
        else:
            backend.set_permissions(0, perms.ALL)

    # -- throttling ------------------------------------------------------------------------------

    def set_throttle(
        self, backend: Backend, limits: dict[str, int] | None, group: str
    ) -> None:
        """Put limits in force; None for none. Raises QapiError for wrong ones."""
        if limits is not None:
            check_limits(limits)
        old = backend.throttle_group
        backend.throttle, backend.throttle_group = None, ""
        if old and all(b.throttle_group != old for b in self.all):
            self.graph.throttling.groups.pop(old, None)
        if limits is None:
            return
        backend.throttle_group = group
        self.graph.throttling.groups[group] = limits
        for each in self.all:
            if each.throttle_group == group:
                each.throttle = limits

    # -- the tray ----------------------------------------------------------------------------

    def open_tray(self, backend: Backend, who: str, *, force: bool) -> str:
        """Open the tray; gives why nothing happened ("", "no-tray", "locked").

        Raises QapiError for a device that is not removable.
        """
        if not backend.removable:
            raise QapiError(f"Device '{who}' is not removable")
        if not backend.has_tray:
            return "no-tray"
        if backend.tray_open:
            return ""
        if not backend.locked or force:
            backend.move_tray(open=True)
            return ""
        return "locked"

    def close_tray(self, backend: Backend, who: str) -> None:
        """Close the tray. Raises QapiError."""
        if not backend.removable:
            raise QapiError(f"Device '{who}' is not removable")
        if backend.has_tray and backend.tray_open:
            backend.move_tray(open=False)

    def remove_medium(self, backend: Backend, who: str) -> None:
        """Take the medium out of an open tray. Raises QapiError."""
        self._check_open(backend, who)
        if backend.node is None:
            return
        backend.node.check_operation("eject")
        backend.remove()

    def insert_medium(self, backend: Backend, node: Node, who: str = "") -> None:
        """Put a medium into an open tray. Raises QapiError; without `who`, of "the device"."""
        self._check_open(backend, who)
        if backend.node is not None:
            raise QapiError(f"There already is a medium in {_named(who)}")
        backend.insert(node)

    @staticmethod
    def _check_open(backend: Backend, who: str) -> None:
        if backend.device is None:
            return
        if not backend.removable:
            raise QapiError(f"{_named(who, capital=True)} is not removable")
        if backend.has_tray and not backend.tray_open:
            raise QapiError(f"Tray of {_named(who)} is not open")


def _on_scsi(device: DeviceObject) -> bool:
    return device.bus is not None and device.bus.is_a("SCSI")


def _named(who: str, *, capital: bool = False) -> str:
    if who:
        return f"{'Device' if capital else 'device'} '{who}'"
    return "Device" if capital else "the device"


#: cylinders of a disk of which nobody knows better, and its heads and sectors
_CYLINDERS, _GEOMETRY = (2, 16383), {"heads": 16, "secs": 63}
_SECTOR = 512
_LONGEST_ID = 20
#: how a BIOS translates it, and the most cylinders of which it makes nothing else
_TRANSLATION, _SMALL = "bios-chs-trans", 1024


def _show(device: DeviceObject, backend: Backend) -> None:
    """The properties that a disk works out from its image and from other properties.

    What a partition table says of the geometry is not looked at. See hw/block/hd-geometry.c:
    guess_chs_for_size() and hd_bios_chs_auto_trans(); hw/scsi/scsi-disk.c: scsi_realize().
    """
    for disk in [disk for bus in device.children.values() for disk in bus.children.values()]:
        # a USB disk gives its drive to the SCSI disk inside
        if isinstance(disk, DeviceObject) and "cyls" in disk.values and disk.values["drive"]:
            disk.values["drive"], device.values["drive"] = device.values["drive"], ""
            _show(disk, backend)
    values = device.values
    # of a virtio disk the device around it was given what is its own
    given = device.given | getattr(device.parent, "given", set())
    if "cyls" in values and backend.node is not None:
        if given.isdisjoint({"cyls", *_GEOMETRY}):
            track = _GEOMETRY["heads"] * _GEOMETRY["secs"] * _SECTOR
            fewest, most = _CYLINDERS
            values["cyls"] = min(max(base.length(backend.node) // track, fewest), most)
            values.update(_GEOMETRY)
        if _TRANSLATION in values and _TRANSLATION not in given:
            small = values["cyls"] <= _SMALL and values["heads"] <= 16 and values["secs"] <= 63
            values[_TRANSLATION] = "none" if small else "lba"
    if device.type == "floppy":
        from fakeqemu.model.block.backends import floppy

        floppy.choose_type(device, backend.node)
    if "device_id" in values and "device_id" not in device.given:
        serial = str(values["serial"]) if "serial" in device.given else ""
        values["device_id"] = serial[:_LONGEST_ID] or backend.name
