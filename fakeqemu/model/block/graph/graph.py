"""The graph of block nodes: finding them, linking them, taking them away.

A node lives as long as somebody uses it: another node, a backend, a job, an operation under
way, or the monitor that made it with blockdev-add.

See block.c: bdrv_attach_child_common(), bdrv_replace_node_common(), bdrv_find_node(), bdrv_unref()
and bdrv_lookup_bs().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from fakeqemu.model.block.drivers.driver import inserted
from fakeqemu.model.block.files import FileSystem, MemoryFiles
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Edge, Node, User
from fakeqemu.model.block.graph.permission_update import Update, attempt, cumulative
from fakeqemu.model.block.graph.waiting import Waiting
from fakeqemu.model.block.throttling import ThrottleGroups
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.block.nbd_connection import NbdClientConnection
    from fakeqemu.model.fds.fdset import Fdsets
    from fakeqemu.model.process import Process
    from fakeqemu.model.qom.user_creatable import Objects
    from fakeqemu.model.runstate import RunState
    from fakeqemu.model.yank import Yank


class NamedUser(Protocol):
    """Who may stand for the node that it uses: a backend with a name."""

    @property
    def node(self) -> Node | None:
        """What it uses; None for nothing."""


class Graph:
    """All nodes of one machine."""

    def __init__(
        self,
        process: Process,
        runstate: RunState,
        named: Mapping[str, NamedUser],
        *,
        objects: Objects,
        fdsets: Fdsets,
        yank: Yank,
    ) -> None:
        """`named`: who uses nodes and has a name of its own, which no node can have."""
        self.process = process
        self.runstate = runstate
        self.objects = objects
        self.fdsets = fdsets
        self.yank = yank
        self._named = named
        #: name -> node, in the order the names were given
        self.nodes: dict[str, Node] = {}
        self._automatic = 0
        #: connections to NBD servers that wait for the node that wants them, or why there are none
        self.connections: dict[str, NbdClientConnection | QapiError] = {}
        #: how throttle groups hold requests back
        self.throttling = ThrottleGroups(process, objects)
        #: how accesses wait for servers
        self.waiting = Waiting()
        #: files that are gone with the process (-snapshot)
        self.temporary = MemoryFiles()
        #: whether a test program controls the machine
        self.under_qtest: Callable[[], bool] = lambda: False
        #: whether any node has ever been told what comes about above it (blkdebug)
        self.has_listeners = False
        #: called with each node that is about to go
        self.on_closing: list[Callable[[Node], None]] = []
        #: called with each node that has gone
        self.on_closed: list[Callable[[Node], None]] = []

    @property
    def files(self) -> FileSystem:
        """Where images are."""
        return self.process.host.files

    # -- finding -----------------------------------------------------------------------------

    def find(self, name: str) -> Node | None:
        """The node called `name`."""
        return self.nodes.get(name)

    def named(self, name: str) -> Node:
        """The node called `name`. Raises QapiError as commands do that take only node names."""
        node = self.nodes.get(name)
        if node is None:
            raise QapiError(f"Failed to find node with node-name='{name}'")
        return node

    def lookup(self, device: str | None, node_name: str | None) -> Node:
        """The node of a backend, or by name. Raises QapiError."""
        if device is not None:
            user = self._named.get(device)
            if user is not None:
                if user.node is None:
                    raise QapiError(f"Device '{device}' has no medium")
                return user.node
        if node_name is not None:
            found = self.find(node_name)
            if found is not None:
                return found
        raise QapiError(
            f"Cannot find device='{device or ''}' nor node-name='{node_name or ''}'"
        )

    def root(self, name: str) -> Node:
        """The node that a user's `device` argument means, which has to be a root."""
        node = self.lookup(name, name).skip_implicit()
        if not self.is_root(node):
            raise QapiError("Need a root block node")
        if not inserted(node):
            raise QapiError("Device has no medium")
        return node

    @staticmethod
    def is_root(node: Node) -> bool:
        """Whether none but backends use it: block/block-backend.c: bdrv_is_root_node()."""
        return all(edge.name == "root" for edge in node.parents)

    # -- names -------------------------------------------------------------------------------

    def check_name(self, name: str | None) -> None:
        """Raise QapiError if no new node can be called `name`."""
        from fakeqemu.qapi.readers.scalars import is_identifier

        if name is None:
            return
        if not is_identifier(name):
            raise QapiError(f"Invalid node-name: '{name}'")
        if name in self._named:
            raise QapiError(f"node-name={name} is conflicting with a device id")
        if name in self.nodes:
            raise QapiError(f"Duplicate nodes with node-name='{name}'")
        if len(c_bytes(name)) > 31:
            raise QapiError("Node name too long")

    def enter(self, node: Node, name: str | None) -> None:
        """Give a node its name. Raises QapiError."""
        self.check_name(name)
        node.name = name if name is not None else self._free_name()
        self.nodes[node.name] = node

    def _free_name(self) -> str:
        number = self._automatic
        self._automatic += 1
        return f"#block{number}{number * 37 % 100:02d}"

    # -- linking -----------------------------------------------------------------------------

    @staticmethod
    def check_cycle(parent: Node, name: str, node: Node) -> None:
        """Whether `node` can be a child of `parent`. Raises QapiError.

        See block.c: bdrv_attach_child_noperm().
        """
        if parent is node or (parent.parents and parent in node.subtree()):
            raise QapiError(
                f"Making '{node.name}' a {name} child of '{parent.name}' would create a cycle"
            )

    def check_active(self, edge: Edge) -> None:
        """Whether a node's child to be may be inactive, if it is. Raises QapiError.

        See block.c: bdrv_attach_child_noperm().
        """
        parent = edge.parent
        if not self._refuses_users(edge.node) or not isinstance(parent, Node):
            return
        if not parent.inactive:
            raise QapiError(
                f"Inactive '{edge.node.name}' can't be a {edge.name} child of active"
                f" '{parent.name}'"
            )
        wanted = parent.driver.child_permissions(parent, edge, *cumulative(parent.parents))
        self._check_inactive_user(wanted[0])

    def _refuses_users(self, node: Node) -> bool:
        return node.inactive and self.process.profile.traits.inactive_children_checked

    def _check_inactive_user(self, perm: int) -> None:
        """See block.c: bdrv_attach_child_common()."""
        if perm & ~perms.CONSISTENT_READ:
            raise QapiError(f"Permission '{perms.names_of(perm)}' unavailable on inactive node")

    def attach(self, parent: Node, name: str, node: Node, role: frozenset[str]) -> Edge:
        """Make `node` a child of `parent`. Raises QapiError."""
        self.check_cycle(parent, name, node)
        edge = Edge(parent, name, node, role=role)
        self.check_active(edge)
        leave_iothread = node.join_iothread(parent)

        def take_back() -> None:
            self.unlink(edge)
            leave_iothread()

        attempt(lambda: self.link(edge), take_back, [parent, node])
        return edge

    def link(self, edge: Edge) -> None:
        """Enter an edge, permissions left for later."""
        if isinstance(edge.parent, Node):
            edge.parent.children[edge.name] = edge
        edge.node.parents.append(edge)

    def unlink(self, edge: Edge) -> None:
        """Take an edge out, permissions left for later."""
        if isinstance(edge.parent, Node):
            del edge.parent.children[edge.name]
        edge.node.parents.remove(edge)

    def use(
        self,
        user: User,
        name: str,
        node: Node,
        perm: int = 0,
        shared: int = perms.ALL,
        *,
        stays: bool = False,
    ) -> Edge:
        """An edge from what is no node; `stays` when the node is replaced. Raises QapiError."""
        if self._refuses_users(node):
            self._check_inactive_user(perm)
        edge = Edge(user, name, node, perm=perm, shared=shared, stays=stays)
        attempt(lambda: self.link(edge), lambda: self.unlink(edge), [node])
        return edge

    def set_permissions(self, edge: Edge, perm: int, shared: int) -> None:
        """Let a user want and share something else. Raises QapiError."""
        before = edge.perm, edge.shared

        def put(values: tuple[int, int]) -> None:
            edge.perm, edge.shared = values

        attempt(lambda: put((perm, shared)), lambda: put(before), [edge.node])

    def detach(self, edge: Edge) -> None:
        """Remove an edge, and the nodes that are then unreferenced."""
        if edge not in edge.node.parents:
            return
        self.unlink(edge)
        roots = [edge.node]
        if isinstance(edge.parent, Node):
            roots.append(edge.parent)
        Update(roots, follow=True).run()
        self.collect()

    def redirect(self, edges: list[Edge], to: Node) -> None:
        """Let edges lead to another node. Raises QapiError."""
        before = [(edge, edge.node, edge.node.parents.index(edge)) for edge in edges]

        def change() -> None:
            for edge in edges:
                edge.node.parents.remove(edge)
                edge.node = to
                to.parents.append(edge)

        def take_back() -> None:
            for edge, old, index in before:
                to.parents.remove(edge)
                edge.node = old
                old.parents.insert(index, edge)

        for edge in edges:
            if edge.frozen:
                raise QapiError(
                    f"Cannot change frozen '{edge.name}' link from '{edge.user_name}'"
                    f" to '{edge.node.name}'"
                )
        attempt(change, take_back, [to, *{id(b[1]): b[1] for b in before}.values()])

    def replace(self, old: Node, new: Node) -> None:
        """Put `new` where `old` is, for all who use `old` but `new` itself. Raises QapiError."""
        inside = {id(node) for node in new.subtree()}
        edges = [e for e in old.parents if id(e.parent) not in inside and not e.stays]
        self.redirect(edges, new)

    def append(self, new: Node, old: Node, name: str, role: frozenset[str]) -> None:
        """Put `new` on top of `old`, for all who use `old`. Raises QapiError."""
        self.check_cycle(new, name, old)
        edge = Edge(new, name, old, role=role)
        self.check_active(edge)
        inside = {id(node) for node in new.subtree()}
        edges = [e for e in old.parents if id(e.parent) not in inside and not e.stays]

        def change() -> None:
            self.link(edge)
            for each in edges:
                old.parents.remove(each)
                each.node = new
                new.parents.append(each)

        def take_back() -> None:
            self.unlink(edge)
            for each in edges:
                new.parents.remove(each)
                each.node = old
                old.parents.append(each)
            leave_iothread()

        for each in edges:
            if each.frozen:
                raise QapiError(
                    f"Cannot change frozen '{each.name}' link from '{each.user_name}'"
                    f" to '{old.name}'"
                )
        leave_iothread = new.join_iothread(old)
        attempt(change, take_back, [new])
        self.backing_changed(new)

    def drop_filter(self, node: Node, child: Edge) -> None:
        """Take a filter out: its users get what is below. Raises QapiError."""
        below, users = child.node, list(node.parents)

        def change() -> None:
            self.unlink(child)
            for each in users:
                node.parents.remove(each)
                each.node = below
                below.parents.append(each)

        def take_back() -> None:
            for each in users:
                below.parents.remove(each)
                each.node = node
                node.parents.append(each)
            self.link(child)

        attempt(change, take_back, [node, below])

    def backing_changed(self, node: Node) -> None:
        """What lies under `node` is now in use as its backing image."""
        edge = node.cow_edge
        if edge is not None:
            edge.node.unblock(edge)
            user = node.name if node.refs else node.device_or_name
            edge.node.block(
                edge,
                f"node is used as backing hd of '{user}'",
                except_for=("commit-target", "stream", "backup-source", "backup-target"),
            )

    # -- going ---------------------------------------------------------------------------------

    @contextmanager
    def referenced(self, *nodes: Node) -> Iterator[None]:
        """Keep nodes while an operation is under way."""
        for node in nodes:
            node.refs += 1
        try:
            yield
        finally:
            for node in nodes:
                node.refs -= 1
            self.collect()

    def collect(self) -> None:
        """Close every unreferenced node."""
        while True:
            unused = [
                node
                for node in self.nodes.values()
                if not node.parents and not node.monitor_owned and not node.refs
            ]
            if not unused:
                return
            for node in unused:
                self._close(node)

    def _close(self, node: Node) -> None:
        edges = list(node.children.values())
        for call in tuple(self.on_closing):
            call(node)
        node.driver.close(node)
        for edge in edges:
            edge.node.unblock(edge)
            node.leave_alone(edge)
            self.unlink(edge)
        del self.nodes[node.name]
        Update([edge.node for edge in edges], follow=True).run()
        for call in tuple(self.on_closed):
            call(node)
