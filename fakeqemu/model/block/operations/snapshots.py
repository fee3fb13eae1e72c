"""Snapshots: external ones by putting an overlay on top, internal ones inside an image.

See blockdev.c: external_snapshot_action(), internal_snapshot_action() and
qmp_blockdev_snapshot_delete_internal_sync(); block/snapshot.c: bdrv_snapshot_create().
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.qcow2 import snapshots as qcow2snapshots
from fakeqemu.formats.qcow2.tables import QCowSnapshot
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import inserted
from fakeqemu.model.block.drivers.qcow2.driver import Qcow2Driver
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.filenames import FileArgument
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.open import open_node
from fakeqemu.model.block.operations import reopen
from fakeqemu.model.block.operations.create import create_image
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer

Json = dict[str, Any]
_SECOND = 10**9
_ULONG_MAX = (1 << 64) - 1


class External:
    """One external snapshot, taken by `commit` or undone by `abort`."""

    def __init__(self, block: BlockLayer, old: Node) -> None:
        self.block = block
        self.old = old
        self.new: Node | None = None
        block.jobs.drain({id(node) for node in old.chain()})
        if not inserted(old):
            raise QapiError(f"Device '{old.device_or_name}' has no medium")
        old.check_operation("external-snapshot")
        if not old.read_only:
            try:
                base.flush(old)
            except BlockIoError:
                raise QapiError("An IO error has occurred") from None

    def put_on_top(self, new: Node) -> None:
        """Make `new` the overlay. Raises QapiError."""
        graph = self.block.graph
        with graph.referenced(new):
            if new.perm & perms.CONSISTENT_READ:
                raise QapiError("The overlay is already in use")
            if new.driver.is_filter:
                raise QapiError("Filters cannot be used as overlays")
            if new.cow is not None:
                raise QapiError("The overlay already has a backing image")
            if not new.driver.supports_backing:
                raise QapiError("The overlay does not support backing images")
            inactive = new.inactive
            new.inactive = inactive or self.old.inactive
            try:
                graph.append(new, self.old, "backing", frozenset({perms.COW}))
            except QapiError:
                new.inactive = inactive
                raise
            self.new = new
            new.refs += 1

    def commit(self) -> None:
        """The old image is read-only from now on."""
        assert self.new is not None
        self.new.refs -= 1
        if not self.old.copy_on_read:
            # QEMU does not look at the error: see blockdev.c: external_snapshot_commit()
            with suppress(QapiError):
                reopen.set_read_only(self.block.graph, self.old, read_only=True)
        self.block.graph.collect()

    def abort(self) -> None:
        """Take the overlay away again."""
        new, self.new = self.new, None
        if new is None:
            return
        graph = self.block.graph
        with graph.referenced(self.old):
            graph.redirect(list(new.parents), self.old)
            edge = new.children["backing"]
            edge.node.unblock(edge)
            graph.detach(edge)
            new.refs -= 1
        graph.collect()


def blockdev_snapshot(block: BlockLayer, arguments: Json) -> External:
    """blockdev-snapshot. Raises QapiError."""
    taken = External(block, block.graph.lookup(arguments["node"], arguments["node"]))
    overlay = arguments["overlay"]
    taken.put_on_top(block.graph.lookup(overlay, overlay))
    return taken


def blockdev_snapshot_sync(block: BlockLayer, arguments: Json) -> External:
    """blockdev-snapshot-sync: with a new overlay file. Raises QapiError."""
    graph = block.graph
    old = graph.lookup(arguments.get("device"), arguments.get("node-name"))
    taken = External(block, old)
    format = arguments.get("format", "qcow2")
    name = arguments.get("snapshot-node-name")
    if arguments.get("node-name") is not None and name is None:
        raise QapiError("New overlay node-name missing")
    if name is not None and (name in graph.nodes or name in block.backends.named):
        raise QapiError("New overlay node-name already in use")
    file = arguments["snapshot-file"]
    if arguments.get("mode", "absolute-paths") != "existing":
        create_image(block, file, format, base.length(old), old)
    elif format not in block.process.profile.schema.enum_values("BlockdevDriver"):
        raise QapiError(f"Unknown driver '{format}'")
    options: Json = {
        "driver": format,
        "file": {"filename": FileArgument(file)},
        "read-only": old.read_only,
        "cache": {"direct": old.cache_direct, "no-flush": old.cache_no_flush},
        "backing": None,
    }
    if name is not None:
        options["node-name"] = name
    taken.put_on_top(open_node(graph, options))
    return taken


# -- internal ------------------------------------------------------------------------------------


def find(driver: Qcow2Driver, id: str | None, name: str | None) -> QCowSnapshot | None:
    """A snapshot by id and name, whichever are given."""
    for each in driver.snapshots:
        if id in (None, each.id) and name in (None, each.name):
            return each
    return None


def keeper(node: Node, *, writes: bool = True) -> Qcow2Driver | None:
    """What takes the snapshots of a node: its own driver, or that of its one child with data.

    None where nothing can; `writes`: nor in an image that cannot be written. See block/snapshot.c:
    bdrv_can_snapshot() and bdrv_snapshot_fallback_child().
    """
    here: Node | None = node
    while here is not None and not (writes and (here.read_only or here.inactive)):
        if isinstance(here.driver, Qcow2Driver):
            return here.driver
        below = here.primary
        kept = {perms.DATA, perms.METADATA, perms.FILTERED}
        alone = all(e.node is below for e in here.children.values() if e.role & kept)
        here = below if alone else None
    return None


def _with_snapshots(node: Node, device: str) -> Qcow2Driver:
    if node.read_only:
        raise QapiError(f"Device '{device}' is read only")
    found = keeper(node)
    if found is None:
        raise QapiError(
            f"Block format '{node.driver.name}' used by device '{device}'"
            " does not support internal snapshots"
        )
    return found


def _number(id: str) -> int:
    """What C's strtoul() makes of an id; images of others may have any text there."""
    digits = re.match(r"[ \t\n\v\f\r]*\+?(\d*)", id, re.ASCII)
    text = digits[1].lstrip("0") if digits is not None else ""
    return _ULONG_MAX if len(text) > 20 else min(int(text or "0"), _ULONG_MAX)


def create_internal(
    block: BlockLayer, driver: Qcow2Driver, name: str, vm_state_size: int = 0
) -> QCowSnapshot:
    """Take an internal snapshot with the next free id."""
    numbers = [_number(each.id) for each in driver.snapshots]
    now = block.process.clock.realtime()
    new = QCowSnapshot(
        str(max(numbers, default=0) + 1 & _ULONG_MAX),
        name,
        now // _SECOND,
        now % _SECOND // 1000 * 1000,
        block.guest_clock,
        vm_state_size,
    )
    qcow2snapshots.take(driver.image, new)
    return new


def snapshot_internal(block: BlockLayer, arguments: Json) -> tuple[Qcow2Driver, QCowSnapshot]:
    """blockdev-snapshot-internal-sync. Raises QapiError."""
    device, name = arguments["device"], arguments["name"]
    node = block.graph.root(device)
    block.jobs.drain({id(each) for each in node.chain()})
    node.check_operation("internal-snapshot")
    driver = _with_snapshots(node, device)
    if not name:
        raise QapiError("Name is empty")
    if find(driver, None, name) is not None:
        raise QapiError(f"Snapshot with name '{name}' already exists on device '{device}'")
    try:
        new = create_internal(block, driver, name)
        base.flush(node)  # see block/qcow2-snapshot.c: qcow2_write_snapshots()
    except BlockIoError as error:
        start = f"Failed to create snapshot '{name}' on device '{device}': "
        raise error.prefixed(start) from None
    return driver, new


def delete_internal(block: BlockLayer, arguments: Json) -> Json:
    """blockdev-snapshot-delete-internal-sync: SnapshotInfo. Raises QapiError."""
    device, id, name = arguments["device"], arguments.get("id"), arguments.get("name")
    node = block.graph.root(device)
    if id is None and name is None:
        raise QapiError("Name or id must be provided")
    node.check_operation("internal-snapshot-delete")
    driver = keeper(node, writes=False)
    found = find(driver, id, name) if driver is not None else None
    if driver is None or found is None:
        raise QapiError(
            f"Snapshot with id '{id if id is not None else 'null'}' and name"
            f" '{name if name is not None else 'null'}' does not exist on device '{device}'"
        )
    qcow2snapshots.delete(driver.image, found)
    return found.info()
