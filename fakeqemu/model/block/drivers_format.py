"""Image formats: raw, which adds nothing to its file, and qcow2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block import driver as base
from fakeqemu.model.block import permissions as perms
from fakeqemu.model.block import qcow2snapshots
from fakeqemu.model.block.driver import HOLE, ZERO, Driver, Range, driver
from fakeqemu.model.block.qcow2 import Qcow2
from fakeqemu.model.block.qcow2header import CORRUPT, EXTERNAL_DATA, LAZY_REFCOUNTS
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.node import Edge, Node

_SECTOR = 512
_WRITING = perms.WRITE | perms.RESIZE

#: qcow2 options that tune caches and checks, which nothing here has
_QCOW2_TUNING = (
    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
    "discard-no-unref", "overlap-check", "cache-size", "l2-cache-size",
    "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval", "keep-data-file-open",
)  # fmt: skip
_CACHE_SIZES = ("cache-size", "l2-cache-size", "refcount-cache-size")


@driver
class Raw(Driver):
    """The file as it is, or a window of it."""

    name = "raw"
    supports_create = True
    has_info = True
    role = frozenset({perms.FILTERED, perms.PRIMARY})
    strong = ("offset", "size")
    mutable = ("offset", "size")

    offset = 0
    size: int | None = None

    def child_role(self, options: dict[str, Any]) -> frozenset[str]:
        """With a window the file is data of ours; without it is ourselves."""
        if "offset" in options or "size" in options:
            return frozenset({perms.DATA, perms.PRIMARY})
        return self.role

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Check the window. Raises QapiError."""
        super().open(node, options)
        offset, size = options.pop("offset", None), options.pop("size", None)
        if offset is None and size is None:
            return
        self._window(node, offset or 0, size)

    def _window(self, node: Node, offset: int, size: int | None) -> None:
        assert node.file is not None
        real = base.length(node.file)
        if offset > real:
            raise QapiError(
                f"Offset ({offset}) cannot be greater than"
                f" size of the containing file ({real})"
            )
        if size is not None and real - offset < size:
            raise QapiError(
                f"The sum of offset ({offset}) and size ({size}) has to be smaller or equal to"
                f" the  actual size of the containing file ({real})"
            )
        if size is not None and size % _SECTOR:
            raise QapiError(f"Specified size is not multiple of {_SECTOR}")
        self.offset, self.size = offset, size
        if size is None:
            self.size = -(-(real - offset) // _SECTOR) * _SECTOR if offset else None

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Callable[[], None]:
        """Another window."""
        offset, size = options.pop("offset", None), options.pop("size", None)

        def commit() -> None:
            self.offset, self.size = 0, None
            if offset is not None or size is not None:
                self._window(node, offset or 0, size)
            for name, value in (("offset", offset), ("size", size)):
                node.options.pop(name, None)
                if value is not None:
                    node.options[name] = value

        if offset is not None or size is not None:
            before = self.offset, self.size
            self._window(node, offset or 0, size)
            self.offset, self.size = before
        return commit

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int
    ) -> tuple[int, int]:
        """Write only when somebody above does."""
        wanted, left = super().child_permissions(node, edge, perm, shared)
        return wanted & ~_WRITING | perm & _WRITING, left

    def length(self, node: Node) -> int:
        """The window's size, or the file's."""
        if self.size is not None:
            return self.size
        return super().length(node) - self.offset

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """Out of the window."""
        return super().read(node, offset + self.offset, count)

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Into the window."""
        assert node.file is not None
        base.write(node.file, offset + self.offset, data)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """In the window."""
        assert node.file is not None
        base.zero(node.file, offset + self.offset, count)

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:
        """As the file says."""
        for piece in super().status(node, start + self.offset, end + self.offset):
            yield Range(piece.offset - self.offset, piece.length, piece.kind)

    def truncate(self, node: Node, size: int) -> None:
        """Change the file's size. Raises QapiError."""
        if self.size is not None:
            raise QapiError("Cannot resize fixed-size raw disks")
        assert node.file is not None
        base.truncate(node.file, size + self.offset)

    def knows_info(self, node: Node) -> bool:
        """If the file does."""
        return node.file is not None and node.file.driver.knows_info(node.file)

    def limits(self, node: Node) -> dict[str, Any]:
        """Those of the file."""
        assert node.file is not None
        found = node.file.driver.limits(node.file)
        return {**found, "request-alignment": _SECTOR} if node.probed else found


class NodeStore:
    """The file of a qcow2 node, as the format's tables see it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def size(self) -> int:
        """Bytes in it."""
        return base.length(self._node)

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes, zeros beyond the end."""
        inside = max(0, min(count, self.size() - offset))
        data = base.read(self._node, offset, inside) if inside else b""
        return data + bytes(count - len(data))

    def write(self, offset: int, data: bytes) -> None:
        """Write."""
        base.write(self._node, offset, data)

    def zero(self, offset: int, count: int) -> None:
        """Zeros."""
        self._node.driver.zero(self._node, offset, count)

    def truncate(self, size: int) -> None:
        """Change its size."""
        base.truncate(self._node, size)


@driver
class Qcow2Driver(Driver):
    """QEMU's own format."""

    name = "qcow2"
    supports_backing = True
    supports_create = True
    supports_snapshots = True
    packs = True
    has_info = True
    mutable = _QCOW2_TUNING

    image: Qcow2
    snapshots: list[qcow2snapshots.Snapshot]

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Read header and tables. Raises QapiError."""
        super().open(node, options)
        assert node.file is not None
        self.image = Qcow2(NodeStore(node.file))
        header = self.image.header
        if header.incompatible & CORRUPT and not node.read_only:
            raise QapiError("qcow2: Image is corrupt; cannot be opened read/write")
        if header.crypt_method:
            raise NotModelledError("encrypted qcow2 images")
        if header.incompatible & EXTERNAL_DATA:
            raise NotModelledError("qcow2 images with an external data file")
        self._tune(options)
        if options.pop("data-file", None) is not None:
            raise QapiError(
                "'data-file' can only be set for images with an external data file"
            )
        if options.pop("encrypt", None) is not None:
            raise QapiError("No encryption in image header, but options specified format 'aes'")
        node.backing_file = node.auto_backing_file = header.backing_file
        node.backing_format = header.backing_format
        self.snapshots = qcow2snapshots.load(self.image)
        from fakeqemu.model.block.bitmapstore import load_bitmaps

        load_bitmaps(node, self.image)

    def _tune(self, options: dict[str, Any]) -> None:
        sizes = {name: options[name] for name in _CACHE_SIZES if name in options}
        if len(sizes) == len(_CACHE_SIZES):
            raise QapiError(
                "cache-size, l2-cache-size and refcount-cache-size"
                " may not be set at the same time"
            )
        if "cache-size" in sizes:
            for name in _CACHE_SIZES[1:]:
                if sizes.get(name, 0) > sizes["cache-size"]:
                    raise QapiError(f"{name} may not exceed cache-size")
        entry = options.get("l2-cache-entry-size")
        if entry is not None and (entry & entry - 1 or not 512 <= entry <= self.image.cluster):
            raise QapiError(
                "L2 cache entry size must be a power of two between 512"
                f" and the cluster size ({self.image.cluster})"
            )
        if options.get("lazy-refcounts") and self.image.header.version < 3:
            raise QapiError(
                "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level"
            )
        for name in _QCOW2_TUNING:
            options.pop(name, None)

    def close(self, node: Node) -> None:
        """Persistent bitmaps go into the image."""
        self.store_bitmaps(node)

    def activated(self, node: Node) -> None:
        """Read header and tables anew."""
        from fakeqemu.model.block.bitmapstore import load_bitmaps

        assert node.file is not None
        self.image = Qcow2(NodeStore(node.file))
        self.snapshots = qcow2snapshots.load(self.image)
        node.bitmaps[:] = [b for b in node.bitmaps if not b.stored or b.skip_store]
        load_bitmaps(node, self.image)
        for bitmap in node.bitmaps:
            bitmap.skip_store = False

    def store_bitmaps(self, node: Node) -> None:
        """Write persistent bitmaps, if the image can be written."""
        from fakeqemu.model.block.bitmapstore import store_bitmaps

        if not node.read_only and not node.inactive:
            store_bitmaps(node, self.image)

    def prepare_reopen(
        self, node: Node, options: dict[str, Any]  # noqa: ARG002
    ) -> Callable[[], None]:
        """Tuning only."""
        self._tune(options)
        return lambda: None

    # -- data ----------------------------------------------------------------------------------

    def _fill(self, node: Node) -> Callable[[int, int], bytes]:
        below = node.backing

        def fill(offset: int, count: int) -> bytes:
            if below is None:
                return bytes(count)
            inside = max(0, min(count, base.length(below) - offset))
            data = base.read(below, offset, inside) if inside else b""
            return data + bytes(count - len(data))

        return fill

    def length(self, node: Node) -> int:  # noqa: ARG002
        """What the header says."""
        return self.image.header.size

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """Out of clusters, and of the backing image."""
        return self.image.read(offset, count, self._fill(node))

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Into clusters."""
        self.image.write(offset, data, self._fill(node))

    def write_compressed(self, node: Node, offset: int, data: bytes) -> None:
        """Into compressed clusters. Raises QapiError."""
        cluster = self.image.cluster
        if offset % cluster or (len(data) % cluster and offset + len(data) < self.length(node)):
            raise QapiError("Invalid argument")
        if any(piece.kind != HOLE for piece in self.image.status(offset, offset + len(data))):
            raise base.BlockIoError  # compressed clusters replace nothing
        if self.image.header.compression:
            raise NotModelledError("zstd compressed clusters")
        self.image.write_compressed(offset, data, self._fill(node))

    def discard(self, node: Node, offset: int, count: int) -> None:
        """Whole clusters read as zeros, and their place is free."""
        cluster = self.image.cluster
        first = -(-offset // cluster) * cluster
        end = offset + count
        if end < self.length(node):
            end = end // cluster * cluster
        if first >= end:
            return
        if node.backing is None and self.image.header.version < 3:
            self.image.discard(first, end)
            return
        for piece in list(self.image.status(first, end)):
            if piece.kind != HOLE or node.backing is not None:
                self.image.zero(piece.offset, piece.length, self._fill(node))

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Clusters marked as zeros; old images without a backing image need that for used ones."""
        if node.backing is None and self.image.header.version < 3:
            for piece in list(self.image.status(offset, offset + count)):
                if piece.kind not in (HOLE, ZERO):
                    self.image.zero(piece.offset, piece.length, self._fill(node))
            return
        self.image.zero(offset, count, self._fill(node))

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:
        """As the tables say."""
        for piece in self.image.status(start, end):
            if piece.kind == HOLE and node.backing is None:
                yield Range(piece.offset, piece.length, HOLE)
            else:
                yield piece

    def truncate(self, node: Node, size: int) -> None:
        """Another size for the guest. Raises QapiError."""
        grown = size > self.image.header.size
        before = self.image.header.size
        self.image.truncate(size)
        below = node.backing
        if grown and below is not None and base.length(below) > before:
            self.image.zero(before, size - before, self._fill(node))

    # -- what it shows ---------------------------------------------------------------------------

    def cluster_size(self, node: Node) -> int:  # noqa: ARG002
        """The header's."""
        return self.image.cluster

    def specific(self, node: Node) -> dict[str, Any] | None:
        """ImageInfoSpecificQCow2."""
        header = self.image.header
        data: dict[str, Any] = {
            "compat": "1.1" if header.version >= 3 else "0.10",
            "compression-type": "zstd" if header.compression else "zlib",
            "refcount-bits": 1 << header.refcount_order,
        }
        if header.version >= 3:
            data["lazy-refcounts"] = bool(header.compatible & LAZY_REFCOUNTS)
            data["corrupt"] = bool(header.incompatible & CORRUPT)
            data["extended-l2"] = self.image.extended
        kept = [b for b in node.bitmaps if b.stored]
        if kept:
            data["bitmaps"] = [b.stored_info() for b in kept]
        return {"type": "qcow2", "data": data}

    def limits(self, node: Node) -> dict[str, Any]:
        """The file's, and clusters for zeros."""
        cluster = self.image.cluster
        return {
            **super().limits(node),
            "discard-alignment": cluster,
            "write-zeroes-alignment": cluster,
        }

    def write_backing(self, node: Node, file: str, format: str) -> None:
        """Into the header."""
        self.image.set_backing(file, format)
        node.backing_file, node.backing_format = file, format
        node.auto_backing_file = file
