"""What a block driver is: the part of a node that differs between file, qcow2, throttle, ...

A driver object belongs to one node. What it does not say is said here once: a filter passes
everything to its child, a format asks its file.

See include/block/block_int-common.h: BlockDriver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.extents import Range, check_length
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.graph.node import Edge, Node

#: limits that a format takes over from its file
_PASSED_ON = (
    "request-alignment", "min-mem-alignment", "opt-mem-alignment", "max-iov", "max-transfer",
    "opt-transfer",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reopening:
    """What a driver does once nothing refuses a reopen any more, or if something does."""

    commit: Callable[[], None] = lambda: None
    abort: Callable[[], None] = lambda: None


class Driver:
    """One node's driver."""

    #: as blockdev-add calls it
    name = ""
    is_filter = False
    #: whether images can be made and used; otherwise only wrong ones are refused
    modelled = True
    #: whether it reaches data by itself, with no node below
    is_protocol = False
    #: whether a protocol's requests take their time
    waits = True
    #: whether a file name can begin with its name and a colon
    in_file_names = False
    #: whether a file name that comes with the driver stands for options
    parses_filename = False
    supports_backing = False
    supports_create = False
    #: whether `event` is of any use to it
    takes_events = False
    #: False in place of a driver whose image turned out to be damaged
    has_medium = True
    #: whether it writes compressed clusters
    packs = False
    #: whether query-named-block-nodes can say that the image is not dirty
    has_info = False
    #: the child opened before anything else is looked at; None: no such child
    first_child: str | None = "file"
    #: what that child is to the node
    role: frozenset[str] = perms.IMAGE
    #: options that decide what the guest sees, so that a file name has to carry them
    strong: tuple[str, ...] = ()
    #: whether blockdev-reopen can name it
    reopens = False
    #: options that blockdev-reopen may leave out, and so set back
    mutable: tuple[str, ...] = ()
    #: whether a job opens it with options, as bdrv_insert_node() does
    is_opened = False
    #: whether no other job may keep the link to it from being changed
    never_freeze = False
    #: children that are flushed in place of the node: it has nothing itself, and tells of no event
    flushes_below: tuple[str, ...] = ()
    #: the option that lists its children, of which any number can be; empty: they have names
    child_list = ""
    #: the throttle group that the node has joined; empty: none
    throttle_group = ""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    # -- life --------------------------------------------------------------------------------

    def open(self, node: Node, options: dict[str, Any]) -> None:  # noqa: ARG002
        """Take the driver's own options out of `options` and get ready. Raises QapiError."""
        if self.first_child is not None and self.first_child not in node.children:
            raise QapiError(f'A block device must be specified for "{self.first_child}"')

    def child_role(self, options: dict[str, Any]) -> frozenset[str]:  # noqa: ARG002
        """What the first child is to the node that is opened with these options."""
        return self.role

    def close(self, node: Node) -> None:
        """The node goes."""

    def remove_bitmap(self, node: Node, name: str) -> None:
        """A persistent bitmap goes: what is stored of it, too. Raises BlockIoError."""

    def activated(self, node: Node) -> None:
        """The image is ours; another process may have written to it until now."""

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Reopening:  # noqa: ARG002
        """Check new options, and take those out that can be other ones. Raises QapiError.

        The node's flags are the new ones already; what is left has to be as before.
        """
        return Reopening()

    # -- permissions -------------------------------------------------------------------------

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int
    ) -> tuple[int, int]:
        """What the node wants of a child and leaves to others there."""
        writable = not node.read_only and not node.inactive
        return perms.default_child(
            edge.role, perm, shared, writable=writable, inactive=node.inactive
        )

    def check_permissions(self, node: Node, perm: int, shared: int) -> None:
        """Whether the driver can give these; image locks. Raises QapiError."""

    def settle(self, node: Node) -> None:
        """The node's permissions went back to what they were."""

    # -- data --------------------------------------------------------------------------------

    def _below(self, node: Node) -> Node:
        below = node.primary
        if below is None:
            edge = node.filtered_edge
            assert edge is not None
            below = edge.node
        return below

    def length(self, node: Node) -> int:
        """The guest's view of its size."""
        below = self._below(node)
        return below.driver.length(below)

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """`count` bytes, backing images included."""
        below = self._below(node)
        return below.driver.read(below, offset, count)

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Write `data`."""
        below = self._below(node)
        below.driver.write(below, offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Make a range read as zeros."""
        below = self._below(node)
        below.driver.zero(below, offset, count)

    def compresses(self, node: Node) -> bool:
        """Whether it, or what it filters, can write compressed clusters."""
        edge = node.filtered_edge
        return self.packs or (edge is not None and edge.node.driver.compresses(edge.node))

    def write_compressed(self, node: Node, offset: int, data: bytes) -> None:  # noqa: ARG002
        """Write `data` compressed. Raises QapiError."""
        raise QapiError("Operation not supported")

    def discard(self, node: Node, offset: int, count: int) -> None:
        """Forget a range, if that is of any use."""

    def event(self, name: str) -> None:
        """What happens at a point that QEMU's tests can hang rules on; blkdebug listens."""

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:
        """What the range is at this layer, piece by piece."""
        below = self._below(node)
        return below.driver.status(below, start, end)

    def truncate(self, node: Node, size: int, prealloc: str = "off") -> None:
        """Change its size. Raises QapiError."""
        if not self.is_filter:
            raise QapiError("Image format driver does not support resize")
        check_length(size)
        below = self._below(node)
        below.driver.truncate(below, size, prealloc)

    def flush_to_os(self, node: Node) -> None:
        """Write what is kept back of the image's own tables. Raises BlockIoError."""

    def flush_to_disk(self, node: Node) -> None:
        """Have what was written on disk; children are flushed anyway. Raises BlockIoError."""

    def delay(self, count: int, *, writes: bool) -> int:  # noqa: ARG002
        """How many nanoseconds it makes a job wait for a request of `count` bytes."""
        return 0

    def when_idle(self, node: Node, call: Callable[[], None]) -> bool:  # noqa: ARG002
        """Whether writes are still under way; `call` is then called when they are done."""
        return False

    # -- children that come and go ---------------------------------------------------------------

    def can_replace(self, node: Node, other: Node) -> bool:
        """Whether a copy of `node` can be put where `other` is: below it there are filters only.

        See block.c: bdrv_recurse_can_replace().
        """
        edge = node.filtered_edge
        return node is other or (
            edge is not None and edge.node.driver.can_replace(edge.node, other)
        )

    def add_child(self, node: Node, child: Node) -> None:  # noqa: ARG002
        """Have another child. Raises QapiError."""
        raise QapiError(f"The node {node.device_or_name} does not support adding a child")

    def remove_child(self, node: Node, edge: Edge) -> None:  # noqa: ARG002
        """Have a child no more. Raises QapiError."""
        raise QapiError(f"The node {node.device_or_name} does not support removing a child")

    # -- what it shows -----------------------------------------------------------------------

    def exact_filename(self, node: Node) -> str | None:  # noqa: ARG002
        """Its own file name; "" for none, None where the child's will do."""
        return None

    def significant_options(self, node: Node) -> dict[str, Any]:
        """The options a file name has to carry."""
        return {name: node.options[name] for name in self.strong if name in node.options}

    def allocated(self, node: Node) -> int | None:
        """Bytes on disk; None if that is unknown."""
        total: int | None = None
        for edge in node.children.values():
            if edge.role & {perms.DATA, perms.METADATA, perms.FILTERED}:
                found = edge.node.driver.allocated(edge.node)
                if found is None:
                    return None
                total = (total or 0) + found
        return total

    def cluster_size(self, node: Node) -> int:
        """The size of its clusters; 0 for none."""
        edge = node.filtered_edge
        return edge.node.driver.cluster_size(edge.node) if edge is not None else 0

    def knows_info(self, node: Node) -> bool:
        """Whether it, or what it filters, can tell about itself."""
        edge = node.filtered_edge
        return self.has_info or (edge is not None and edge.node.driver.knows_info(edge.node))

    def encrypted(self) -> bool:
        """Whether what it keeps is encrypted."""
        return False

    def specific(self, node: Node) -> dict[str, Any] | None:  # noqa: ARG002
        """ImageInfoSpecific."""
        return None

    def statistics(self, node: Node) -> dict[str, Any] | None:  # noqa: ARG002
        """BlockStatsSpecific."""
        return None

    def limits(self, node: Node) -> dict[str, Any]:
        """BlockLimitsInfo."""
        edge = node.filtered_edge
        below = node.primary or (edge.node if edge is not None else None)
        if below is not None:
            found = merged_limits(below)
            if not self.is_filter:
                found = {k: found[k] for k in _PASSED_ON if k in found}
            return found
        return {
            "request-alignment": 1,
            "min-mem-alignment": 512,
            "opt-mem-alignment": 4096,
            "max-iov": 1024,
        }

    # -- backing images and snapshots --------------------------------------------------------

    def write_backing(self, node: Node, file: str, format: str) -> None:  # noqa: ARG002
        """Write into the image's header which its backing image is. Raises QapiError."""
        raise QapiError("Operation not supported")

    def parse_filename(self, filename: str, others: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Options that a file name of this protocol stands for; `others` are given beside it."""
        return {"filename": filename}


def merged_limits(below: Node) -> dict[str, Any]:
    """What a node takes over of the limits of the one below: block/io.c: bdrv_merge_limits()."""
    own = ("max-discard", "max-write-zeroes")
    return {k: v for k, v in below.driver.limits(below).items() if k not in own}


D = TypeVar("D", bound=type[Driver])

#: module of this package -> the drivers in it
_MODULES = {
    "blkdebug": ("blkdebug",),
    "blkverify": ("blkverify",),
    "copy_before_write": ("copy-before-write", "snapshot-access"),
    "filters": ("compress", "copy-on-read", "preallocate", "throttle"),
    "foreign": (
        "bochs", "cloop", "dmg", "luks", "parallels", "qcow", "qed", "vdi", "vhdx", "vpc", "vmdk",
    ),
    "nbd.driver": ("nbd",),
    "null": ("null-aio", "null-co"),
    "protocol": ("file", "host_cdrom", "host_device"),
    "qcow2.driver": ("qcow2",),
    "quorum": ("quorum",),
    "raw": ("raw",),
}  # fmt: skip


class DriverTable(Mapping[str, type[Driver]]):
    """Every modelled driver by name; its module is imported on first use."""

    def __init__(self) -> None:
        self._places = {name: module for module, names in _MODULES.items() for name in names}
        self._imported: dict[str, type[Driver]] = {}

    def add(self, kind: type[Driver]) -> None:
        """Called by its module. KeyError for one that is in none of the table's."""
        assert kind.__module__.endswith(f".{self._places[kind.name]}"), kind
        self._imported[kind.name] = kind

    def __getitem__(self, name: str) -> type[Driver]:
        if name not in self._imported:
            import_module(f"fakeqemu.model.block.drivers.{self._places[name]}")
        return self._imported[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


DRIVERS = DriverTable()


def driver(kind: D) -> D:
    """Register a driver class."""
    DRIVERS.add(kind)
    return kind


def inserted(node: Node) -> bool:
    """Whether there is a medium, in the node and in all below: bdrv_is_inserted()."""
    return all(each.driver.has_medium for each in node.subtree())


# -- points in the life of a request that QEMU's tests hang rules on -------------------------------


def debug_event(node: Node, name: str) -> None:
    """Tell the first blkdebug at or below a node what has come about.

    See block.c: bdrv_co_debug_event().
    """
    listener = listener_below(node)
    if listener is not None:
        listener.event(name)


def listener_below(node: Node) -> Driver | None:
    """Whose `event` is to be called for what comes about at a node."""
    if not node.driver.graph.has_listeners:
        return None
    here: Node | None = node
    while here is not None and not here.driver.takes_events:
        here = here.primary
    return here.driver if here is not None else None
