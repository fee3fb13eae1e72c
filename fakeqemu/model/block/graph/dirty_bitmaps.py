"""Dirty bitmaps: which parts of a node were written since some moment.

See block/dirty-bitmap.c: bdrv_create_dirty_bitmap(), bdrv_dirty_bitmap_check() and
bdrv_merge_dirty_bitmap().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.formats.intervals import Intervals
from fakeqemu.model.block.drivers import base
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.model.block.graph.node import Node

_LONGEST_NAME = 1023
_SMALLEST, _LARGEST_DEFAULT, _SMALLEST_DEFAULT = 512, 65536, 4096
#: most bytes of bits that a digest is made of (as many as an image may hold), and at a time
_MOST_DIGESTED, _PIECE = 0x20000000, 1 << 20


class Bitmap:
    """One bitmap; bits are kept as intervals of dirty grains."""

    def __init__(self, node: Node, name: str | None, granularity: int, size: int) -> None:
        self.node = node
        self.name = name
        self.granularity = granularity
        self.size = size
        self.persistent = False
        self.enabled = True
        #: in use by a job or an export
        self.busy = False
        self.inconsistent = False
        self.read_only = False
        #: whether the image holds a copy of it
        self.stored = False
        self._grains = Intervals()
        #: called after the guest's writes that it records: a job follows them
        self.on_mark: Callable[[], None] | None = None
        #: it has gone along with a migration: the image is not to have it any more
        self.skip_store = False

    # -- bits --------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Dirty bytes."""
        total = self._grains.total * self.granularity
        last = (self.size - 1) // self.granularity if self.size else -1
        if last in self._grains and self.size % self.granularity:
            total -= self.granularity - self.size % self.granularity
        return total

    def mark(self, offset: int, count: int) -> None:
        """The range was written."""
        if self.enabled and count:
            self.add(offset, count)
            if self.on_mark is not None:
                self.on_mark()

    def add(self, offset: int, count: int) -> None:
        """Make a range dirty."""
        first, last = offset // self.granularity, (offset + count - 1) // self.granularity
        self._grains.add(first, last + 1)

    def add_grains(self, grains: Intervals) -> None:
        """Make grains dirty."""
        for first, end in grains:
            self._grains.add(first, end)

    def remove(self, first: int, end: int) -> None:
        """Grains from `first` to below `end` are not dirty any more."""
        self._grains.remove(first, end)

    def clear(self) -> Intervals:
        """Nothing is dirty; gives the grains that were, for `restore`."""
        before, self._grains = self._grains, Intervals()
        return before

    def restore(self, grains: Intervals) -> None:
        """Put back what `clear` gave."""
        self._grains = grains

    def copy_bits(self) -> Intervals:
        """The dirty grains."""
        return self._grains.copy()

    def ranges(self, offset: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """Offset and length of what is dirty from `offset` to below `end`, or that of the node."""
        end = self.size if end is None else min(end, self.size)
        grain = self.granularity
        # what is made dirty or clean in the meantime does not change what is given
        for first, last in list(self._grains.within(offset // grain, -(-end // grain))):
            begin = max(first * grain, offset)
            yield begin, min(last * grain, end) - begin

    def merge(self, other: Bitmap) -> None:
        """Make dirty what is dirty in `other`."""
        if other.granularity == self.granularity:
            self._grains |= other._grains
            return
        for offset, count in other.ranges():
            self.add(offset, count)

    def resize(self, size: int) -> None:
        """The node has another size."""
        self._grains.clip(-(-size // self.granularity))
        self.size = size

    def sha256(self) -> str:
        """Digest of the bits in words of 64, as QEMU's lowest level keeps them."""
        import hashlib

        grains = -(-self.size // self.granularity)
        size = -(-grains // 64) * 8
        if size > _MOST_DIGESTED:
            raise NotModelledError(f"the digest of a bitmap of more than {_MOST_DIGESTED} bytes")
        digest = hashlib.sha256()
        for at in range(0, size, _PIECE):
            digest.update(self._grains.to_bits(at * 8, min(_PIECE, size - at)))
        return digest.hexdigest()

    # -- what it shows -------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """BlockDirtyInfo."""
        found: dict[str, Any] = {"name": self.name} if self.name is not None else {}
        found.update(
            {
                "granularity": self.granularity,
                "count": self.count,
                "recording": self.enabled,
                "busy": self.busy,
                "persistent": self.persistent and not self.skip_store,
            }
        )
        if self.inconsistent:
            found["inconsistent"] = True
        return found

    def stored_info(self) -> dict[str, Any]:
        """Qcow2BitmapInfo."""
        flags = ["in-use"]
        if self.enabled:
            flags.append("auto")
        return {"name": self.name, "granularity": self.granularity, "flags": flags}

    def check(self, *, busy: bool = True, inconsistent: bool = True, ro: bool = True) -> None:
        """Raise QapiError if the bitmap is busy, read-only or inconsistent.

        See bdrv_dirty_bitmap_check().
        """
        if busy and self.busy:
            raise QapiError(
                f"Bitmap '{self.name}' is currently in use by another operation"
                " and cannot be used"
            )
        if ro and self.read_only:
            raise QapiError(f"Bitmap '{self.name}' is readonly and cannot be modified")
        if inconsistent and self.inconsistent:
            raise QapiError(
                f"Bitmap '{self.name}' is inconsistent and cannot be used",
                "Try block-dirty-bitmap-remove to delete this bitmap from disk",
            )


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
    strict = graph.vm.profile.traits.bitmaps_need_writable_node
    if persistent and strict and (node.read_only or node.inactive):
        raise QapiError(
            f"Cannot add a persistent bitmap to read-only or inactive node '{node.name}'"
        )
    bitmap = create(node, name, granularity)
    bitmap.persistent = persistent
    bitmap.enabled = not disabled
    return bitmap


def check_removable(bitmap: Bitmap) -> None:
    """Raise QapiError if the bitmap has to stay."""
    node = bitmap.node
    strict = node.driver.graph.vm.profile.traits.bitmaps_need_writable_node
    bitmap.check(inconsistent=False, ro=not strict)
    if strict and bitmap.persistent and (node.read_only or node.inactive):
        raise QapiError(
            f"Cannot remove persistent bitmap '{bitmap.name}': no write access to node"
            f" '{node.name}'"
        )


def remove(bitmap: Bitmap) -> None:
    """Take a bitmap away."""
    bitmap.node.bitmaps.remove(bitmap)


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
        bitmap.check(ro=False)
        if bitmap.size != target.size:
            raise QapiError(
                f"Bitmaps are of different sizes (destination size is {target.size},"
                f" source size is {bitmap.size}) and can't be merged"
            )
        found.append(bitmap)
    for bitmap in found:
        target.merge(bitmap)
    return before
