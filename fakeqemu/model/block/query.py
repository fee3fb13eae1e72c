"""What the block queries show, in the newest version's shape; `shaped` drops what is newer.

See block/qapi.c: bdrv_block_device_info(), bdrv_query_image_info() and bdrv_query_bds_stats();
block.c: bdrv_get_xdbg_block_graph().
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.backends.guest_io import io_status_enabled
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.filenames import Names, combined
from fakeqemu.model.block.graph.node import Edge, Node
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.writer import FixedObject
from fakeqemu.qapi.schema import ArrayType, EnumType, ObjectType, Schema, Type

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.graph.graph import Graph

Json = dict[str, Any]

_OPERATIONS = ("rd", "wr", "unmap", "flush", "zone_append")
_SECTOR = 512


class Survey:
    """What one query finds out about nodes: of those below several others once.

    QEMU's replies repeat a chain for each node in it. Here the repetitions are the same object.
    """

    def __init__(self) -> None:
        self.names = Names()
        #: with the images below
        self.images: dict[Node, Json] = {}
        #: (node, by device)
        self.stats: dict[tuple[Node, bool], Json] = {}


# -- fitting a version -------------------------------------------------------------------------


def shaped(schema: Schema, command: str, value: Any) -> Any:
    """A command's return value without the members that this version's schema has not."""
    return _Shaper().shape(schema.commands[command].ret_type, value)


class _Shaper:
    """One reply; what it learns about types and objects that occur several times it keeps."""

    def __init__(self) -> None:
        self._done: dict[int, Json] = {}
        #: (type's identity, variant) -> members; of scalars None
        self._members: dict[tuple[int, str], dict[str, Type | None]] = {}

    def shape(self, type: Type, value: Any) -> Any:
        """`value` without what `type` has not."""
        if isinstance(type, ArrayType):
            return [self.shape(type.element, each) for each in value]
        if not isinstance(type, ObjectType) or not isinstance(value, dict):
            return value
        if not isinstance(value, FixedObject):
            return self._object(type, value)
        if id(value) not in self._done:
            self._done[id(value)] = FixedObject(self._object(type, value))
        return self._done[id(value)]

    def _object(self, type: ObjectType, value: Json) -> Json:
        members = self._members_of(type, value)
        found = {}
        for name, inner in value.items():
            if name not in members:
                continue
            kind = members[name]
            if kind is None:
                found[name] = inner
            elif not isinstance(kind, ObjectType) or _fits(kind, inner):
                found[name] = self.shape(kind, inner)
        return found

    def _members_of(self, type: ObjectType, value: Json) -> dict[str, Type | None]:
        tag = value.get(type.tag, "") if type.tag is not None else ""
        key = (id(type), tag)
        if key not in self._members:
            variant = type.variant(tag) if type.tag is not None else None
            self._members[key] = {
                member.name: member.type
                if isinstance(member.type, ArrayType | ObjectType) else None
                for part in (type, variant) if part is not None
                for member in part.members
            }
        return self._members[key]


def _fits(type: ObjectType, value: Any) -> bool:
    """Whether a union has the variant that the value is of."""
    if type.tag is None or not isinstance(value, dict):
        return True
    tag = next(member.type for member in type.members if member.name == type.tag)
    return not isinstance(tag, EnumType) or value.get(type.tag) in tag.values


# -- images --------------------------------------------------------------------------------------


def image_size(node: Node) -> int:
    """The size in whole sectors, as images are shown with."""
    return -(-base.length(node) // _SECTOR) * _SECTOR


def _chain_info(node: Node, survey: Survey) -> Json:
    """ImageInfo with those of the images below; shared, not to be changed."""
    for each in reversed([each.skip_implicit() for each in node.chain()]):
        if each not in survey.images:
            info = image_info(each, survey)
            edge = each.chain_edge
            if edge is not None:
                info["backing-image"] = survey.images[edge.node.skip_implicit()]
            survey.images[each] = FixedObject(info)
    return survey.images[node]


def image_info(node: Node, survey: Survey) -> Json:
    """ImageInfo, without those of the images below."""
    driver = node.driver
    info: Json = {
        "filename": survey.names.filename(node),
        "format": driver.name,
        "virtual-size": image_size(node),
    }
    allocated = driver.allocated(node)
    if allocated is not None:
        info["actual-size"] = allocated
    if driver.knows_info(node):
        cluster = driver.cluster_size(node)
        if cluster:
            info["cluster-size"] = cluster
        info["dirty-flag"] = False
    specific = driver.specific(node)
    if specific is not None:
        info["format-specific"] = specific
    if node.backing_file:
        info["backing-filename"] = node.backing_file
        full = _full_backing(node)
        if full:
            info["full-backing-filename"] = full
        if node.backing_format:
            info["backing-filename-format"] = node.backing_format
    snapshots = getattr(driver, "snapshots", None)
    if snapshots:
        info["snapshots"] = [each.info() for each in snapshots]
    info["limits"] = driver.limits(node)
    return info


def _full_backing(node: Node) -> str:
    try:
        return combined(node, node.backing_file)
    except QapiError:
        return ""


def device_info(node: Node, backend: Backend | None, survey: Survey, *, flat: bool) -> Json:
    """BlockDeviceInfo. Raises QapiError for a corrupt image."""
    if not node.driver.has_medium:
        raise QapiError(f"Block device {node.name} is ejected")
    info: Json = {
        "file": survey.names.filename(node),
        "node-name": node.name,
        "ro": node.read_only,
        "drv": node.driver.name,
    }
    # members in the order of the schema, which decides which of two in one bucket comes first
    cow = node.cow
    if cow is not None:
        info["backing_file"] = survey.names.filename(cow.skip_implicit())
    info |= {
        "encrypted": node.driver.encrypted(),
        "active": not node.inactive,
        "cache": {
            "writeback": backend.writeback if backend is not None else True,
            "direct": node.cache_direct,
            "no-flush": node.cache_no_flush,
        },
        "detect_zeroes": node.detect_zeroes,
        # QMP's type has a sign
        "write_threshold": node.write_threshold - ((node.write_threshold >> 63) << 64),
        "children": [
            {"child": name, "node-name": edge.node.name}
            for name, edge in reversed(node.children.items())
        ],
        **throttle_info(backend),
    }
    if node.bitmaps:
        info["dirty-bitmaps"] = [bitmap.info() for bitmap in node.bitmaps]
    depth = 0
    if flat:
        info["image"] = image_info(node, survey)
    else:
        info["image"] = _chain_info(node.skip_implicit(), survey)
        at = node.skip_implicit()
        while (edge := at.chain_edge) is not None:
            depth += 1
            at = edge.node.skip_implicit()
    info["backing_file_depth"] = depth
    return info


_LIMIT_NAMES = {
    "bps-total": "bps", "bps-read": "bps_rd", "bps-write": "bps_wr",
    "iops-total": "iops", "iops-read": "iops_rd", "iops-write": "iops_wr",
}  # fmt: skip


def throttle_info(backend: Backend | None) -> Json:
    """The members of BlockDeviceInfo about limits."""
    limits = backend.throttle if backend is not None else None
    if limits is None or backend is None:
        return dict.fromkeys(_LIMIT_NAMES.values(), 0)
    info: Json = {}
    for long, short in _LIMIT_NAMES.items():
        info[short] = limits[long]
        if limits[f"{long}-max"]:
            info[f"{short}_max"] = limits[f"{long}-max"]
            info[f"{short}_max_length"] = limits[f"{long}-max-length"]
    if limits["iops-size"]:
        info["iops_size"] = limits["iops-size"]
    info["group"] = backend.throttle_group
    return info


def block_info(backend: Backend, survey: Survey, *, flat: bool = False) -> Json:
    """BlockInfo of query-block."""
    info: Json = {
        "device": backend.name,
        "type": "unknown",
        "removable": backend.removable,
        "locked": backend.locked,
    }
    if backend.qdev:
        info["qdev"] = backend.qdev
    if backend.has_tray:
        info["tray_open"] = backend.tray_open
    if io_status_enabled(backend):
        info["io-status"] = backend.io_status
    if backend.node is not None and backend.node.driver.has_medium:
        info["inserted"] = device_info(
            backend.node.skip_implicit(), backend, survey, flat=flat
        )
    return info


# -- counters ------------------------------------------------------------------------------------


def _counters(node: Node | None, backend: Backend | None) -> Json:
    stats: Json = {}
    for name in _OPERATIONS:
        stats[f"{name}_operations"] = stats[f"{name}_total_time_ns"] = 0
        stats[f"failed_{name}_operations"] = stats[f"invalid_{name}_operations"] = 0
        if name != "flush":
            stats[f"{name}_bytes"] = stats[f"{name}_merged"] = 0
    if backend is not None:
        for name, count in backend.traffic.operations.items():
            stats[f"{name}_operations"] = count
            stats[f"{name}_bytes"] = backend.traffic.bytes[name]
        for name, count in backend.traffic.failed.items():
            stats[f"failed_{name}_operations"] = count
        for name, count in backend.traffic.invalid.items():
            stats[f"invalid_{name}_operations"] = count
        if backend.traffic.last is not None:
            now = node.driver.graph.process.clock.now() if node is not None else 0
            stats["idle_time_ns"] = max(now - backend.traffic.last, 0)
    stats["wr_highest_offset"] = node.highest_write if node is not None else 0
    stats["account_invalid"] = backend.account_invalid if backend is not None else False
    stats["account_failed"] = backend.account_failed if backend is not None else False
    stats["timed_stats"] = []
    for name, histogram in (backend.histograms if backend is not None else {}).items():
        stats[f"{name}_latency_histogram"] = histogram.info()
    return stats


def node_stats(node: Node, survey: Survey, *, by_device: bool) -> Json:
    """BlockStats of a node and those below it; shared, not to be changed."""
    if (node, by_device) not in survey.stats:
        survey.stats[node, by_device] = FixedObject(_stats(node, survey, by_device, None))
    return survey.stats[node, by_device]


def _stats(node: Node, survey: Survey, by_device: bool, backend: Backend | None) -> Json:
    stats: Json = {"stats": _counters(node, backend)}
    if by_device:
        node = node.skip_implicit()
    stats["node-name"] = node.name
    specific = node.driver.statistics(node)
    if specific is not None:
        stats["driver-specific"] = specific
    parent = _storage(node)
    if parent is not None:
        stats["parent"] = node_stats(parent, survey, by_device=by_device)
    below = node.cow or (node.filtered_edge.node if node.filtered_edge else None)
    if by_device and below is not None:
        stats["backing"] = node_stats(below, survey, by_device=by_device)
    return stats


def _storage(node: Node) -> Node | None:
    """The child that a node's data or metadata are in; what a filter filters is none."""
    primary = node.primary
    if primary is not None:
        return primary
    found = [
        e.node for e in node.children.values() if e.role & {perms.DATA, perms.METADATA}
    ]
    return found[0] if len(found) == 1 else None


def backend_stats(backend: Backend, survey: Survey) -> Json:
    """BlockStats of query-blockstats."""
    if backend.node is None:
        stats: Json = {"stats": _counters(None, backend)}
    else:
        stats = _stats(backend.node, survey, True, backend)
    stats["stats"]["account_invalid"] = backend.account_invalid
    stats["device"] = backend.name
    if backend.qdev:
        stats["qdev"] = backend.qdev
    return stats


# -- the graph for debugging ---------------------------------------------------------------------


def graph_info(graph: Graph, jobs: Iterator[Any], backends: list[Backend]) -> Json:
    """XDbgBlockGraph."""
    numbers: dict[int, int] = {}
    nodes: list[Json] = []
    edges: list[Json] = []

    def number(thing: object) -> int:
        return numbers.setdefault(id(thing), len(numbers) + 1)

    def node(thing: object, type: str, name: str) -> None:
        nodes.append({"id": number(thing), "type": type, "name": name})

    def edge(each: Edge) -> None:
        edges.append(
            {
                "parent": number(each.parent),
                "child": number(each.node),
                "name": each.name,
                "perm": _bits(each.perm),
                "shared-perm": _bits(each.shared),
            }
        )

    for backend in backends:
        node(backend, "block-backend", backend.name or backend.qdev)
        if backend.root is not None:
            edge(backend.root)
    for job in jobs:
        node(job, "block-job", job.id)
        for each in reversed(job.edges):
            edge(each)
    for block_node in graph.nodes.values():
        node(block_node, "block-driver", block_node.name)
        for each in reversed(block_node.children.values()):
            edge(each)
    return {"nodes": nodes[::-1], "edges": edges[::-1]}


def _bits(bits: int) -> list[str]:
    return [name for bit, name in enumerate(perms.QAPI_NAMES) if bits >> bit & 1][::-1]
