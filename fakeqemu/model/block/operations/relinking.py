"""Other children for a node, permissions left to be added up later.

A node that was opened with another follows its options as long as it is below it: `inherits_from`.

See block.c: bdrv_set_file_or_backing_noperm() and bdrv_unset_inherits_from().
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Edge, Node
from fakeqemu.model.block.graph.open import open_backing
from fakeqemu.model.block.graph.permission_update import confirm
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph


def set_child(graph: Graph, node: Node, name: str, child: Node | None) -> Callable[[], None]:
    """Let the child `name` (`file` or `backing`) be another; what undoes it.

    Raises QapiError, with everything as it was.
    """
    edge = node.children.get(name)
    if edge is not None and edge.frozen:
        raise QapiError(
            f"Cannot change frozen '{name}' link from '{node.name}' to '{edge.node.name}'"
        )
    if name == "backing" and not node.driver.is_filter and not node.driver.supports_backing:
        raise QapiError(
            f"Driver '{node.driver.name}' of node '{node.name}' does not support backing files"
        )
    role = _role(node, name, edge)
    follows = child is not None and child.follows(node)
    places = list(node.children)
    with ExitStack() as undo:
        undo.callback(graph.backing_changed, node)
        if edge is not None:
            undo.callback(_remove(graph, node, edge))
        if child is not None:
            undo.callback(_attach(graph, Edge(node, name, child, role=role), node, places))
            undo.callback(setattr, child, "inherits_from", child.inherits_from)
            if follows:
                child.inherits_from = node
        return undo.pop_all().close


def _remove(graph: Graph, node: Node, edge: Edge) -> Callable[[], None]:
    """Take a child away; what undoes it."""
    children, place = dict(node.children), edge.node.parents.index(edge)
    left = node.leave_alone(edge)
    graph.unlink(edge)
    edge.node.unblock(edge)

    def take_back() -> None:
        edge.node.parents.insert(place, edge)
        node.children = children
        for each in left:
            each.inherits_from = node

    return take_back


def _attach(graph: Graph, edge: Edge, node: Node, places: list[str]) -> Callable[[], None]:
    """Give `node` a child, in the place by that name if there is one; what undoes it.

    Raises QapiError. See block.c: bdrv_attach_child_noperm().
    """
    child = edge.node
    graph.check_cycle(node, edge.name, child)
    graph.check_active(edge)
    leave_iothread = child.join_iothread(node)
    graph.link(edge)
    if edge.name in places:
        node.children = {each: node.children[each] for each in places}

    def take_back() -> None:
        graph.unlink(edge)
        child.unblock(edge)
        leave_iothread()

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
    confirm(take_back, [node] + ([edge.node] if edge is not None else []))
    graph.backing_changed(node)
    graph.collect()


def check_switch(source: Node, replaced: Node, target: Node) -> None:
    """Whether what was copied of `source` can stand where `replaced` is. Raises QapiError.

    See block/mirror.c: mirror_exit_common().
    """
    if not source.driver.can_replace(source, replaced):
        raise QapiError(
            f"Can no longer replace '{replaced.name}' by '{target.name}', because it can"
            " no longer be guaranteed that doing so would not lead to an abrupt change of"
            " visible data"
        )


def open_missing_backing(graph: Graph, node: Node) -> None:
    """Open what a node's header names where that was left out; a failure is only reported."""
    image = node.skip_filters()
    if not image.driver.supports_backing or image.cow is not None:
        return
    try:
        open_backing(graph, image, "")
    except QapiError as error:
        graph.process.host.warn(error.desc)
