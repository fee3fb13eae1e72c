"""From the arguments of a command to a job: lookups and checks in QEMU's order.

Each function makes its job; whoever called starts it, so that a transaction can wait.

See blockdev.c: qmp_drive_mirror(), do_backup_common(), blockdev_mirror_common(), qmp_block_commit()
and qmp_block_stream().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph import (
    dirty_bitmaps as bitmaps,
    open as opener,
    permissions as perms,
)
from fakeqemu.model.block.graph.filenames import filename
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.open import open_node
from fakeqemu.model.block.jobs.backup import BackupJob
from fakeqemu.model.block.jobs.blockjob import BlockJob
from fakeqemu.model.block.jobs.commit import CommitJob
from fakeqemu.model.block.jobs.mirror import ActiveCommitJob, MirrorJob
from fakeqemu.model.block.jobs.stream import StreamJob
from fakeqemu.model.block.jobs.txn import Transaction
from fakeqemu.model.block.operations import backing_chain as chains, relinking, reopen
from fakeqemu.model.block.operations.create import create_image
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer

Json = dict[str, Any]

_SMALLEST, _LARGEST = 512, 64 << 20


def _common(arguments: Json) -> Json:
    return {
        "auto_finalize": arguments.get("auto-finalize", True),
        "auto_dismiss": arguments.get("auto-dismiss", True),
        "on_error": {
            "read": arguments.get("on-source-error", arguments.get("on-error", "report")),
            "write": arguments.get("on-target-error", arguments.get("on-error", "report")),
        },
    }


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
        **_common(arguments),
    )


def _check_replaced(block: BlockLayer, source: Node, name: str) -> None:
    replaced = block.graph.find(name)
    if replaced is None:
        raise QapiError(f"Failed to find node with node-name='{name}'")
    replaced.check_operation("replace")
    if all(node is not replaced for node in _filter_chain(source)):
        raise QapiError(
            f"Cannot replace '{name}' by a node mirrored from '{source.name}', because it"
            " cannot be guaranteed that doing so would not lead to an abrupt change of visible"
            " data"
        )
    if base.length(source) != base.length(replaced):
        raise QapiError("cannot replace image with a mirror image of different size")


def _filter_chain(node: Node) -> list[Node]:
    found = [node]
    while (edge := found[-1].filtered_edge) is not None:
        found.append(edge.node)
    return found


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
    options: Json = {"filename": filename}
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
    _refuse_discard(arguments)
    return _backup(block, source, target, arguments, transaction)


def _refuse_discard(arguments: Json) -> None:
    if arguments.get("discard-source"):
        raise NotModelledError("discard-source")


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
        filter_name=arguments.get("filter-node-name"),
        max_workers=perf.get("max-workers", 64),
        max_chunk=perf.get("max-chunk", 0),
        smallest=perf.get("min-cluster-size", 0),
        transaction=transaction,
        **_common(arguments),
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
    _refuse_discard(arguments)
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


# -- commit and stream ---------------------------------------------------------------------------


def block_commit(block: BlockLayer, arguments: Json) -> BlockJob:
    """block-commit. Raises QapiError."""
    graph, device = block.graph, arguments["device"]
    try:
        active = graph.root(device)
    except QapiError as error:
        if device in graph.nodes or device in block.backends.named:
            raise
        raise DeviceNotFoundError(texts.device_not_found(device)) from error
    active.check_operation("commit-source")
    top = _commit_top(block, active, arguments)
    target = _commit_base(block, top, arguments)
    for node in top.chain():
        node.check_operation("commit-target")
        if node is target:
            break
    if top is target:
        raise QapiError("cannot commit an image into itself")
    more: Json = {
        "speed": arguments.get("speed", 0),
        "filter_name": arguments.get("filter-node-name"),
        **_common(arguments),
    }
    is_active = top.skip_filters() is active.skip_filters()
    if top.perm & perms.WRITE or is_active:
        if arguments.get("backing-file") is not None:
            why = "is the active layer" if is_active else "has a writer on it"
            raise QapiError(f"'backing-file' specified, but 'top' {why}")
        id = arguments.get("job-id")
        return _active_commit(block, active.device_name if id is None else id, top, target, more)
    overlay = chains.overlay_of(active, top)
    if overlay is not None:
        overlay.check_operation("commit-target")
    return CommitJob(
        block, arguments.get("job-id"), active, top, target,
        backing_file=arguments.get("backing-file"), **more,
    )  # fmt: skip


def _active_commit(block: BlockLayer, id: str, top: Node, target: Node, more: Json) -> BlockJob:
    read_only = target.read_only
    if read_only:
        reopen.set_read_only(block.graph, target, read_only=False)
    try:
        job = ActiveCommitJob(
            block, id, top, target, base_node=target, **more
        )
    except QapiError:
        if read_only:
            reopen.set_read_only(block.graph, target, read_only=True)
        raise
    job.target_was_read_only = read_only
    return job


def _commit_top(block: BlockLayer, active: Node, arguments: Json) -> Node:
    name, file = arguments.get("top-node"), arguments.get("top")
    if name is not None and file is not None:
        raise QapiError("'top-node' and 'top' are mutually exclusive")
    if name is not None:
        top = block.graph.lookup(None, name)
        if not chains.contains(active, top):
            raise QapiError(f"'{name}' is not in this backing file chain")
        return top
    if file is None or file == filename(active):
        return active
    found = chains.find_image(block.graph, active, file)
    if found is None:
        raise QapiError(f"Top image file {file} not found")
    return found


def _commit_base(block: BlockLayer, top: Node, arguments: Json) -> Node:
    name, file = arguments.get("base-node"), arguments.get("base")
    if name is not None and file is not None:
        raise QapiError("'base-node' and 'base' are mutually exclusive")
    if name is not None:
        target = block.graph.lookup(None, name)
        if not chains.contains(top, target):
            raise QapiError(f"'{name}' is not in this backing file chain")
        return target
    if file is not None:
        found = chains.find_image(block.graph, top, file)
        if found is None:
            raise QapiError(f"Can't find '{file}' in the backing chain")
        return found
    return _lowest(top)


def _lowest(node: Node) -> Node:
    """The last image of the chain."""
    while (below := node.below) is not None:
        node = below
    return node


def block_stream(block: BlockLayer, arguments: Json) -> BlockJob:
    """block-stream. Raises QapiError."""
    graph = block.graph
    file, name, bottom = (arguments.get(k) for k in ("base", "base-node", "bottom"))
    for first, second in (("base", "base-node"), ("base", "bottom"), ("bottom", "base-node")):
        if arguments.get(first) is not None and arguments.get(second) is not None:
            raise QapiError(f"'{first}' and '{second}' cannot be specified at the same time")
    device = arguments["device"]
    node = graph.lookup(device, device)
    below: Node | None = None
    if file is not None:
        below = chains.find_image(graph, node, file)
        if below is None:
            raise QapiError(f"Can't find '{file}' in the backing chain")
    if name is not None:
        below = graph.lookup(None, name)
        if below is node or not chains.contains(node, below):
            raise QapiError(f"Node '{name}' is not a backing image of '{device}'")
    if bottom is not None:
        last = graph.lookup(None, bottom)
        if last.driver.is_filter:
            raise QapiError(
                f"Node '{bottom}' is a filter, use a non-filter node as 'bottom'"
            )
        if not chains.contains(node, last):
            raise QapiError(f"Node '{bottom}' is not in a chain starting from '{device}'")
        below = last.below
    for each in node.chain():
        if each is below:
            break
        each.check_operation("stream")
    if below is None and arguments.get("backing-file") is not None:
        raise QapiError("backing file specified, but streaming the entire chain")
    return StreamJob(
        block,
        arguments.get("job-id"),
        node,
        below,
        backing_file=arguments.get("backing-file"),
        speed=arguments.get("speed", 0),
        filter_name=arguments.get("filter-node-name"),
        **_common(arguments),
    )
