"""Who may do what to a node: permissions wanted and shared, added up along the graph.

Every user of a node (another node, a device's backend, a job) wants some permissions and lets
others have some. A change of the graph is tried, all is added up anew from the roots down, and
if any two users of one node exclude each other the change is taken back.

See block.c: bdrv_refresh_perms(), bdrv_node_refresh_perm(), bdrv_parent_perms_conflict() and
bdrv_default_perms().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Edge, Node


def conflict(holder: Edge, other: Edge) -> QapiError | None:
    """The error if `holder` does not share what `other` wants."""
    missing = other.perm & ~holder.shared
    if not missing:
        return None
    name = other.node.name
    return QapiError(
        f"Permission conflict on node '{name}': permissions '{perms.names_of(missing)}' are both"
        f" required by {other.user} (uses node '{name}' as '{other.name}' child) and unshared"
        f" by {holder.user} (uses node '{name}' as '{holder.name}' child)."
    )


def ordered(roots: list[Node]) -> list[Node]:
    """The nodes reachable from `roots`, parents before children."""
    done: list[Node] = []
    seen: set[int] = set()
    for root in roots:
        if id(root) in seen:
            continue
        seen.add(id(root))
        under_way = [(root, reversed(list(root.children.values())))]
        while under_way:
            node, edges = under_way[-1]
            for edge in edges:
                if id(edge.node) not in seen:
                    seen.add(id(edge.node))
                    below = edge.node
                    under_way.append((below, reversed(list(below.children.values()))))
                    break
            else:
                done.append(node)
                under_way.pop()
    return done[::-1]


class Update:
    """Cumulative permissions recomputed; `undo` restores what they were.

    Of the given nodes and of what they lead to: all of that, or with `follow` only where an edge
    changes. The latter is for changes of edges; nodes that changed themselves are given.
    """

    def __init__(self, nodes: list[Node], *, follow: bool = False) -> None:
        self._nodes = nodes
        self._follow = follow
        #: what was refreshed: node, its permissions, those of its edges
        self._before: list[tuple[Node, int, int, list[tuple[Edge, int, int]]]] = []

    def run(self) -> None:
        """Add up and check. Raises QapiError, with everything as it was."""
        try:
            if self._follow:
                self._run_where_changed()
            else:
                for node in ordered(self._nodes):
                    self._refresh(node)
        except QapiError:
            self.undo()
            raise

    def undo(self) -> None:
        """As before `run`."""
        for node, perm, shared, edges in self._before:
            node.perm, node.shared = perm, shared
            for edge, edge_perm, edge_shared in edges:
                edge.perm, edge.shared = edge_perm, edge_shared
        for node, *_ in self._before:
            node.driver.settle(node)

    def _run_where_changed(self) -> None:
        pending = list(dict.fromkeys(self._nodes))
        later: list[Node] = []
        if len(pending) == 2 and pending[1] in (e.node for e in pending[0].children.values()):
            later = [pending.pop()]
        while len(pending) == 1:
            # nothing else that waits can be above it
            changed = self._refresh(pending[0])
            pending = list(dict.fromkeys([*changed, *later]))
            later = []
        if not pending:
            return
        wanted = set(map(id, pending))
        for node in ordered(pending):
            if id(node) in wanted:
                wanted.update(map(id, self._refresh(node)))

    def _refresh(self, node: Node) -> list[Node]:
        """Add up for one node; the children whose edges changed. Raises QapiError."""
        edges = [(edge, edge.perm, edge.shared) for edge in node.children.values()]
        self._before.append((node, node.perm, node.shared, edges))
        for holder, other in _pairs(node.parents):
            error = conflict(holder, other)
            if error is not None:
                raise error
        node.perm, node.shared = cumulative(node.parents)
        refused = node.read_only or node.turning_read_only
        if node.perm & (perms.WRITE | perms.WRITE_UNCHANGED) and refused:
            if node.turning_read_only:
                raise QapiError(
                    f"Read-only block node '{node.name}' cannot support read-write users"
                )
            raise QapiError("Block node is read-only")
        node.driver.check_permissions(node, node.perm, node.shared)
        for edge in node.children.values():
            edge.perm, edge.shared = node.driver.child_permissions(
                node, edge, node.perm, node.shared
            )
            if edge.node.force_share:
                edge.shared = perms.ALL
        return [e.node for e, perm, shared in edges if (e.perm, e.shared) != (perm, shared)]


def cumulative(parents: list[Edge]) -> tuple[int, int]:
    """What all users together want, and what all of them leave to others."""
    perm, shared = 0, perms.ALL
    for edge in parents:
        perm |= edge.perm
        shared &= edge.shared
    return perm, shared


def _pairs(parents: list[Edge]) -> Iterator[tuple[Edge, Edge]]:
    newest_first = parents[::-1]
    for holder in newest_first:
        for other in newest_first:
            if holder is not other:
                yield holder, other


def attempt(change: Callable[[], None], take_back: Callable[[], None], roots: list[Node]) -> None:
    """Make a change and add up from `roots`; take it back if that fails. Raises QapiError."""
    change()
    confirm(take_back, roots)


def confirm(take_back: Callable[[], None], roots: list[Node]) -> None:
    """Add up from `roots` after a change; take it back if that fails. Raises QapiError."""
    try:
        Update(roots, follow=True).run()
    except QapiError:
        take_back()
        Update(roots, follow=True).run()
        raise
