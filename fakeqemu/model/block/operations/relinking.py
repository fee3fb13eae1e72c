"""Other children for a node, permissions left to be added up later.

A node that was opened with another follows its options as long as it is below it: `inherits_from`.

See block.c: bdrv_set_file_or_backing_noperm() and bdrv_unset_inherits_from().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Edge, Node
from fakeqemu.model.block.graph.permission_update import Update
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph


def set_child(graph: Graph, node: Node, name: str, child: Node | None) -> Callable[[], None]:
    """Let the child `name` (`file` or `backing`) be another; what undoes it. Raises QapiError."""
    edge = node.children.get(name)
    if edge is not None and edge.frozen:
        raise QapiError(
            f"Cannot change frozen '{name}' link from '{node.name}' to '{edge.node.name}'"
        )
    if name == "backing" and not node.driver.is_filter and not node.driver.supports_backing:
        raise QapiError(
            f"Driver '{node.driver.name}' of node '{node.name}' does not support backing files"
        )
    if child is not None:
        graph.check_cycle(node, name, child)
        child.join_iothread(node)
    new = None
    if child is not None:
        new = Edge(node, name, child, role=_role(node, name, edge))
    order = dict(node.children)
    index = edge.node.parents.index(edge) if edge is not None else 0
    follows = child is not None and child.follows(node)
    left: list[Node] = []
    if edge is not None:
        left = node.leave_alone(edge)
        graph.unlink(edge)
        edge.node.unblock(edge)
    if new is not None:
        graph.link(new)
        # where the one before had its place
        names = list(order) if name in order else [*order, name]
        node.children = {each: node.children[each] for each in names}
    before = child.inherits_from if child is not None else None
    if child is not None and follows:
        child.inherits_from = node

    def take_back() -> None:
        if child is not None:
            child.inherits_from = before
        for each in left:
            each.inherits_from = node
        if new is not None:
            graph.unlink(new)
            new.node.unblock(new)
        if edge is not None:
            edge.node.parents.insert(index, edge)
        node.children = order
        graph.backing_changed(node)

    return take_back


def _role(node: Node, name: str, edge: Edge | None) -> frozenset[str]:
    if node.driver.is_filter:
        return frozenset({perms.FILTERED, perms.PRIMARY})
    if name == "backing":
        return frozenset({perms.COW})
    if edge is None:
        raise QapiError("Cannot set file child to format node without file child")
    return edge.role


def set_backing(graph: Graph, node: Node, backing: Node | None) -> None:
    """Put another image under `node`. Raises QapiError."""
    edge = node.children.get("backing")
    take_back = set_child(graph, node, "backing", backing)
    roots = [node] + ([edge.node] if edge is not None else [])
    try:
        Update(roots, follow=True).run()
    except QapiError:
        take_back()
        Update(roots, follow=True).run()
        raise
    graph.backing_changed(node)
    graph.collect()
