"""BlockBackends: what is between a device and a node, or a -drive without a device yet.

A backend owns the medium's tray, throttling and counters; its device's profile decides which
permissions it takes on the node. See block/block-backend.c: blk_new() and blk_root_inactivate().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.backends import guest_io
from fakeqemu.model.block.backends.acct_stats import BlockAcctStats, Histogram
from fakeqemu.model.block.backends.device_profiles import KINDS, BlockDeviceProfile
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Edge, Node
from fakeqemu.model.qdev.device import DeviceObject, find_device
from fakeqemu.model.qom.throttle_limits import check_limits
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.qom.user_object import UserObject

_SHARED = perms.CONSISTENT_READ | perms.WRITE_UNCHANGED


@dataclass(slots=True)
class RootState:
    """How the next medium is opened."""

    read_only: bool = True
    cache: dict[str, bool] = field(default_factory=dict)
    detect_zeroes: str = "off"


class Backend:
    """One block backend."""

    def __init__(self, backends: Backends, name: str = "") -> None:
        self._backends = backends
        #: empty for one that a device brought along
        self.name = name
        self.root: Edge | None = None
        self.perm, self.shared = 0, perms.ALL
        #: whether these are not in force, since another process has the image
        self.inactive = False
        #: whether it shares all permissions until activation completes
        self.shares_all = False
        self.device: DeviceObject | None = None
        self.kind = BlockDeviceProfile(io_status=False, may_be_empty=True)
        #: whether the device is complete, and takes a -drive with it when it goes
        self.realized = False
        self.tray_open = False
        self.locked = False
        #: last I/O error kept: ok, failed, nospace
        self.io_status = "ok"
        self.root_state = RootState()
        self.writeback = True
        #: limits as block_set_io_throttle gave them; None: none in force
        self.throttle: dict[str, Any] | None = None
        self.throttle_group = ""
        self.histograms: dict[str, Histogram] = {}
        self.traffic = BlockAcctStats()
        self.account_invalid = True
        self.account_failed = True
        #: `-drive` options, for devices that QEMU makes itself
        self.legacy: dict[str, Any] = {}
        #: called when the medium has been taken out
        self.on_removed: list[Callable[[], None]] = []
        #: what is to happen on errors: read, write; enospc, ignore, report or stop
        self.on_error = {"read": "report", "write": "enospc"}

    # -- the medium --------------------------------------------------------------------------

    @property
    def node(self) -> Node | None:
        """The medium."""
        return self.root.node if self.root is not None else None

    @property
    def description(self) -> str:
        """How a permission conflict names it."""
        if self.name:
            return f"block device '{self.name}'"
        return f"block device '{self.qdev}'" if self.qdev else "an unnamed block device"

    @property
    def qdev(self) -> str:
        """The device's id, or its path."""
        if self.device is None:
            return ""
        return self.device.id or self.device.path

    @property
    def removable(self) -> bool:
        """Whether the medium can be changed."""
        return self.device is None or self.kind.removable

    @property
    def has_tray(self) -> bool:
        """Whether the device has a tray."""
        return self.device is not None and self.kind.tray

    def insert(self, node: Node) -> None:
        """Put a medium in. Raises QapiError."""
        graph = self._backends.graph
        self.root = graph.use(self, "root", node, *self._in_force(self.perm, self.shared))

    def remove(self) -> None:
        """Take the medium out, remembering how it was opened."""
        if self.root is None:
            return
        node = self.root.node
        self.root_state = RootState(
            node.read_only,
            {"direct": node.cache_direct, "no-flush": node.cache_no_flush},
            node.detect_zeroes,
        )
        edge, self.root = self.root, None
        self._backends.graph.detach(edge)
        for call in list(self.on_removed):
            call()

    def set_permissions(self, perm: int, shared: int) -> None:
        """What the device wants of the medium. Raises QapiError."""
        if self.root is not None:
            self._backends.graph.set_permissions(self.root, *self._in_force(perm, shared))
        self.perm, self.shared = perm, shared

    def _in_force(self, perm: int, shared: int) -> tuple[int, int]:
        if self.inactive:
            return 0, perms.ALL
        return perm, perms.ALL if self.shares_all else shared

    def inactivate(self) -> None:
        """Another process has the image: want nothing of it."""
        if not self.inactive and self.device is not None:
            self.inactive = True
            self.set_permissions(self.perm, self.shared)

    def activate(self, *, shares_all: bool) -> None:
        """Activate. Raises QapiError if another user holds a conflicting permission.

        `shares_all`: jobs and exports may still write to it until `release_shared_permissions`.
        """
        if not self.inactive:
            return
        self.inactive, self.shares_all = False, shares_all
        try:
            self.set_permissions(self.perm, self.shared)
        except QapiError:
            self.inactive = True
            raise

    def release_shared_permissions(self) -> None:
        """The machine has taken over. Those who write to the image should be gone."""
        if self.shares_all:
            self.shares_all = False
            with suppress(QapiError):
                self.set_permissions(self.perm, self.shared)

    # -- what a guest does to the medium -----------------------------------------------------

    def _medium(self) -> Node:
        if self.root is None:
            raise QapiError("No medium found")
        return self.root.node

    def read(self, offset: int, count: int, *, counted: bool = True) -> bytes:
        """Read from the medium; `counted` in the device's statistics. Raises QapiError."""
        data = base.read(self._medium(), offset, count)
        if counted:
            self.traffic.count("rd", count, self._backends.vm.clock.now())
        return data

    def write(
        self, offset: int, data: bytes, *, counted: bool = True, compress: bool = False
    ) -> None:
        """Write to the medium, as compressed clusters if asked to. Raises QapiError."""
        if compress:
            base.write_compressed(self._medium(), offset, data)
        else:
            base.write(self._medium(), offset, data)
        if counted:
            self.traffic.count("wr", len(data), self._backends.vm.clock.now())

    def zero(self, offset: int, count: int, *, counted: bool = True) -> None:
        """Make a range of the medium read as zeros. Raises QapiError."""
        base.zero(self._medium(), offset, count)
        if counted:
            self.traffic.count("wr", count, self._backends.vm.clock.now())

    def discard(self, offset: int, count: int) -> None:
        """The guest has no use for a range any more. Raises QapiError."""
        base.discard(self._medium(), offset, count)

    def move_tray(self, *, open: bool) -> None:
        """Open or close the tray: DEVICE_TRAY_MOVED."""
        self.tray_open = open
        data: dict[str, Any] = {"device": self.name, "id": self.qdev, "tray-open": open}
        self._backends.vm.events.emit("DEVICE_TRAY_MOVED", data)


class Backends:
    """All backends of one machine."""

    def __init__(self, vm: Machine, graph: Graph) -> None:
        self.vm = vm
        self.graph = graph
        #: oldest first
        self.all: list[Backend] = []
        self.named: dict[str, Backend] = {}
        #: groups of block_set_io_throttle: name -> how many backends are in it, and limits
        self.groups: dict[str, dict[str, Any]] = {}
        vm.objects.users["throttle-group"] = self._in_throttle_group
        vm.objects.completers["throttle-group"] = self._check_group_name
        vm.runstate.listen(self._state_changed)

    def _check_group_name(self, obj: UserObject) -> None:
        if obj.name in self.groups:
            raise QapiError("A group with this name already exists")

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
        at = find_device(self.vm.qom, self.vm.profile.traits, id)
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

    def throttle_groups(self) -> set[str]:
        """Names of all throttle groups: objects, and those that backends made."""
        made = {obj.name for obj in self.vm.objects.of_type("throttle-group")}
        return made | set(self.groups)

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
            known = self.vm.profile.qom_types.get(here)
            here = known.parent if known is not None else None
        return None

    def choose(self, device: DeviceObject, name: str) -> None:
        """A device's property `drive` is set to `name`. Raises QapiError."""
        backend = self.named.get(name)
        if backend is None:
            node = self.graph.find(name)
            assert node is not None
            backend = self.create()
            try:
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
        backend.inactive = self.vm.runstate.check("inmigrate")
        node = backend.node
        if (node is None or not base.inserted(node)) and not kind.may_be_empty:
            raise QapiError("Device needs media, but drive is empty")
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
        guest_io.take_actions(backend, device.values)
        backend.realized = True

    def unrealize(self, device: DeviceObject) -> None:
        """The device goes; so does a backend without a name."""
        backend = self.of_device(device)
        if backend is None:
            return
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
            self.groups.pop(old, None)
        if limits is None:
            return
        backend.throttle_group = group
        self.groups[group] = limits
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


def _named(who: str, *, capital: bool = False) -> str:
    if who:
        return f"{'Device' if capital else 'device'} '{who}'"
    return "Device" if capital else "the device"
