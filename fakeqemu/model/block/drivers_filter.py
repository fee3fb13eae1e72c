"""Filters: nodes that pass on what is below, and do something on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block import driver as base
from fakeqemu.model.block import permissions as perms
from fakeqemu.model.block.driver import Driver, driver
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph import Graph
    from fakeqemu.model.block.node import Edge, Node

FILTER_ROLE = frozenset({perms.FILTERED, perms.PRIMARY})


class Filter(Driver):
    """A filter over its child `file`."""

    is_filter = True
    role = FILTER_ROLE
    #: options that change nothing here
    ignored: tuple[str, ...] = ()

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Take the options that change nothing."""
        super().open(node, options)
        for name in self.ignored:
            options.pop(name, None)

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Callable[[], None]:  # noqa: ARG002
        """Nothing to change."""
        for name in self.ignored:
            options.pop(name, None)
        return lambda: None

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Pass on."""
        base.write(self._below(node), offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Pass on."""
        base.zero(self._below(node), offset, count)

    def discard(self, node: Node, offset: int, count: int) -> None:
        """Pass on."""
        base.discard(self._below(node), offset, count)

    def write_compressed(self, node: Node, offset: int, data: bytes) -> None:
        """Pass on."""
        base.write_compressed(self._below(node), offset, data)


@driver
class Throttle(Filter):
    """Limits of a throttle group."""

    name = "throttle"
    strong = ("throttle-group",)

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Join the group. Raises QapiError."""
        super().open(node, options)
        group = options.pop("throttle-group", None)
        if group is None:
            raise QapiError("Please specify a throttle group")
        self._check(group)
        self.throttle_group = group

    def _check(self, group: str) -> None:
        if group not in self.graph.backends.throttle_groups():
            raise QapiError(f"Throttle group '{group}' does not exist")

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Callable[[], None]:
        """Another group."""
        group = options.pop("throttle-group", self.throttle_group)
        self._check(group)

        def commit() -> None:
            self.throttle_group = group
            node.options["throttle-group"] = group

        return commit


@driver
class CopyOnRead(Filter):
    """What is read is written into the image."""

    name = "copy-on-read"
    ignored = ("bottom",)
    strong = ("bottom",)

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Check where copying ends. Raises QapiError."""
        bottom = options.get("bottom")
        super().open(node, options)
        if bottom is None:
            return
        found = self.graph.find(bottom)
        if found is None:
            raise QapiError(f"Bottom node '{bottom}' not found")
        if found.driver.is_filter:
            raise QapiError(f"Bottom node '{bottom}' is a filter")
        assert node.file is not None
        if found not in list(node.file.chain()):
            raise QapiError(f"Node '{bottom}' is not in the backing chain")

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int  # noqa: ARG002
    ) -> tuple[int, int]:
        """Copies need to be written."""
        wanted = perm & ~perms.WRITE_UNCHANGED
        if not node.inactive:
            wanted |= perms.WRITE_UNCHANGED
        return wanted, shared | perms.WRITE_UNCHANGED


@driver
class Compress(Filter):
    """What is written is compressed."""

    name = "compress"

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Only over what can write compressed clusters. Raises QapiError."""
        super().open(node, options)
        below = self._below(node)
        if not below.driver.compresses(below):
            raise QapiError(
                f"Compression is not supported for underlying format: {below.driver.name}"
            )

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Pass on, compressed."""
        base.write_compressed(self._below(node), offset, data)

    def limits(self, node: Node) -> dict[str, Any]:
        """Whole clusters only."""
        found = super().limits(node)
        cluster = self.cluster_size(node)
        if cluster:
            found.pop("write-zeroes-alignment", None)
            found["request-alignment"] = cluster
        return found


@driver
class Preallocate(Filter):
    """Files grow ahead of writes."""

    name = "preallocate"
    ignored = ("prealloc-align", "prealloc-size")


@driver
class CopyBeforeWrite(Filter):
    """What is about to be overwritten is kept in another node."""

    name = "copy-before-write"
    #: what has been kept, in units of `cluster`
    kept: set[int]
    cluster = 65536
    #: told how many bytes were kept by a write; a job counts them
    on_kept: Callable[[int], None] | None = None
    ignored = ("bitmap", "on-cbw-error", "cbw-timeout", "min-cluster-size")

    def exact_filename(self, node: Node) -> str | None:
        """That of what is below."""
        return self._below(node).exact_filename

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.kept = set()

    def keep(self, node: Node, offset: int, count: int) -> None:
        """Copy what is about to be overwritten, once. Raises QapiError."""
        from fakeqemu.model.block.jobs import copying

        source, target = self._below(node), node.children["target"].node
        size = base.length(source)
        last = -(-min(offset + count, size) // self.cluster)
        for unit in range(offset // self.cluster, last):
            if unit in self.kept:
                continue
            self.kept.add(unit)
            at = unit * self.cluster
            end = min(at + self.cluster, size)
            for piece in base.status_above(source, None, at, end):
                copying.copy(source, target, piece)
            if self.on_kept is not None:
                self.on_kept(end - at)

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Keep, then pass on."""
        self.keep(node, offset, len(data))
        super().write(node, offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Keep, then pass on."""
        self.keep(node, offset, count)
        super().zero(node, offset, count)

    def discard(self, node: Node, offset: int, count: int) -> None:
        """Keep, then pass on."""
        self.keep(node, offset, count)
        super().discard(node, offset, count)

    def read_kept(self, node: Node, offset: int, count: int) -> bytes:
        """The state at the time when the filter came."""
        source, target = self._below(node), node.children["target"].node
        out = bytearray()
        while count:
            step = min(self.cluster - offset % self.cluster, count)
            where = target if offset // self.cluster in self.kept else source
            out += base.read(where, offset, step)
            offset, count = offset + step, count - step
        return bytes(out)

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Open the target. Raises QapiError."""
        from fakeqemu.model.block.opener import open_node

        target = open_node(self.graph, options.pop("target"), parent=node)
        self.graph.attach(node, "target", target, frozenset({perms.DATA}))
        bitmap = options.get("bitmap")
        if bitmap is not None:
            owner = self.graph.lookup(None, bitmap["node"])
            if all(b.name != bitmap["name"] for b in owner.bitmaps):
                raise QapiError(f"Dirty bitmap '{bitmap['name']}' not found")
        super().open(node, options)

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int
    ) -> tuple[int, int]:
        """Nobody may write behind the filter; the target is ours to write."""
        if edge.name == "target":
            return perms.WRITE, perms.CONSISTENT_READ | perms.WRITE | perms.WRITE_UNCHANGED
        wanted, left = super().child_permissions(node, edge, perm, shared)
        if perm & perms.WRITE:
            wanted |= perms.CONSISTENT_READ
        return wanted, left & ~(perms.WRITE | perms.RESIZE)


@driver
class SnapshotAccess(Driver):
    """What a copy-before-write node keeps, to be read."""

    name = "snapshot-access"
    role = frozenset({perms.DATA, perms.PRIMARY})

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Only for reading. Raises QapiError."""
        super().open(node, options)

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """What was there when the copy-before-write node came. Raises QapiError."""
        below = self._below(node)
        if not isinstance(below.driver, CopyBeforeWrite):
            raise QapiError("Operation not supported")
        return below.driver.read_kept(below, offset, count)

    def write(self, node: Node, offset: int, data: bytes) -> None:  # noqa: ARG002
        """Not to be written. Raises QapiError."""
        raise QapiError("Operation not supported")

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int  # noqa: ARG002
    ) -> tuple[int, int]:
        """Share all."""
        return perms.CONSISTENT_READ, perms.ALL


class JobFilter(Filter):
    """What a job puts on top of its source; not for blockdev-add."""

    first_child = None
    #: what it leaves to others and wants where the guest writes through it
    own_permissions: tuple[int, int] | None = None

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Nothing to open."""

    def exact_filename(self, node: Node) -> str | None:
        """That of what is below."""
        return self._below(node).exact_filename

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int
    ) -> tuple[int, int]:
        """As the job needs."""
        if self.own_permissions is not None:
            return self.own_permissions
        return super().child_permissions(node, edge, perm, shared)


class MirrorTop(JobFilter):
    """A mirror's, or an active commit's: sees the guest's writes."""

    name = "mirror_top"
    is_commit = False
    stopped = False
    #: told of every range the guest writes through it
    written: Callable[[int, int], None] | None = None

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Pass on, and tell the job."""
        super().write(node, offset, data)
        if self.written is not None:
            self.written(offset, len(data))

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Pass on, and tell the job."""
        super().zero(node, offset, count)
        if self.written is not None:
            self.written(offset, count)

    def discard(self, node: Node, offset: int, count: int) -> None:
        """Pass on, and tell the job."""
        super().discard(node, offset, count)
        if self.written is not None:
            self.written(offset, count)

    def exact_filename(self, node: Node) -> str | None:
        """Whatever is shown for the image below, a file name or not."""
        edge = node.filtered_edge
        return edge.node.filename if edge is not None else None

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int  # noqa: ARG002
    ) -> tuple[int, int]:
        """What users want goes through; a commit must not ask its own source to be steady."""
        if self.stopped:
            return 0, perms.ALL
        if self.is_commit:
            return perm & ~perms.CONSISTENT_READ, shared | perms.WRITE
        return perm, shared


class CommitTop(JobFilter):
    """An intermediate commit's: keeps the source from being written."""

    name = "commit_top"

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int  # noqa: ARG002
    ) -> tuple[int, int]:
        """Want nothing, share all: the job has its own edges."""
        return 0, perms.ALL
