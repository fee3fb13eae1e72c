"""The block layer of one machine: owner of graph, backends, jobs and exports.

See block/block-backend.c: monitor_remove_blk(); block.c: bdrv_close_all(), bdrv_inactivate_all()
and bdrv_activate_all().
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.model.block.backends.backend import Backend
from fakeqemu.model.block.backends.backends import Backends
from fakeqemu.model.block.backends.guest_io import GuestIo, io_status_enabled
from fakeqemu.model.block.drivers.driver import Driver
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.graph import Graph
from fakeqemu.model.block.graph.node import Edge, Node
from fakeqemu.model.block.graph.open import open_node
from fakeqemu.model.block.graph.permission_update import Update, cumulative
from fakeqemu.model.block.jobs.manager import Jobs
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.exports import Exports
    from fakeqemu.model.block.backends.legacy_drive import Drives
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.fds.fdset import Fdsets
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.user_creatable import Objects
    from fakeqemu.model.runstate import RunState
    from fakeqemu.model.yank import Yank

class BlockLayer:
    """Everything of the block layer."""

    def __init__(
        self,
        process: Process,
        runstate: RunState,
        lifecycle: Lifecycle,
        state: MachineState,
        *,
        objects: Objects,
        fdsets: Fdsets,
        yank: Yank,
    ) -> None:
        self.process = process
        self.objects = objects
        self._runstate = runstate
        self._state = state
        named: dict[str, Backend] = {}
        self.graph = Graph(process, runstate, named, objects=objects, fdsets=fdsets, yank=yank)
        self.backends = Backends(process, runstate, state.qom, self.graph, named)
        self.jobs = Jobs(process, self.graph.collect)
        self._exports: Exports | None = None
        self._drives: Drives | None = None
        #: the guest's clock when it last started or stopped, and the machine's then
        self._guest_clock = (0, process.clock.now())
        self._guest_runs = runstate.running
        lifecycle.on_state_change.append(self._guest_changed)
        self.graph.under_qtest = self._under_qtest
        self.graph.on_closing.append(self._flush)  # see block.c: bdrv_close()
        lifecycle.on_stopped.append(self._quiesce_all)
        lifecycle.before_cont.append(self.activate)
        lifecycle.on_cont.append(self._forget_errors)
        event = process.profile.schema.events["BLOCK_IO_ERROR"]
        #: what the guest asks of its disks
        self.guest_io = GuestIo(
            process.events, runstate, lifecycle, {m.name for m in event.arg_type.members},
            process.call_later, process.clock.now, process.host.warn,
        )  # fmt: skip
        process.on_exit.append(lambda _code: self.close())

    @property
    def exports(self) -> Exports:
        """NBD server and block exports."""
        if self._exports is None:
            from fakeqemu.model.block.backends.exports import Exports

            self._exports = Exports(self)
        return self._exports

    @property
    def guest_clock(self) -> int:
        """Nanoseconds that the guest has run."""
        guest, since = self._guest_clock
        goes = self._guest_runs and not self._under_qtest()
        return guest + (self.process.clock.now() - since if goes else 0)

    @guest_clock.setter
    def guest_clock(self, value: int) -> None:
        self._guest_clock = (value, self.process.clock.now())

    def _under_qtest(self) -> bool:
        """Whether a test program moves the guest's clock."""
        return self._state.accelerator == "qtest"

    def _guest_changed(self, running: bool, _state: str) -> None:
        self.guest_clock = self.guest_clock
        self._guest_runs = running

    def _quiesce_all(self) -> None:
        """Jobs stand still for a moment, images are flushed: system/cpus.c: do_vm_stop()."""
        self.jobs.drain()
        for node in self._tops():
            self._flush(node)

    @staticmethod
    def _flush(node: Node) -> None:
        """Flush, ignoring errors."""
        from fakeqemu.model.block.drivers import base

        with suppress(extents.BlockIoError):
            base.flush(node)

    def _forget_errors(self) -> None:
        """See monitor/qmp-cmds.c: qmp_cont(): only backends with a name, and all block jobs."""
        for backend in self.backends.named.values():
            if io_status_enabled(backend):
                backend.io_status = "ok"
        for job in self.jobs.all:
            job.io_status = "ok"

    @property
    def drives(self) -> Drives:
        """What -drive made, and where."""
        if self._drives is None:
            from fakeqemu.model.block.backends.legacy_drive import Drives

            self._drives = Drives(self, self._state.type)
        return self._drives

    # -- nodes -----------------------------------------------------------------------------------

    def add(self, options: dict[str, Any]) -> Node:
        """blockdev-add, -blockdev. Raises QapiError."""
        if options.get("node-name") is None:
            raise QapiError("'node-name' must be specified for the root node")
        node = open_node(self.graph, options)
        node.monitor_owned = True
        return node

    def delete(self, name: str) -> None:
        """blockdev-del. Raises QapiError."""
        node = self.graph.named(name)
        if any(isinstance(edge.parent, Backend) for edge in node.parents):
            raise QapiError(f"Node {name} is in use")
        node.check_operation("drive-del")
        if not node.monitor_owned:
            raise QapiError(f"Node {name} is not owned by the monitor")
        if node.parents or node.refs:
            raise QapiError(f"Block device {node.device_or_name} is in use")
        node.monitor_owned = False
        self.graph.collect()

    # -- filters of jobs -------------------------------------------------------------------------

    def make_filter(self, driver: Driver, over: Node, name: str | None) -> Node:
        """A filter node for `over`, not linked yet. Raises QapiError."""
        node = Node(driver, {})
        node.implicit = name is None
        node.opened = True
        node.read_only = over.read_only
        node.cache_direct, node.cache_no_flush = over.cache_direct, over.cache_no_flush
        if not self.process.profile.traits.inactive_children_checked:
            node.inactive = over.inactive
        self.graph.enter(node, name)
        if driver.is_opened:
            self._check_opens(node, over)
        return node

    def _check_opens(self, node: Node, over: Node) -> None:
        """Whether a filter that is opened like any node can be. Raises QapiError."""
        try:
            self.graph.check_active(Edge(node, "file", over, role=node.driver.role))
        except QapiError as error:
            self.graph.collect()
            raise error.prefixed("Could not create node: ") from None

    def insert_filter(
        self, driver: Driver, over: Node, name: str | None, *, child: str = "backing"
    ) -> Node:
        """Put a filter on top of `over`. Raises QapiError."""
        node = self.make_filter(driver, over, name)
        role = frozenset({perms.FILTERED, perms.PRIMARY})
        with self.graph.referenced(node, over):
            self.graph.append(node, over, child, role)
            if not node.parents:
                node.refs += 1
        return node

    def remove_filter(self, node: Node, *, child: str = "backing") -> None:
        """Let those above a filter have what is below it."""
        if node.name not in self.graph.nodes:
            return
        edge = node.children.get(child) or node.filtered_edge
        if edge is not None:
            below = edge.node
            with self.graph.referenced(below, node):
                self._flush(node)
                self.graph.drop_filter(node, edge)
        node.refs = 0
        self.graph.collect()

    # -- devices ---------------------------------------------------------------------------------

    def choose(self, device: DeviceObject, name: str) -> None:
        """The property `drive` of a device is set. Raises QapiError."""
        self.backends.choose(device, name)

    def realize(self, device: DeviceObject) -> None:
        """A device, or the one inside it, is realized. Raises QapiError."""
        for each in _with_inner(device):
            self.backends.realize(each)

    def unrealize(self, device: DeviceObject) -> None:
        """It goes, or could not be realized."""
        for each in _with_inner(device):
            self._cancel_jobs_of(each)
            self.backends.unrealize(each)

    def _cancel_jobs_of(self, device: DeviceObject) -> None:
        """A -drive goes with its device, and so do jobs on it: blockdev_mark_auto_del()."""
        backend = self.backends.of_device(device)
        if backend is None or not backend.legacy or not backend.kind.cancels_jobs:
            return
        for job in self.jobs.all:
            uses = any(edge.node is backend.node for edge in job.edges)
            if uses and not job.cancelled and not job.finished:
                job.cancel(force=False)

    # -- handing images over to another process --------------------------------------------------

    def activate(self) -> None:
        """The images are ours from now on. Raises QapiError."""
        for node in self._tops():
            self.activate_node(node)

    def activate_node(self, node: Node) -> None:
        """The images under `node` are ours from now on. Raises QapiError."""
        nodes = [each for each in node.subtree() if each.inactive]
        for each in nodes:
            each.inactive = False
        try:
            if nodes:
                Update(self._tops()).run()
        except QapiError:
            for each in nodes:
                each.inactive = True
            Update(self._tops()).run()
            raise
        for each in reversed(nodes):
            each.driver.activated(each)
        shares_all = self._runstate.check("inmigrate")
        below = list(node.subtree())
        for backend in self.backends.all:
            if any(backend.node is each for each in below):
                backend.activate(shares_all=shares_all)

    def inactivate_node(self, node: Node) -> None:
        """The image of `node` belongs to another process from now on. Raises QapiError."""
        if _has_parent(node, active=True):
            raise QapiError("Node has active parent node")
        try:
            self._inactivate(node)
        except QapiError as error:
            raise error.prefixed("Failed to inactivate node: ") from None

    def _inactivate(self, node: Node) -> None:
        """See block.c: bdrv_inactivate_recurse(). Raises QapiError for one that is written to."""
        from fakeqemu.model.block.drivers.qcow2.driver import Qcow2Driver

        if node.inactive or _has_parent(node, active=True):
            return
        if isinstance(node.driver, Qcow2Driver):
            node.driver.store_bitmaps(node)
            self._flush(node)
        for edge in node.parents:
            if isinstance(edge.parent, Backend):
                edge.parent.inactivate()
        if cumulative(node.parents)[0] & (perms.WRITE | perms.WRITE_UNCHANGED):
            raise QapiError(os.strerror(errno.EPERM))
        node.inactive = True
        Update([node]).run()
        for edge in list(node.children.values()):
            self._inactivate(edge.node)

    def resize(self, node: Node, size: int) -> None:
        """Change a node's size. Raises QapiError."""
        from fakeqemu.model.block.drivers import base

        backend = self.backends.create()
        backend.perm, backend.shared = perms.RESIZE, perms.ALL
        try:
            backend.insert(node)
            if node.read_only:
                raise QapiError("Image is read-only")
            base.truncate(node, size)
            for bitmap in node.bitmaps:
                bitmap.resize(base.length(node))
        finally:
            self.backends.drop(backend)

    def inactivate(self) -> None:
        """The images belong to another process from now on. Raises QapiError.

        See block.c: bdrv_inactivate_all() and bdrv_next(): what nobody but a job holds stays.
        """
        for node in self.roots():
            if not _has_parent(node, active=False):
                self._inactivate(node)

    def roots(self) -> list[Node]:
        """What backends have, then what else blockdev-add has made.

        QEMU goes on behind the last backend's node in its list of the latter, or nowhere where that
        is not in it. See block/block-backend.c: bdrv_next().
        """
        roots = dict.fromkeys(each.node for each in self.backends.all if each.node is not None)
        owned = [node for node in self.graph.nodes.values() if node.monitor_owned]
        if roots and self.process.profile.traits.monitor_nodes_behind_last_root:
            last = next(reversed(roots))
            owned = owned[owned.index(last) + 1 :] if last in owned else []
        return [*roots, *(node for node in owned if node not in roots)]

    def _tops(self) -> list[Node]:
        return list(self.graph.nodes.values())

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """The process ends: jobs, exports, images. See system/runstate.c: qemu_cleanup()."""
        self._quiesce_all()
        self.jobs.cancel_all()
        if self._exports is not None:
            self._exports.close()
        for backend in list(self.backends.all):
            self.backends.drop(backend)
        for node in self.graph.nodes.values():
            node.monitor_owned = False
        self.graph.collect()

    def commit_all_of(self, node: Node) -> str:
        """Write what `node` has into the image below it; why not, in the system's words."""
        from fakeqemu.model.block.drivers import base
        from fakeqemu.model.block.drivers.qcow2.driver import Qcow2Driver
        from fakeqemu.model.block.operations import reopen

        top = node.skip_filters()
        below = top.cow
        if below is None:
            return "Operation not supported"
        read_only = below.read_only
        try:
            if read_only:
                reopen.set_read_only(self.graph, below, read_only=False)
        except QapiError:
            return "Permission denied"
        size = base.length(top)
        if size > base.length(below):
            base.truncate(below, size)
        for piece in list(base.status(top, 0, size)):
            if piece.kind == extents.DATA:
                base.write(below, piece.offset, base.read(top, piece.offset, piece.length))
            elif piece.kind == extents.ZERO:
                base.zero(below, piece.offset, piece.length)
        if isinstance(top.driver, Qcow2Driver):
            top.driver.image.discard(0, size)
        if read_only:
            reopen.set_read_only(self.graph, below, read_only=True)
        return ""

    # -- for testers -----------------------------------------------------------------------------

    def write(self, node_name: str, offset: int, data: bytes) -> None:
        """Let the guest write to a node: bitmaps and thresholds see it. Raises QapiError."""
        from fakeqemu.model.block.drivers import base

        node = self.graph.lookup(node_name, node_name)
        base.write(node, offset, data)


def _has_parent(node: Node, *, active: bool) -> bool:
    """Whether another node, or with `active` an active one, has `node` as child."""
    above = (edge.parent for edge in node.parents if isinstance(edge.parent, Node))
    return any(not active or not each.inactive for each in above)


def _with_inner(device: DeviceObject) -> list[DeviceObject]:
    inner = [child for child in device.children.values() if isinstance(child, DeviceObject)]
    return [device, *inner]
