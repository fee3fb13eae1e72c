"""From the arguments of block-commit and block-stream to a job: the nodes that they name.

As in `blockdev`, whoever called starts the job.

See blockdev.c: qmp_block_commit() and qmp_block_stream().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.filenames import filename
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.jobs.blockjob import BlockJob, common_options
from fakeqemu.model.block.jobs.commit import ActiveCommitJob, CommitJob
from fakeqemu.model.block.jobs.stream import StreamJob
from fakeqemu.model.block.operations import backing_chain as chains, reopen
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer

Json = dict[str, Any]


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
        **common_options(arguments),
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
    if (top := _by_node_name(block, active, arguments, "top")) is not None:
        return top
    file = arguments.get("top")
    if file is None or file == filename(active):
        return active
    found = chains.find_image(block.graph, active, file)
    if found is None:
        raise QapiError(f"Top image file {file} not found")
    return found


def _commit_base(block: BlockLayer, top: Node, arguments: Json) -> Node:
    if (target := _by_node_name(block, top, arguments, "base")) is not None:
        return target
    if (file := arguments.get("base")) is None:
        return _lowest(top)
    return _by_file(block, top, file)


def _by_node_name(block: BlockLayer, above: Node, arguments: Json, which: str) -> Node | None:
    """The `top` or `base` node below another that is named; None if it is not."""
    name = arguments.get(f"{which}-node")
    if name is not None and arguments.get(which) is not None:
        raise QapiError(f"'{which}-node' and '{which}' are mutually exclusive")
    if name is None:
        return None
    found = block.graph.lookup(None, name)
    if not chains.contains(above, found):
        raise QapiError(f"'{name}' is not in this backing file chain")
    return found


def _by_file(block: BlockLayer, above: Node, file: str) -> Node:
    found = chains.find_image(block.graph, above, file)
    if found is None:
        raise QapiError(f"Can't find '{file}' in the backing chain")
    return found


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
        below = _by_file(block, node, file)
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
        **common_options(arguments),
    )
