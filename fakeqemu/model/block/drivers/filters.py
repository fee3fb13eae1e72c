"""Filters: nodes that pass on what is below, and do something on the way.

See block/throttle.c: throttle_open(); block/filter-compress.c: compress_open();
block/copy-on-read.c: cor_open(); block/preallocate.c: preallocate_open().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.formats.extents import BlockIoError, Range
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import Driver, Reopening, driver
from fakeqemu.model.block.graph import allocation, permissions as perms
from fakeqemu.model.block.graph.filenames import exact_filename, filename
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers import qemu_opts

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.graph.node import Edge, Node

_SECTOR = 512
#: of a file that is preallocated
_USUAL_ALIGN, _USUAL_AHEAD = 1 << 20, 128 << 20
FILTER_ROLE = frozenset({perms.FILTERED, perms.PRIMARY})


class FilterDriver(Driver):
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

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """Bytes of the child. Raises BlockIoError."""
        return base.read(self._below(node), offset, count)

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Write to the child. Raises BlockIoError."""
        base.write(self._below(node), offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Write zeros to the child. Raises BlockIoError."""
        base.zero(self._below(node), offset, count)

    def discard(self, node: Node, offset: int, count: int) -> None:
        """Discard in the child."""
        base.discard(self._below(node), offset, count)

    def write_compressed(self, node: Node, offset: int, data: bytes) -> None:
        """Pass on."""
        base.write_compressed(self._below(node), offset, data)


@driver
class Throttle(FilterDriver):
    """Limits of a throttle group."""

    name = "throttle"
    strong = ("throttle-group",)
    reopens = True
    flushes_below = ("file",)

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Join the group. Raises QapiError."""
        super().open(node, options)
        group = options.pop("throttle-group", None)
        if group is None:
            raise QapiError("Please specify a throttle group")
        self._check(group)
        self.throttle_group = group

    def _check(self, group: str) -> None:
        if group not in self.graph.throttling.names():
            raise QapiError(f"Throttle group '{group}' does not exist")

    def delay(self, count: int, *, writes: bool) -> int:
        """As the group's buckets have it once the request has passed."""
        return self.graph.throttling.pass_through(self.throttle_group, count, writes=writes)

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Reopening:  # noqa: ARG002
        """Another group."""
        group = options.pop("throttle-group")
        self._check(group)

        def commit() -> None:
            self.throttle_group = group

        return Reopening(commit)


@driver
class CopyOnRead(FilterDriver):
    """What is read is written into the image. See block/copy-on-read.c."""

    name = "copy-on-read"
    is_opened = True
    strong = ("bottom",)

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        #: the lowest image whose data is copied; None: that of all
        self.bottom: Node | None = None
        self._frozen: list[Edge] = []

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Find where copying ends, and keep the chain down to there. Raises QapiError."""
        bottom = options.pop("bottom", None)
        super().open(node, options)
        if bottom is None:
            return
        found = self.graph.find(bottom)
        if found is None:
            raise QapiError(f"Bottom node '{bottom}' not found")
        if found.driver.is_filter:
            raise QapiError(f"Bottom node '{bottom}' is a filter")
        assert node.file is not None
        chain = list(node.chain())
        if found not in chain:
            raise QapiError(f"Node '{bottom}' is not in the backing chain")
        self.bottom = found
        for each in chain[: chain.index(found)]:
            edge = each.chain_edge
            assert edge is not None
            edge.frozen += 1
            self._frozen.append(edge)

    def close(self, node: Node) -> None:
        """Let the chain go."""
        for edge in self._frozen:
            edge.frozen -= 1
        self._frozen.clear()
        super().close(node)

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """Copy what is only below, then read. See block/copy-on-read.c: cor_co_preadv_part()."""
        below = self._below(node)
        for piece in self._wanted(below, offset, offset + count):
            allocation.copy_up(below, piece.offset, piece.length)
        return base.read(below, offset, count)

    def _wanted(self, below: Node, offset: int, end: int) -> Iterator[Range]:
        end = min(end, base.length(below))
        bottom = self.bottom
        if bottom is None:
            yield Range(offset, end - offset, extents.HOLE)
            return
        # a hole seen from above without what the bottom has below it is nobody's data
        lower = bottom.backing_chain_next()
        for piece in base.status(below, offset, end):
            if piece.kind == extents.HOLE:
                found = base.status_above(below, lower, piece.offset, piece.end, holes=True)
                yield from (each for each in found if each.kind != extents.HOLE)

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int  # noqa: ARG002
    ) -> tuple[int, int]:
        """Copies need to be written."""
        wanted = perm & ~perms.WRITE_UNCHANGED
        if not node.inactive:
            wanted |= perms.WRITE_UNCHANGED
        return wanted, shared | perms.WRITE_UNCHANGED


@driver
class Compress(FilterDriver):
    """Driver `compress`: writes clusters compressed. See block/filter-compress.c."""

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
class Preallocate(FilterDriver):
    """Files grow ahead of writes, and lose what was not written when nobody writes any more.

    See block/preallocate.c: handle_write(), preallocate_truncate_to_real_size() and
    preallocate_co_truncate().
    """

    name = "preallocate"
    reopens = True
    mutable = ("prealloc-align", "prealloc-size")
    flushes_below = ("file",)
    _align, _ahead = _USUAL_ALIGN, _USUAL_AHEAD
    #: where the file's data end, and the file; below 0: as long as the file says
    _data_end = _file_end = -1

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """How much is to be there. Raises QapiError."""
        super().open(node, options)
        self._take(node, options)

    def _take(self, node: Node, options: dict[str, Any]) -> None:
        align = self._size(options, "prealloc-align", _USUAL_ALIGN)
        ahead = self._size(options, "prealloc-size", _USUAL_AHEAD)
        unit = self._below(node).driver.limits(self._below(node))["request-alignment"]
        if align % _SECTOR:
            raise QapiError(
                f"prealloc-align parameter of preallocate filter is not aligned to {_SECTOR}"
            )
        if align % unit:
            raise QapiError(
                "prealloc-align parameter of preallocate filter is not aligned to underlying"
                f" node request alignment ({unit})"
            )
        # 0: to nothing
        self._align, self._ahead = align or 1, ahead

    def _size(self, options: dict[str, Any], name: str, usual: int) -> int:
        given = options.pop(name, None)
        if given is None:
            return usual
        return qemu_opts.parse_size(name, str(given), self.graph.process.profile.traits)

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Reopening:
        """Other sizes; a file that is written no more is as long as its data."""
        before = self._align, self._ahead
        self._take(node, options)
        if node.read_only:
            self._shorten(node)

        def abort() -> None:
            self._align, self._ahead = before

        return Reopening(abort=abort)

    def close(self, node: Node) -> None:
        """The file is as long as its data."""
        with suppress(QapiError):
            self._shorten(node)

    def _shorten(self, node: Node) -> None:
        if 0 <= self._data_end < self._file_end:
            base.truncate(self._below(node), self._data_end)
        self._data_end = self._file_end = -1

    def length(self, node: Node) -> int:
        """That of the data."""
        return self._data_end if self._data_end >= 0 else super().length(node)

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Have more of the file than is needed now."""
        self._reach(node, offset + len(data))
        super().write(node, offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Have more of the file than is needed now."""
        self._reach(node, offset + count)
        super().zero(node, offset, count)

    def _reach(self, node: Node, end: int) -> None:
        if self._data_end < 0:
            self._data_end = self._file_end = super().length(node)
        if end <= self._data_end:
            return
        self._data_end = end
        if end <= self._file_end:
            return
        start = -(-self._file_end // self._align) * self._align
        stop = -(-(max(start, end) + self._ahead) // self._align) * self._align
        try:
            base.zero(self._below(node), start, stop - start)
        except BlockIoError:
            self._file_end = end  # as far as the request itself makes it
        else:
            self._file_end = stop

    def truncate(self, node: Node, size: int, prealloc: str = "off") -> None:
        """The file itself; what was there beforehand is given up. Raises QapiError."""
        self._shorten(node)
        super().truncate(node, size, prealloc)


class JobFilter(FilterDriver):
    """What a job puts on top of its source; not for blockdev-add."""

    first_child = None
    #: what it leaves to others and wants where the guest writes through it
    own_permissions: tuple[int, int] | None = None

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Nothing to open."""

    def exact_filename(self, node: Node) -> str | None:
        """That of what is below."""
        return exact_filename(self._below(node))

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
    never_freeze = True
    flushes_below = ("backing",)
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
        return filename(edge.node) if edge is not None else None

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
    never_freeze = True

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int  # noqa: ARG002
    ) -> tuple[int, int]:
        """Want nothing, share all: the job has its own edges."""
        return 0, perms.ALL
