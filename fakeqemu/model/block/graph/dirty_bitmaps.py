"""Dirty bitmaps: which parts of a node were written since some moment.

See block/dirty-bitmap.c: bdrv_create_dirty_bitmap(), bdrv_dirty_bitmap_check() and
bdrv_merge_dirty_bitmap().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.formats import extents
from fakeqemu.formats.intervals import Intervals
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.graph.node import Node

_LONGEST_NAME = 1023
_SMALLEST, _LARGEST_DEFAULT, _SMALLEST_DEFAULT = 512, 65536, 4096


def default_granularity(node: Node) -> int:
    """The grain of a bitmap whose maker names none."""
    cluster = node.driver.cluster_size(node)
    return min(_LARGEST_DEFAULT, max(_SMALLEST_DEFAULT, cluster or _LARGEST_DEFAULT))


def find_on(node: Node, name: str) -> Bitmap | None:
    """A node's bitmap by name."""
    return next((b for b in node.bitmaps if b.name == name), None)


def lookup(graph: Graph, node_name: str, name: str) -> Bitmap:
    """A bitmap by node (or device) and name. Raises QapiError."""
    try:
        node = node_of(graph, node_name)
    except QapiError:
        raise QapiError(f"Node '{node_name}' not found") from None
    found = find_on(node, name)
    if found is None:
        raise QapiError(f"Dirty bitmap '{name}' not found")
    return found


def node_of(graph: Graph, name: str) -> Node:
    """The node or device of a bitmap command. Raises QapiError."""
    return graph.lookup(name, name)


def create(node: Node, name: str | None, granularity: int) -> Bitmap:
    """A new bitmap on `node`. Raises QapiError."""
    if name is not None:
        if find_on(node, name) is not None:
            raise QapiError(f"Bitmap already exists: {name}")
        if len(c_bytes(name)) > _LONGEST_NAME:
            raise QapiError(f"Bitmap name too long: {name}")
    try:
        size = base.length(node)
    except extents.BlockIoError as error:
        raise error.prefixed("could not get length of device: ") from None
    bitmap = Bitmap(node, name, granularity, size)
    node.bitmaps.insert(0, bitmap)
    return bitmap


def add(
    graph: Graph,
    node_name: str,
    name: str,
    *,
    granularity: int | None = None,
    persistent: bool = False,
    disabled: bool = False,
) -> Bitmap:
    """block-dirty-bitmap-add. Raises QapiError."""
    if not name:
        raise QapiError("Bitmap name cannot be empty")
    node = node_of(graph, node_name)
    if granularity is not None:
        if granularity < _SMALLEST or granularity & granularity - 1:
            raise QapiError("Granularity must be power of 2 and at least 512")
    else:
        granularity = default_granularity(node)
    if persistent and node.driver.name != "qcow2":
        raise QapiError(
            f"Can't store persistent bitmaps to {node.device_or_name}: Operation not supported"
        )
    strict = graph.process.profile.traits.bitmaps_need_writable_node
    if persistent and strict and (node.read_only or node.inactive):
        raise QapiError(
            f"Cannot add a persistent bitmap to read-only or inactive node '{node.name}'"
        )
    bitmap = create(node, name, granularity)
    bitmap.persistent = persistent
    bitmap.enabled = not disabled
    return bitmap


def create_successor(bitmap: Bitmap) -> None:
    """Keep a bitmap as it is, and busy; another one records. Raises QapiError.

    See block/dirty-bitmap.c: bdrv_dirty_bitmap_create_successor().
    """
    bitmap.check(inconsistent=False, ro=False)
    successor = create(bitmap.node, None, bitmap.granularity)
    successor.enabled, bitmap.enabled = bitmap.enabled, False
    bitmap.successor, bitmap.busy = successor, True


def abdicate(bitmap: Bitmap) -> Bitmap:
    """A bitmap's successor takes its name and place; gives the successor.

    See block/dirty-bitmap.c: bdrv_dirty_bitmap_abdicate().
    """
    successor = bitmap.successor
    assert successor is not None
    successor.name, bitmap.name = bitmap.name, None
    successor.persistent, successor.stored = bitmap.persistent, bitmap.stored
    remove(bitmap)
    return successor


def reclaim(bitmap: Bitmap) -> Bitmap:
    """A bitmap gets what its successor has recorded, and records itself; gives the bitmap.

    See block/dirty-bitmap.c: bdrv_reclaim_dirty_bitmap().
    """
    successor, bitmap.successor = bitmap.successor, None
    assert successor is not None
    bitmap.merge(successor)
    bitmap.enabled, bitmap.busy = successor.enabled, False
    remove(successor)
    return bitmap


def check_removable(bitmap: Bitmap) -> None:
    """Raise QapiError if the bitmap has to stay."""
    node = bitmap.node
    strict = node.driver.graph.process.profile.traits.bitmaps_need_writable_node
    bitmap.check(inconsistent=False, ro=not strict)
    if strict and bitmap.persistent and (node.read_only or node.inactive):
        raise QapiError(
            f"Cannot remove persistent bitmap '{bitmap.name}': no write access to node"
            f" '{node.name}'"
        )


def remove(bitmap: Bitmap) -> None:
    """Take a bitmap away."""
    bitmap.node.bitmaps.remove(bitmap)


def check_mergeable(target: Bitmap, source: Bitmap) -> None:
    """Raise QapiError if `target` cannot take what is dirty in `source`."""
    source.check(ro=False)
    if source.size != target.size:
        raise QapiError(
            f"Bitmaps are of different sizes (destination size is {target.size},"
            f" source size is {source.size}) and can't be merged"
        )


def merge(
    graph: Graph, target: Bitmap, sources: list[str | dict[str, str]], node_name: str
) -> Intervals:
    """block-dirty-bitmap-merge; gives the target's bits of before. Raises QapiError."""
    target.check()
    before = target.copy_bits()
    found: list[Bitmap] = []
    for source in sources:
        if isinstance(source, str):
            bitmap = find_on(node_of(graph, node_name), source)
            if bitmap is None:
                raise QapiError(f"Dirty bitmap '{source}' not found")
        else:
            bitmap = lookup(graph, source["node"], source["name"])
        check_mergeable(target, bitmap)
        found.append(bitmap)
    for bitmap in found:
        target.merge(bitmap)
    return before
