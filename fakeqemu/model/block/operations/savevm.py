"""Snapshots of the whole machine: savevm, loadvm, delvm and the jobs of the same kind.

The machine's state goes into one image beside the disks' states (see `vmstate`).

See migration/savevm.c: save_snapshot(), load_snapshot() and delete_snapshot(); block/snapshot.c:
bdrv_all_can_snapshot().
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.qcow2 import snapshots as qcow2snapshots
from fakeqemu.model.block.backends.backend import Backend
from fakeqemu.model.block.drivers.qcow2.driver import Qcow2Driver
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.jobs.job import Job, Work
from fakeqemu.model.block.operations import snapshots, vmstate as machine_state
from fakeqemu.model.block.operations.snapshots import keeper
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer
    from fakeqemu.model.machine import Machine

#: what is said where no disk can take a snapshot
NOWHERE = "no block device can store vmstate for snapshot"
_SECOND = 10**9


def devices(block: BlockLayer, names: list[str] | None) -> list[Node]:
    """The nodes a snapshot is about: those named, or all that are written. Raises QapiError."""
    graph = block.graph
    if names is not None:
        if not names:
            raise QapiError("At least one device is required for snapshot")
        found = []
        for name in names:
            node = graph.find(name)
            if node is None:
                raise QapiError(f"No block device node '{name}'")
            found.append(node)
        return found
    return [node for node in block.roots() if _included(node)]


def _included(node: Node) -> bool:
    used = any(isinstance(edge.parent, Backend) for edge in node.parents)
    return not node.read_only and (used or not node.parents)


def _check(nodes: list[Node]) -> None:
    for node in nodes:
        if not node.read_only and keeper(node) is None:
            raise QapiError(
                f"Device '{node.device_or_name}' is writable but does not support snapshots"
            )


def _state_node(nodes: list[Node], name: str | None) -> Node:
    """Where the machine's state goes. Raises QapiError."""
    if name is None:
        found = next((node for node in nodes if keeper(node) is not None), None)
        if found is None:
            raise QapiError(NOWHERE)
        return found
    named = next((node for node in nodes if node.name == name), None)
    if named is None:
        raise QapiError(f"vmstate block device '{name}' does not exist")
    if keeper(named) is None:
        raise QapiError(f"vmstate block device '{name}' does not support snapshots")
    return named


def _everywhere(nodes: list[Node], tag: str) -> bool:
    drivers = [driver for node in nodes if (driver := keeper(node)) is not None]
    return all(snapshots.find(d, None, tag) is not None for d in drivers)


def _somewhere(nodes: list[Node], tag: str) -> bool:
    drivers = [driver for node in nodes if (driver := keeper(node)) is not None]
    return any(snapshots.find(d, None, tag) is not None for d in drivers)


def save(
    vm: Machine,
    tag: str | None,
    *,
    overwrite: bool,
    vmstate: str | None = None,
    names: list[str] | None = None,
) -> None:
    """Keep disks and machine as they are. Raises QapiError."""
    block = vm.block
    nodes = devices(block, names)
    _check(nodes)
    if tag is not None:
        if overwrite:
            delete(block, tag, names)
        elif _somewhere(nodes, tag):
            raise QapiError(f"Snapshot '{tag}' already exists in one or more devices")
    where = _state_node(nodes, vmstate)
    if tag is None:
        now = datetime.fromtimestamp(vm.clock.realtime() / _SECOND)
        tag = now.strftime("vm-%Y%m%d%H%M%S")
    was_running = vm.runstate.running
    vm.lifecycle.vm_stop("save-vm")
    try:
        data = machine_state.encode(vm, running=was_running, clock=block.guest_clock)
        for node in nodes:
            driver = keeper(node)
            if driver is None:
                continue
            mine = node is where
            if mine:
                _write_state(driver, data)
            snapshots.create_internal(block, driver, tag, len(data) if mine else 0)
            if mine:
                _forget_state(driver, len(data))
        if vm.migration.object is not None:
            vm.migration.object.save_to_image()
    finally:
        if was_running:
            vm.lifecycle.vm_start()


def _state_offset(driver: Qcow2Driver) -> int:
    unit = driver.image.cluster * driver.image.l2_entries
    return -(-driver.image.header.size // unit) * unit


def _write_state(driver: Qcow2Driver, data: bytes) -> None:
    offset = _state_offset(driver)
    size = driver.image.header.size
    driver.image.header.size = offset + len(data)
    try:
        driver.image.write(offset, data, lambda _at, count: bytes(count))
    finally:
        driver.image.header.size = size


def _read_state(driver: Qcow2Driver, length: int) -> bytes:
    offset = _state_offset(driver)
    size = driver.image.header.size
    driver.image.header.size = offset + length
    try:
        return driver.image.read(offset, length, lambda _at, count: bytes(count))
    finally:
        driver.image.header.size = size


def _forget_state(driver: Qcow2Driver, length: int) -> None:
    offset = _state_offset(driver)
    cluster = driver.image.cluster
    driver.image.discard(offset, offset + -(-length // cluster) * cluster)


def load(
    vm: Machine, tag: str, *, vmstate: str | None = None, names: list[str] | None = None
) -> None:
    """Make disks and machine what they were. Raises QapiError."""
    block = vm.block
    nodes = devices(block, names)
    _check(nodes)
    if not _everywhere(nodes, tag):
        raise QapiError(f"Snapshot '{tag}' does not exist in one or more devices")
    where = _state_node(nodes, vmstate)
    driver = keeper(where)
    assert driver is not None
    found = snapshots.find(driver, None, tag)
    assert found is not None
    if not found.vm_state_size:
        raise QapiError("This is a disk-only snapshot. Revert to it offline using qemu-img")
    for node in nodes:
        each = keeper(node)
        if each is None:
            continue
        if node.bitmaps:
            raise QapiError(
                f"Could not load snapshot '{tag}' on '{node.device_or_name}':"
                " Device has active dirty bitmaps"
            )
        kept = snapshots.find(each, None, tag)
        assert kept is not None
        qcow2snapshots.apply(each.image, kept)
    block.guest_clock = found.vm_clock
    machine_state.restore(vm, _read_state(driver, found.vm_state_size))
    _forget_state(driver, found.vm_state_size)
    vm.journal.note("snapshot", tag, loaded=True)


def load_and_resume(
    vm: Machine, tag: str, *, vmstate: str | None = None, names: list[str] | None = None
) -> None:
    """loadvm: the guest stops, and resumes if it ran and loading succeeded. Raises QapiError."""
    was_running = vm.runstate.running
    vm.lifecycle.vm_stop("restore-vm")
    load(vm, tag, vmstate=vmstate, names=names)
    if was_running:
        vm.lifecycle.vm_start()


def delete(block: BlockLayer, tag: str, names: list[str] | None = None) -> None:
    """Forget a state wherever it is kept. Raises QapiError."""
    nodes = devices(block, names)
    _check(nodes)
    for node in nodes:
        driver = keeper(node)
        found = snapshots.find(driver, None, tag) if driver is not None else None
        if driver is not None and found is not None:
            qcow2snapshots.delete(driver.image, found)


class SnapshotJob(Job):
    """snapshot-save, snapshot-load, snapshot-delete."""

    def __init__(self, vm: Machine, kind: str, arguments: dict[str, Any]) -> None:
        self.type = kind
        self.arguments = arguments
        self._vm = vm
        self._failure: QapiError | None = None
        super().__init__(vm.block.jobs, arguments["job-id"], auto_dismiss=False)

    def begun(self) -> None:
        """Do it in one go, in a bottom half that comes before the command is answered.

        See migration/savevm.c: snapshot_save_job_run().
        """
        self.total = 1
        try:
            self._do()
        except QapiError as error:
            self._failure = error
        self.done = 1

    def work(self) -> Work:
        """End, once the command is answered."""
        yield 0
        if self._failure is not None:
            raise self._failure

    def _do(self) -> None:
        tag, names = self.arguments["tag"], self.arguments["devices"]
        vmstate = self.arguments.get("vmstate")
        if self.type == "snapshot-save":
            save(self._vm, tag, overwrite=False, vmstate=vmstate, names=names)
        elif self.type == "snapshot-load":
            load_and_resume(self._vm, tag, vmstate=vmstate, names=names)
        else:
            delete(self._vm.block, tag, names)


