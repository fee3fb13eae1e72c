"""BlockBackends: what is between a device and a node, or a -drive without a device yet.

A backend owns the medium's tray, throttling and counters; its device's profile decides which
permissions it takes on the node. See block/block-backend.c: blk_new() and blk_root_inactivate().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.model.block.backends.acct_stats import BlockAcctStats, Histogram
from fakeqemu.model.block.backends.device_profiles import BlockDeviceProfile
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Edge, Node
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backends import Backends


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
        #: whether these may be given up although what it is for writes
        self.force_allow_inactivate = False
        #: whether it shares all permissions until activation completes
        self.shares_all = False
        self.device: DeviceObject | None = None
        self.kind = BlockDeviceProfile(io_status=False, may_be_empty=True)
        #: whether the device is complete, and takes a -drive with it when it goes
        self.realized = False
        self.tray_open = False
        self.locked = False
        #: whether its user goes where its node goes
        self.follows_iothread = False
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
    def device_name(self) -> str:
        """The name that its node goes by; empty for none."""
        return self.name

    @property
    def keeps_iothread(self) -> bool:
        """A device's, and one without a name, unless its user follows."""
        return not self.follows_iothread and (not self.name or self.device is not None)

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
        """Put a medium in. Raises QapiError.

        A floppy drive takes what it wants anew: hw/block/fdc.c: fd_change_cb().
        """
        if self.device is not None and self.kind.follows_medium:
            writes = 0 if node.read_only else perms.WRITE
            self.perm = self.perm & ~perms.WRITE | writes
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
        """Another process has the image: want nothing of it.

        Raises QapiError where what is neither a device's nor named still writes to it. See
        block/block-backend.c: blk_can_inactivate().
        """
        if self.inactive:
            return
        writes = self.perm & (perms.WRITE | perms.WRITE_UNCHANGED)
        if writes and self.device is None and not (self.name or self.force_allow_inactivate):
            raise QapiError(os.strerror(errno.EPERM))
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
            self.traffic.count("rd", count, self._backends.process.clock.now())
        return data

    def write(
        self,
        offset: int,
        data: bytes,
        *,
        counted: bool = True,
        compress: bool = False,
        fua: bool = False,
    ) -> None:
        """Write to the medium, as compressed clusters if asked to. Raises QapiError.

        `fua`: have it on disk before this is over.
        """
        if compress:
            base.write_compressed(self._medium(), offset, data)
        else:
            base.write(self._medium(), offset, data, fua=fua)
        if counted:
            self.traffic.count("wr", len(data), self._backends.process.clock.now())

    def zero(
        self, offset: int, count: int, *, counted: bool = True, fua: bool = False
    ) -> None:
        """Make a range of the medium read as zeros; `fua` as in `write`. Raises QapiError."""
        base.zero(self._medium(), offset, count, fua=fua)
        if counted:
            self.traffic.count("wr", count, self._backends.process.clock.now())

    def discard(self, offset: int, count: int) -> None:
        """The guest has no use for a range any more. Raises QapiError."""
        base.discard(self._medium(), offset, count)

    def move_tray(self, *, open: bool) -> None:
        """Open or close the tray: DEVICE_TRAY_MOVED."""
        self.tray_open = open
        data: dict[str, Any] = {"device": self.name, "id": self.qdev, "tray-open": open}
        self._backends.process.events.emit("DEVICE_TRAY_MOVED", data)
