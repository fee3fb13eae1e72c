"""transaction: several actions that all happen, or none of them.

See blockdev.c: qmp_transaction().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.qcow2 import snapshots as qcow2snapshots
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps
from fakeqemu.model.block.jobs.blockjob import BlockJob
from fakeqemu.model.block.jobs.txn import Transaction
from fakeqemu.model.block.operations import blockdev as starting, snapshots
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TransactionAction:
    """One action that is prepared: what makes it last, and what takes it back."""

    commit: Callable[[], None] = lambda: None
    abort: Callable[[], None] = lambda: None
    #: after all have committed
    clean: Callable[[], None] = lambda: None
    #: after all is said and done, the last one first
    finish: Callable[[], None] = lambda: None


Prepare = Callable[["BlockLayer", Json, Transaction | None], TransactionAction]


def run(block: BlockLayer, actions: list[Json], completion_mode: str = "individual") -> None:
    """All actions or none. Raises QapiError."""
    grouped: Transaction | None = None
    if completion_mode != "individual":
        for action in actions:
            if action["type"] not in ("blockdev-backup", "drive-backup"):
                raise QapiError(
                    f"Action '{action['type']}' does not support"
                    f" {block.process.profile.traits.transaction_property}"
                    f" completion-mode = {completion_mode}"
                )
        grouped = Transaction()
    block.jobs.drain()
    done: list[TransactionAction] = []
    try:
        for action in actions:
            done.append(prepare(block, action["type"], action.get("data", {}), grouped))
    except BaseException:
        for step in reversed(done):
            step.abort()
        raise
    if block.process.profile.traits.transaction_commits_backwards:
        done.reverse()
    for step in done:
        step.commit()
    for step in done:
        step.clean()
    for step in reversed(done):
        step.finish()


def prepare(
    block: BlockLayer, type: str, data: Json, grouped: Transaction | None
) -> TransactionAction:
    """Do one action so far that it can be taken back. Raises QapiError."""
    if type not in _ACTIONS:
        raise NotModelledError(f"transaction {type}")
    return _ACTIONS[type](block, data, grouped)


def _abort(_block: BlockLayer, _data: Json, _grouped: Transaction | None) -> TransactionAction:
    raise QapiError("Transaction aborted using Abort action")


def _snapshot(block: BlockLayer, data: Json, _grouped: Transaction | None) -> TransactionAction:
    taken = snapshots.blockdev_snapshot(block, data)
    return TransactionAction(taken.commit, taken.abort)


def _snapshot_sync(
    block: BlockLayer, data: Json, _grouped: Transaction | None
) -> TransactionAction:
    taken = snapshots.blockdev_snapshot_sync(block, data)
    return TransactionAction(taken.commit, taken.abort)


def _internal(block: BlockLayer, data: Json, _grouped: Transaction | None) -> TransactionAction:
    driver, new = snapshots.snapshot_internal(block, data)
    return TransactionAction(abort=lambda: qcow2snapshots.delete(driver.image, new))


def _job(make: Callable[..., BlockJob]) -> Prepare:
    def prepare_job(
        block: BlockLayer, data: Json, grouped: Transaction | None
    ) -> TransactionAction:
        job = make(block, data, grouped)
        return TransactionAction(
            lambda: job.start(hold=True), lambda: job.cancel(force=True),
            job.undrain, job.work_at_once,
        )  # fmt: skip

    return prepare_job


def _bitmap_add(block: BlockLayer, data: Json, _grouped: Transaction | None) -> TransactionAction:
    bitmap = bitmaps.add(
        block.graph,
        data["node"],
        data["name"],
        granularity=data.get("granularity"),
        persistent=data.get("persistent", False),
        disabled=data.get("disabled", False),
    )
    return TransactionAction(abort=lambda: bitmaps.remove(bitmap))


def _bitmap_remove(
    block: BlockLayer, data: Json, _grouped: Transaction | None
) -> TransactionAction:
    bitmap = bitmaps.lookup(block.graph, data["node"], data["name"])
    bitmaps.check_removable(bitmap)
    if bitmap.persistent:
        # not put back by an abort, but the bitmap is stored anew when the node is closed
        bitmap.node.driver.remove_bitmap(bitmap.node, data["name"])
    position = bitmap.node.bitmaps.index(bitmap)
    bitmaps.remove(bitmap)
    return TransactionAction(abort=lambda: bitmap.node.bitmaps.insert(position, bitmap))


def _bitmap_clear(block: BlockLayer, data: Json, _grouped: Transaction | None) -> TransactionAction:
    bitmap = bitmaps.lookup(block.graph, data["node"], data["name"])
    bitmap.check()
    before = bitmap.clear()
    return TransactionAction(abort=lambda: bitmap.restore(before))


def _bitmap_switch(on: bool) -> Prepare:
    def switch(block: BlockLayer, data: Json, _grouped: Transaction | None) -> TransactionAction:
        bitmap = bitmaps.lookup(block.graph, data["node"], data["name"])
        bitmap.check(ro=False)
        before, bitmap.enabled = bitmap.enabled, on

        def back() -> None:
            bitmap.enabled = before

        return TransactionAction(abort=back)

    return switch


def _bitmap_merge(block: BlockLayer, data: Json, _grouped: Transaction | None) -> TransactionAction:
    target = bitmaps.lookup(block.graph, data["node"], data["target"])
    before = bitmaps.merge(block.graph, target, data["bitmaps"], data["node"])
    return TransactionAction(abort=lambda: target.restore(before))


_ACTIONS: dict[str, Prepare] = {
    "abort": _abort,
    "blockdev-snapshot": _snapshot,
    "blockdev-snapshot-sync": _snapshot_sync,
    "blockdev-snapshot-internal-sync": _internal,
    "blockdev-backup": _job(starting.blockdev_backup),
    "drive-backup": _job(starting.drive_backup),
    "block-dirty-bitmap-add": _bitmap_add,
    "block-dirty-bitmap-remove": _bitmap_remove,
    "block-dirty-bitmap-clear": _bitmap_clear,
    "block-dirty-bitmap-enable": _bitmap_switch(on=True),
    "block-dirty-bitmap-disable": _bitmap_switch(on=False),
    "block-dirty-bitmap-merge": _bitmap_merge,
}
