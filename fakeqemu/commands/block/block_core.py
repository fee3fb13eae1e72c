"""Commands of QAPI's block-core module: nodes, media, limits, queries.

See qapi/block-core.json; blockdev.c: qmp_blockdev_add(); block/qapi-system.c:
qmp_blockdev_change_medium(); block/qapi.c: qmp_query_block().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import Deferred, actions, command
from fakeqemu.model.block import query as info
from fakeqemu.model.block.backends.acct_stats import Histogram
from fakeqemu.model.block.backends.backend import Backend
from fakeqemu.model.block.drivers.nbd import options as nbdclient
from fakeqemu.model.block.graph import open as opener
from fakeqemu.model.block.graph.filenames import FileArgument
from fakeqemu.model.block.operations import backing_chain as chains, reopen
from fakeqemu.model.machine import Machine
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError

Json = dict[str, Any]


# -- nodes ---------------------------------------------------------------------------------------


@command("blockdev-add", raw=True)
def blockdev_add(vm: Machine, arguments: Json) -> Deferred | None:
    """Make a node; one on another machine's export once that has answered."""
    block = vm.block
    answer = Deferred()

    def connected() -> None:
        _, error = vm.guard.attempt(block.add, arguments)
        nbdclient.drop_unused(block.graph)
        if error is not None:
            answer.fail(error)
        else:
            answer.resolve()

    # one without a name is refused before anybody connects
    named = "node-name" in arguments
    if named and nbdclient.connect_all(block.graph, arguments, connected):
        return answer
    block.add(arguments)
    return None


@command("blockdev-set-active")
def blockdev_set_active(vm: Machine, active: bool, node_name: str | None = None) -> None:
    """Take images over from another process, or hand them over."""
    block = vm.block
    if node_name is None:
        if active:
            block.activate()
            return
        try:
            block.inactivate()
        except QapiError as error:
            raise error.prefixed("Failed to inactivate all nodes: ") from None
        return
    node = block.graph.named(node_name)
    if active:
        block.activate_node(node)
    else:
        block.inactivate_node(node)


@command("block_resize")
def block_resize(
    vm: Machine, size: int, device: str | None = None, node_name: str | None = None
) -> None:
    """Change a node's size."""
    block = vm.block
    node = block.graph.lookup(device, node_name)
    if size < 0:
        raise QapiError(texts.parameter_expects("size", "a >0 size"))
    in_use = vm.profile.traits.resize_in_use
    if in_use is not None and node.blockers.get("resize"):
        raise QapiError(in_use.format(device if device is not None else "(null)"))
    node.check_operation("resize")
    block.resize(node, size)


@command("change-backing-file")
def change_backing_file(
    vm: Machine, device: str, image_node_name: str, backing_file: str
) -> None:
    """Write another backing file name into an image's header."""
    graph = vm.block.graph
    root = graph.root(device)
    image = graph.lookup(None, image_node_name)
    if image.below is None:
        raise QapiError(
            "not allowing backing file change on an image without a backing file"
        )
    root.check_operation("change")
    if not chains.contains(root, image):
        raise QapiError(f"'{device}' and image file are not in the same chain")
    try:
        chains.write_backing(graph, image, backing_file, image.driver.name)
    except QapiError as error:
        raise error.prefixed(f"Could not change backing file to '{backing_file}': ") from None


@command("x-blockdev-change")
def x_blockdev_change(
    vm: Machine, parent: str, child: str | None = None, node: str | None = None
) -> None:
    """Add or take away a node's child; only drivers for many children can."""
    graph = vm.block.graph
    above = graph.lookup(parent, parent)
    if (child is None) == (node is None):
        raise QapiError(
            "The parameters child and node are in conflict"
            if child is not None
            else "Either child or node must be specified"
        )
    if child is not None:
        if child not in above.children:
            raise QapiError(f"Node '{parent}' does not have child '{child}'")
        above.driver.remove_child(above, above.children[child])
    if node is not None:
        new = graph.find(node)
        if new is None:
            raise QapiError(f"Node '{node}' not found")
        if new.parents and above.driver.child_list:
            raise QapiError(f"The node {new.name} already has a parent")
        above.driver.add_child(above, new)


# -- queries -------------------------------------------------------------------------------------


@command("query-block")
def query_block(vm: Machine, flat: bool = False) -> Any:
    """BlockInfo list; `flat` (11.1) leaves backing images out."""
    survey = info.Survey()
    shown = vm.block.backends.shown()
    found = [info.block_info(backend, survey, flat=flat) for backend in shown]
    return info.shaped(vm.profile.schema, "query-block", found)


@command("query-named-block-nodes")
def query_named_block_nodes(vm: Machine, flat: bool = False) -> Any:
    """BlockDeviceInfo list, newest node first."""
    nodes = reversed(list(vm.block.graph.nodes.values()))
    survey = info.Survey()
    found = [info.device_info(node, None, survey, flat=flat) for node in nodes]
    return info.shaped(vm.profile.schema, "query-named-block-nodes", found)


@command("query-blockstats")
def query_blockstats(vm: Machine, query_nodes: bool = False) -> Any:
    """BlockStats list, of backends or of nodes."""
    block, survey = vm.block, info.Survey()
    if query_nodes:
        nodes = block.graph.nodes.values()
        found = [info.node_stats(node, survey, by_device=False) for node in nodes]
    else:
        found = [info.backend_stats(backend, survey) for backend in block.backends.shown()]
    return info.shaped(vm.profile.schema, "query-blockstats", found)


@command("x-debug-query-block-graph")
def x_debug_query_block_graph(vm: Machine) -> Json:
    """XDbgBlockGraph."""
    block = vm.block
    jobs = (job for job in block.jobs.all if job.is_block)
    return info.graph_info(block.graph, jobs, block.backends.all)


# -- media ---------------------------------------------------------------------------------------


@command("blockdev-open-tray")
def blockdev_open_tray(
    vm: Machine, device: str | None = None, id: str | None = None, force: bool = False
) -> None:
    """Open a drive's tray."""
    backends = vm.block.backends
    backends.open_tray(backends.get(device, id), device or id or "", force=force)


@command("blockdev-close-tray")
def blockdev_close_tray(vm: Machine, device: str | None = None, id: str | None = None) -> None:
    """Close a drive's tray."""
    backends = vm.block.backends
    backends.close_tray(backends.get(device, id), device or id or "")


@command("blockdev-remove-medium")
def blockdev_remove_medium(vm: Machine, id: str) -> None:
    """Take the medium out."""
    backends = vm.block.backends
    backends.remove_medium(backends.get(None, id), id)


@command("blockdev-insert-medium")
def blockdev_insert_medium(vm: Machine, id: str, node_name: str) -> None:
    """Put a node in as medium."""
    block = vm.block
    backend = block.backends.get(None, id)
    node = block.graph.find(node_name)
    if node is None:
        raise QapiError(f"Node '{node_name}' not found")
    if block.backends.on(node) is not None:
        raise QapiError(f"Node '{node_name}' is already in use")
    block.backends.insert_medium(backend, node)


@command("blockdev-change-medium", raw=True)
def blockdev_change_medium(vm: Machine, arguments: Json) -> None:
    """Open a file and put it in place of the medium."""
    block = vm.block
    device, id = arguments.get("device"), arguments.get("id")
    who = device or id or ""
    backend = block.backends.get(device, id)
    state = backend.root_state
    if backend.node is not None:
        node = backend.node
        read_only, cache = node.read_only, {"direct": node.cache_direct}
        detect_zeroes = node.detect_zeroes
    else:
        read_only, cache, detect_zeroes = state.read_only, state.cache, state.detect_zeroes
    mode = arguments.get("read-only-mode", "retain")
    if mode != "retain":
        read_only = mode == "read-only"
    options: Json = {"filename": FileArgument(arguments["filename"])}
    if "format" in arguments:
        if arguments["format"] not in vm.profile.schema.enum_values("BlockdevDriver"):
            raise QapiError(f"Unknown driver '{arguments['format']}'")
        options["driver"] = arguments["format"]
    options = opener.as_format(options)
    options.update({"read-only": read_only, "cache": cache})
    node = opener.open_node(block.graph, options)
    node.detect_zeroes = detect_zeroes
    with block.graph.referenced(node):
        _eject(vm, device, id, force=arguments.get("force", False))
        block.backends.insert_medium(backend, node, who)
        block.backends.close_tray(backend, who)


def _eject(vm: Machine, device: str | None, id: str | None, *, force: bool) -> None:
    backends = vm.block.backends
    backend, who = backends.get(device, id), device or id or ""
    if backends.open_tray(backend, who, force=force) == "locked":
        raise QapiError(
            f"Device '{who}' is locked and force was not specified,"
            " wait for tray to open and try again"
        )
    backends.remove_medium(backend, who)


# -- limits --------------------------------------------------------------------------------------

_THROTTLE_NAMES = {
    "bps": "bps-total", "bps_rd": "bps-read", "bps_wr": "bps-write",
    "iops": "iops-total", "iops_rd": "iops-read", "iops_wr": "iops-write",
}  # fmt: skip


@command("block_set_io_throttle", raw=True)
def block_set_io_throttle(vm: Machine, arguments: Json) -> None:
    """Limit what a device may transfer."""
    backends = vm.block.backends
    device, id = arguments.get("device"), arguments.get("id")
    backend = backends.get(device, id)
    if backend.node is None:
        raise QapiError(f"Device '{device or id}' has no medium")
    limits: dict[str, int] = {}
    for short, long in _THROTTLE_NAMES.items():
        limits[long] = arguments[short]
        limits[f"{long}-max"] = arguments.get(f"{short}_max", 0)
        limits[f"{long}-max-length"] = arguments.get(f"{short}_max_length", 1)
    limits["iops-size"] = arguments.get("iops_size", 0)
    if not any(value for name, value in limits.items() if not name.endswith("length")):
        backends.set_throttle(backend, None, "")
        return
    backends.set_throttle(backend, limits, arguments.get("group") or device or id or "")


@command("x-blockdev-set-iothread")
def x_blockdev_set_iothread(
    vm: Machine, node_name: str, iothread: str | None, force: bool = False
) -> None:
    """Let another thread do a node's I/O. See blockdev.c: qmp_x_blockdev_set_iothread()."""
    node = vm.block.graph.named(node_name)
    if not force and any(isinstance(edge.parent, Backend) for edge in node.parents):
        raise QapiError(
            f"Node {node_name} is associated with a BlockBackend and could be in use"
            " (use force=true to override this check)"
        )
    if iothread is not None:
        found = vm.objects.get(iothread)
        if found is None or found.type != "iothread":
            raise QapiError(f"Cannot find iothread {iothread}")
    node.move_to(iothread)


@command("block-set-write-threshold")
def block_set_write_threshold(vm: Machine, node_name: str, write_threshold: int) -> None:
    """Tell when a write goes beyond an offset."""
    node = vm.block.graph.find(node_name)
    if node is None:
        raise QapiError(texts.device_not_found(node_name))
    node.write_threshold = write_threshold


@command("block-latency-histogram-set")
def block_latency_histogram_set(
    vm: Machine,
    id: str,
    boundaries: list[int] | None = None,
    **by_operation: list[int],
) -> None:
    """Count requests by how long they take.

    See block/accounting.c: block_latency_histogram_set().
    """
    backend = vm.block.backends.get(None, id)
    given = {name.removeprefix("boundaries_"): list(v) for name, v in by_operation.items()}
    if boundaries is None and not given:
        backend.histograms.clear()
        return
    names = {"read": "rd", "write": "wr", "zap": "zone_append", "flush": "flush"}
    for name, key in names.items():
        if boundaries is None and name not in given:
            continue
        wanted = given.get(name, boundaries if boundaries is not None else [])
        none = not wanted and not vm.profile.traits.histogram_without_boundaries
        if wanted != sorted(set(wanted)) or (wanted and wanted[0] == 0) or none:
            what = "append write" if name == "zap" else name
            raise QapiError(f"Device '{id}' set {what} boundaries fail")
        backend.histograms[key] = Histogram(wanted)

actions(
    {
        "blockdev-del": lambda vm, node_name: vm.block.delete(node_name),
        "blockdev-reopen": lambda vm, options: reopen.blockdev_reopen(vm.block.graph, options),
        "eject": lambda vm, device=None, id=None, force=False: _eject(vm, device, id, force=force),
    }
)
