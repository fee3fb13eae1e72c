"""From the arguments of a command to a job: lookups and checks in QEMU's order.

Each function makes its job; whoever called starts it, so that a transaction can wait.

See blockdev.c: qmp_drive_mirror(), do_backup_common() and blockdev_mirror_common().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph import (
    dirty_bitmaps as bitmaps,
    open as opener,
)
from fakeqemu.model.block.graph.filenames import FileArgument
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.open import open_node
from fakeqemu.model.block.jobs.backup import BackupJob
from fakeqemu.model.block.jobs.blockjob import BlockJob, common_options
from fakeqemu.model.block.jobs.mirror import MirrorJob
from fakeqemu.model.block.jobs.txn import Transaction
from fakeqemu.model.block.operations import relinking
from fakeqemu.model.block.operations.create import create_image
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer

Json = dict[str, Any]

_SMALLEST, _LARGEST = 512, 64 << 20


# -- mirror --------------------------------------------------------------------------------------


def blockdev_mirror(block: BlockLayer, arguments: Json) -> BlockJob:
    """blockdev-mirror. Raises QapiError."""
    graph = block.graph
    source = graph.root(arguments["device"])
    target = graph.lookup(arguments["target"], arguments["target"])
    return _mirror(block, source, target, arguments)


def _mirror(
    block: BlockLayer, source: Node, target: Node, arguments: Json, **more: Any
) -> BlockJob:
    granularity = arguments.get("granularity", 0)
    if granularity and not _SMALLEST <= granularity <= _LARGEST:
        raise QapiError(
            texts.parameter_expects("granularity", "a value in range [512B, 64MB]")
        )
    if granularity & granularity - 1 and granularity:
        raise QapiError(texts.parameter_expects("granularity", "a power of 2"))
    source.check_operation("mirror-source")
    target.check_operation("mirror-target")
    sync = arguments["sync"]
    clears = more.pop("clears", sync == "full")
    below = source.backing_chain_next()
    if below is None and sync == "top":
        sync = "full"
    replaces = arguments.get("replaces")
    if replaces is not None:
        _check_replaced(block, source, replaces)
    elif source.skip_implicit() is not source:
        replaces = source.skip_implicit().name
    if sync in ("incremental", "bitmap"):
        raise QapiError(f"Sync mode '{sync}' not supported")
    if arguments.get("buf-size", 0) < 0:
        raise QapiError("Invalid parameter 'buf-size'")
    return MirrorJob(
        block,
        arguments.get("job-id"),
        source,
        target,
        sync=sync,
        base_node=below if sync == "top" else None,
        granularity=granularity or None,
        buf_size=arguments.get("buf-size", 0),
        speed=arguments.get("speed", 0),
        replaces=replaces,
        filter_name=arguments.get("filter-node-name"),
        copy_mode=arguments.get("copy-mode", "background"),
        target_is_zero=arguments.get("target-is-zero", False),
        clears=clears,
        **more,
        **common_options(arguments),
    )


def _check_replaced(block: BlockLayer, source: Node, name: str) -> None:
    replaced = block.graph.named(name)
    replaced.check_operation("replace")
    if not source.driver.can_replace(source, replaced):
        raise QapiError(
            f"Cannot replace '{name}' by a node mirrored from '{source.name}', because it"
            " cannot be guaranteed that doing so would not lead to an abrupt change of visible"
            " data"
        )
    if base.length(source) != base.length(replaced):
        raise QapiError("cannot replace image with a mirror image of different size")


def drive_mirror(block: BlockLayer, arguments: Json) -> BlockJob:
    """drive-mirror: the target is made first. Raises QapiError."""
    graph = block.graph
    source = graph.root(arguments["device"])
    source.check_operation("mirror-source")
    existing = arguments.get("mode", "absolute-paths") == "existing"
    format = arguments.get("format") or (None if existing else source.driver.name)
    backing = source.skip_filters().cow
    sync = arguments["sync"]
    if backing is None and sync == "top":
        sync = "full"
    if sync == "none":
        backing = source
    if arguments.get("replaces") is not None and arguments.get("node-name") is None:
        raise QapiError("a node-name must be provided when replacing a named node of the graph")
    if not existing:
        assert format is not None
        plain = sync == "full" or backing is None
        create_image(
            block, arguments["target"], format, base.length(source),
            None if plain or backing is None else backing.skip_implicit(),
        )  # fmt: skip
    target = _open_target(
        block, arguments["target"], format, source, arguments.get("node-name")
    )
    with graph.referenced(target):
        more = {**arguments, "sync": sync}
        zeroed = not existing and all(
            node.driver.name in ("file", "qcow2", "raw") for node in target.subtree()
        )
        return _mirror(
            block, source, target, {**more, "target-is-zero": zeroed},
            backing_mode="open" if existing else "source",
            clears=arguments["sync"] == "full",
        )  # fmt: skip


def _open_target(
    block: BlockLayer,
    filename: str,
    format: str | None,
    source: Node,
    name: str | None = None,
    **more: Any,
) -> Node:
    options: Json = {"filename": FileArgument(filename)}
    if format is not None:
        options["driver"] = format
    options = opener.as_format(options)
    if name is not None:
        options["node-name"] = name
    options |= {"read-only": False, **more}
    options["cache"] = {"direct": source.cache_direct, "no-flush": source.cache_no_flush}
    if format == "qcow2" or format is None:
        options["backing"] = None
    return open_node(block.graph, options)


# -- backup --------------------------------------------------------------------------------------


def blockdev_backup(
    block: BlockLayer, arguments: Json, transaction: Transaction | None = None
) -> BlockJob:
    """blockdev-backup. Raises QapiError."""
    graph = block.graph
    source = graph.lookup(arguments["device"], arguments["device"])
    target = graph.lookup(arguments["target"], arguments["target"])
    return _backup(block, source, target, arguments, transaction)


def _backup(
    block: BlockLayer, source: Node, target: Node, arguments: Json, transaction: Transaction | None
) -> BlockJob:
    sync, name = arguments["sync"], arguments.get("bitmap")
    mode = arguments.get("bitmap-mode")
    if sync in ("bitmap", "incremental") and name is None:
        raise QapiError(f"must provide a valid bitmap name for '{sync}' sync mode")
    if sync == "incremental":
        if mode not in (None, "on-success"):
            raise QapiError(
                "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'"
            )
        sync, mode = "bitmap", "on-success"
    bitmap = None
    if name is not None:
        bitmap = bitmaps.find_on(source, name)
        if bitmap is None:
            raise QapiError(f"Bitmap '{name}' could not be found")
        if mode is None:
            raise QapiError("Bitmap sync mode must be given when providing a bitmap")
        bitmap.check(ro=False)
        if sync == "none":
            raise QapiError(f"sync mode '{sync}' does not produce meaningful bitmap outputs")
        if mode == "never" and sync != "bitmap":
            raise QapiError(
                f"Bitmap sync mode '{mode}' has no meaningful effect when combined with"
                f" sync mode '{sync}'"
            )
    elif mode is not None:
        raise QapiError("Cannot specify bitmap sync mode without a bitmap")
    if arguments.get("compress") and target.driver.name != "qcow2":
        raise QapiError(
            f"Compression is not supported for this drive {target.device_name}"
        )
    perf = arguments.get("x-perf", {})
    return BackupJob(
        block,
        arguments.get("job-id"),
        source,
        target,
        sync=sync,
        bitmap=bitmap,
        bitmap_mode=mode or "on-success",
        speed=arguments.get("speed", 0),
        compress=arguments.get("compress", False),
        discard_source=arguments.get("discard-source", False),
        filter_name=arguments.get("filter-node-name"),
        max_workers=perf.get("max-workers", 64),
        max_chunk=perf.get("max-chunk", 0),
        smallest=perf.get("min-cluster-size", 0),
        transaction=transaction,
        **common_options(arguments),
    )


def drive_backup(
    block: BlockLayer, arguments: Json, transaction: Transaction | None = None
) -> BlockJob:
    """drive-backup: the target is made first. Raises QapiError."""
    graph = block.graph
    source = graph.lookup(arguments["device"], arguments["device"])
    existing = arguments.get("mode", "absolute-paths") == "existing"
    format = arguments.get("format") or (None if existing else source.driver.name)
    source.check_operation("backup-source")
    sync = arguments["sync"]
    below: Node | None = None
    if sync == "top":
        below = source.skip_filters().cow
        if below is None:
            sync = "full"
    if sync == "none":
        below = source
    if not existing:
        assert format is not None
        create_image(
            block, arguments["target"], format, base.length(source),
            below.skip_implicit() if below is not None else None,
        )  # fmt: skip
    zeros = {"discard": "unmap", "detect-zeroes": "unmap"}
    target = _open_target(block, arguments["target"], format, source, **zeros)
    with graph.referenced(target):
        if below is not None and target.driver.supports_backing:
            relinking.set_backing(graph, target, below)
        return _backup(block, source, target, {**arguments, "sync": sync}, transaction)
