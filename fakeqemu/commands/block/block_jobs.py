"""Commands that start jobs on nodes, take snapshots and run transactions.

See blockdev.c: qmp_drive_backup(), qmp_drive_mirror(), qmp_block_stream() and qmp_transaction();
block/monitor/bitmap-qmp-cmds.c: qmp_block_dirty_bitmap_add().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakeqemu.commands.registry import actions, command
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps
from fakeqemu.model.block.operations import (
    blockdev as starting,
    commit_stream as chains,
    snapshots,
    transaction,
)
from fakeqemu.model.block.operations.create import Amend, Create
from fakeqemu.model.block.operations.savevm import SnapshotJob
from fakeqemu.model.machine import Machine

Json = dict[str, Any]


@command("blockdev-mirror", raw=True)
def blockdev_mirror(vm: Machine, arguments: Json) -> None:
    """Copy a node to another and follow."""
    starting.blockdev_mirror(vm.block, arguments).start()


@command("blockdev-backup", raw=True)
def blockdev_backup(vm: Machine, arguments: Json) -> None:
    """Copy a node's state of now."""
    vm.block.jobs.drain()
    starting.blockdev_backup(vm.block, arguments).start()


@command("drive-backup", raw=True)
def drive_backup(vm: Machine, arguments: Json) -> None:
    """The same into a file."""
    vm.block.jobs.drain()
    starting.drive_backup(vm.block, arguments).start()


@command("x-blockdev-amend")
def x_blockdev_amend(
    vm: Machine, job_id: str, node_name: str, options: Json, force: bool = False  # noqa: ARG001
) -> None:
    """Change an image's format options."""
    Amend(vm.block, job_id, vm.block.graph.lookup(None, node_name), options).start()


@command("blockdev-snapshot", raw=True)
def blockdev_snapshot(vm: Machine, arguments: Json) -> None:
    """Put a node on top of another."""
    vm.block.jobs.drain()
    snapshots.blockdev_snapshot(vm.block, arguments).commit()


@command("blockdev-snapshot-sync", raw=True)
def blockdev_snapshot_sync(vm: Machine, arguments: Json) -> None:
    """Put a new image file on top of a node."""
    vm.block.jobs.drain()
    snapshots.blockdev_snapshot_sync(vm.block, arguments).commit()


@command("blockdev-snapshot-internal-sync", raw=True)
def blockdev_snapshot_internal_sync(vm: Machine, arguments: Json) -> None:
    """Keep the state of now inside the image."""
    vm.block.jobs.drain()
    snapshots.snapshot_internal(vm.block, arguments)


@command("blockdev-snapshot-delete-internal-sync", raw=True)
def blockdev_snapshot_delete_internal_sync(vm: Machine, arguments: Json) -> Json:
    """Forget such a state: SnapshotInfo."""
    return snapshots.delete_internal(vm.block, arguments)


@command("transaction")
def run_transaction(vm: Machine, actions: list[Json], properties: Json | None = None) -> None:
    """Several actions, or none of them."""
    mode = (properties or {}).get("completion-mode", "individual")
    transaction.run(vm.block, actions, mode)


# -- dirty bitmaps -------------------------------------------------------------------------------


@command("x-debug-block-dirty-bitmap-sha256")
def x_debug_block_dirty_bitmap_sha256(vm: Machine, node: str, name: str) -> Json:
    """BlockDirtyBitmapSha256 of the bits as QEMU keeps them."""
    return {"sha256": bitmaps.lookup(vm.block.graph, node, name).sha256()}


def _bitmap_action(name: str) -> Callable[[Machine, Json], None]:
    """A command that is a transaction of the one action of its name."""

    def act(vm: Machine, arguments: Json) -> None:
        transaction.prepare(vm.block, name, arguments, None).commit()

    return act


actions(
    {
        name: _bitmap_action(name)
        for name in (
            "block-dirty-bitmap-add",
            "block-dirty-bitmap-remove",
            "block-dirty-bitmap-clear",
            "block-dirty-bitmap-enable",
            "block-dirty-bitmap-disable",
            "block-dirty-bitmap-merge",
        )
    },
    raw=True,
)


# -- snapshots of the machine --------------------------------------------------------------------


def _snapshot_job(name: str) -> None:
    @command(name, raw=True)
    def start(vm: Machine, arguments: Json) -> None:
        SnapshotJob(vm, name, arguments).start()


for _name in ("snapshot-save", "snapshot-load", "snapshot-delete"):
    _snapshot_job(_name)

actions({"blockdev-create": lambda vm, job_id, options: Create(vm.block, job_id, options).start()})

actions(
    {
        "drive-mirror": lambda vm, arguments: starting.drive_mirror(vm.block, arguments).start(),
        "block-commit": lambda vm, arguments: chains.block_commit(vm.block, arguments).start(),
        "block-stream": lambda vm, arguments: chains.block_stream(vm.block, arguments).start(),
    },
    raw=True,
)
