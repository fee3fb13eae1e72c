"""A block node and the edges that lead to it.

See include/block/block_int-common.h: BlockDriverState and BdrvChild.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.drivers.driver import Driver
    from fakeqemu.model.block.graph.bitmap import Bitmap


class User(Protocol):
    """Who has an edge to a node and is none itself: a backend or a job."""

    @property
    def description(self) -> str:
        """How a permission conflict names it."""

    @property
    def device_name(self) -> str:
        """The name that its node goes by; empty for none."""

    @property
    def keeps_iothread(self) -> bool:
        """Whether what it uses has to stay in its I/O thread."""


class Edge:
    """One use of a node."""

    def __init__(
        self,
        parent: Node | User,
        name: str,
        node: Node,
        *,
        role: frozenset[str] = frozenset(),
        perm: int = 0,
        shared: int = perms.ALL,
        stays: bool = False,
    ) -> None:
        self.parent = parent
        #: `file`, `backing`, `root`, `main node`, ...
        self.name = name
        self.node = node
        self.role = role
        self.perm = perm
        self.shared = shared
        #: whether it leads to the same node when that is replaced for all who use it
        self.stays = stays
        #: why the edge may not lead elsewhere now (a job below); the job's blocker counts
        self.frozen = 0

    @property
    def user(self) -> str:
        """The parent as a permission conflict names it."""
        if isinstance(self.parent, Node):
            return f"node '{self.parent.name}'"
        return self.parent.description

    @property
    def user_name(self) -> str:
        """The parent's name where it is a node."""
        return self.parent.name if isinstance(self.parent, Node) else self.parent.description


class Node:
    """One node of the graph: a driver with options, children and users."""

    def __init__(self, driver: Driver, options: dict[str, Any]) -> None:
        self.driver = driver
        #: the driver's own plain options
        self.options = options
        #: texts of switches among them that were given as such
        self.spelled: dict[str, str] = {}
        #: what it was opened with, as a flat object with children left out; and that with what
        #: it has from its parent and by default
        self.explicit_options: dict[str, Any] = {}
        self.all_options: dict[str, Any] = {}
        self.name = ""
        self.children: dict[str, Edge] = {}
        #: oldest first
        self.parents: list[Edge] = []
        #: permissions all users want, and leave to others
        self.perm, self.shared = 0, perms.ALL
        #: whether its format was guessed
        self.probed = False
        #: whether the driver got as far as having something to close
        self.opened = False
        self.read_only = False
        #: whether a reopen under way makes it read-only
        self.turning_read_only = False
        self.auto_read_only = False
        self.cache_direct = False
        #: how files are read where their options do not say: BDRV_O_NATIVE_AIO, BDRV_O_IO_URING
        self.aio = "threads"
        self.cache_no_flush = False
        self.detect_zeroes = "off"
        self.discard = "ignore"
        self.force_share = False
        self.copy_on_read = 0
        #: whether another process owns the image (before an incoming migration is done)
        self.inactive = False
        #: made by a job for itself, and left out of names of files
        self.implicit = False
        #: whether blockdev-add made it and blockdev-del may take it away
        self.monitor_owned = False
        #: the node whose options this one follows
        self.inherits_from: Node | None = None
        #: the iothread object whose thread does its I/O; None: the main loop's
        self.iothread: str | None = None
        self.bitmaps: list[Bitmap] = []
        #: offset beyond which a write is an event; 0: none
        self.write_threshold = 0
        #: operation -> why it is refused now
        self.blockers: dict[str, list[tuple[object, str]]] = {}
        #: what -snapshot made: the file goes with the node
        self.temporary = False
        #: file name given where it differs from what can be told from options
        self.backing_file = ""
        self.backing_format = ""
        #: the backing file the image's header names, made absolute
        self.auto_backing_file = ""
        #: how many writes there were, and how many of them are known to be on disk
        self.write_gen = self.flushed_gen = 0
        #: highest offset ever written
        self.highest_write = 0
        #: held by an operation under way
        self.refs = 0

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.driver.name}>"

    # -- around it ---------------------------------------------------------------------------

    @property
    def file(self) -> Node | None:
        """The child with its data."""
        edge = self.children.get("file")
        return edge.node if edge is not None else None

    @property
    def backing(self) -> Node | None:
        """The child below a copy-on-write or filter node that has one by that name."""
        edge = self.children.get("backing")
        return edge.node if edge is not None else None

    @property
    def primary(self) -> Node | None:
        """The child that holds the guest's data."""
        for edge in self.children.values():
            if perms.PRIMARY in edge.role:
                return edge.node
        return None

    @property
    def filtered_edge(self) -> Edge | None:
        """A filter's child."""
        if not self.driver.is_filter:
            return None
        return next((e for e in self.children.values() if perms.FILTERED in e.role), None)

    @property
    def cow_edge(self) -> Edge | None:
        """The edge to the backing image."""
        edge = self.children.get("backing")
        return edge if edge is not None and perms.COW in edge.role else None

    @property
    def cow(self) -> Node | None:
        """The backing image."""
        edge = self.cow_edge
        return edge.node if edge is not None else None

    @property
    def chain_edge(self) -> Edge | None:
        """The edge to what is below in the chain: a filter's child or the backing image."""
        return self.filtered_edge or self.cow_edge

    @property
    def below(self) -> Node | None:
        """What is below in the chain."""
        edge = self.chain_edge
        return edge.node if edge is not None else None

    def chain(self) -> Iterator[Node]:
        """This node and all below it in the chain."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.below

    def skip_filters(self) -> Node:
        """The first node below, or this, that is no filter."""
        return self.filters_and_image()[-1]

    def filters_and_image(self) -> list[Node]:
        """This node, and while that is a filter what it filters."""
        found = [self]
        while (edge := found[-1].filtered_edge) is not None:
            found.append(edge.node)
        return found

    def skip_implicit(self) -> Node:
        """The first node that is not a job's own filter."""
        node = self
        while node.implicit and (edge := node.filtered_edge) is not None:
            node = edge.node
        return node

    def backing_chain_next(self) -> Node | None:
        """The next image below, filters left out."""
        below = self.skip_filters().cow
        return below.skip_filters() if below is not None else None

    def subtree(self) -> Iterator[Node]:
        """This node and all below it, each once."""
        seen = {id(self)}
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            for edge in reversed(node.children.values()):
                if id(edge.node) not in seen:
                    seen.add(id(edge.node))
                    waiting.append(edge.node)

    # -- which thread does its I/O -------------------------------------------------------------

    def move_to(
        self, iothread: str | None, *, asked_by: User | None = None
    ) -> Callable[[], None]:
        """Let another thread do the I/O of it and of all that is linked to it; what undoes it.

        `asked_by`: who uses it and wants that. Raises QapiError.

        See block.c: bdrv_try_change_aio_context(); block/block-backend.c:
        blk_root_change_aio_ctx().
        """
        found: dict[int, Node] = {}
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if id(node) in found or node.iothread == iothread:
                continue
            found[id(node)] = node
            for edge in node.parents:
                if isinstance(edge.parent, Node):
                    waiting.append(edge.parent)
                elif edge.parent.keeps_iothread and edge.parent is not asked_by:
                    raise QapiError("Cannot change iothread of active block backend")
            waiting.extend(edge.node for edge in node.children.values())
        before = [(node, node.iothread) for node in found.values()]
        for node in found.values():
            node.iothread = iothread

        def take_back() -> None:
            for node, old in before:
                node.iothread = old

        return take_back

    def join_iothread(self, parent: Node) -> Callable[[], None]:
        """Be in one thread with who is about to use it, in either's; what undoes it.

        Raises QapiError. See block.c: bdrv_attach_child_common() and
        bdrv_attach_child_common_abort().
        """
        try:
            return self.move_to(parent.iothread)
        except QapiError as error:
            try:
                return parent.move_to(self.iothread)
            except QapiError:
                raise error from None

    # -- whose options it follows --------------------------------------------------------------

    def follows(self, above: Node) -> bool:
        """Whether it was opened with `above`, or with what was opened with that."""
        here: Node | None = self
        while here is not None and here is not above:
            here = here.inherits_from
        return here is not None

    def leave_alone(self, edge: Edge) -> list[Node]:
        """Let nothing below a child that goes follow this node any more; which did.

        See block.c: bdrv_unset_inherits_from().
        """
        elsewhere = {id(each.node) for each in self.children.values() if each is not edge}
        found = [
            node
            for node in edge.node.subtree()
            if node.inherits_from is self and id(node) not in elsewhere
        ]
        for node in found:
            node.inherits_from = None
        return found

    # -- operations that may be refused --------------------------------------------------------

    def block(self, owner: object, reason: str, except_for: tuple[str, ...] = ()) -> None:
        """Refuse all operations but some with `reason` until `unblock(owner)`."""
        for operation in OPERATIONS:
            if operation not in except_for:
                self.blockers.setdefault(operation, []).insert(0, (owner, reason))

    def unblock(self, owner: object) -> None:
        """Take back what `owner` refused."""
        for reasons in self.blockers.values():
            reasons[:] = [entry for entry in reasons if entry[0] is not owner]

    def check_operation(self, operation: str) -> None:
        """Raise QapiError if `operation` is refused now."""
        reasons = self.blockers.get(operation)
        if reasons:
            raise QapiError(f"Node '{self.device_or_name}' is busy: {reasons[0][1]}")

    @property
    def device_name(self) -> str:
        """The name of the backend on it; empty if that has none."""
        for edge in self.parents:
            if not isinstance(edge.parent, Node) and edge.parent.device_name:
                return edge.parent.device_name
        for edge in self.parents:
            if isinstance(edge.parent, Node) and edge.parent.implicit:
                return edge.parent.device_name
        return ""

    @property
    def device_or_name(self) -> str:
        """How texts name it."""
        return self.device_name or self.name


#: operations that users may refuse
OPERATIONS = (
    "backup-source", "backup-target", "change", "commit-source", "commit-target",
    "drive-del", "eject", "external-snapshot", "internal-snapshot", "internal-snapshot-delete",
    "mirror-source", "mirror-target", "resize", "stream", "replace",
)  # fmt: skip
