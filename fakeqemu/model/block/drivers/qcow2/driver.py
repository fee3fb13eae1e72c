"""qcow2 images as nodes of the graph; the format is in `formats.qcow2`.

See block/qcow2.c: qcow2_open(), qcow2_co_create() and qcow2_close().
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.formats.extents import HOLE, ZERO, Range
from fakeqemu.formats.qcow2 import (
    check as qcow2check,
    options as qcow2options,
    snapshots as qcow2snapshots,
)
from fakeqemu.formats.qcow2.bitmap_directory import read_directory
from fakeqemu.formats.qcow2.header import (
    BITMAPS,
    CORRUPT,
    DIRTY,
    LAZY_REFCOUNTS,
    RAW_DATA,
)
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.tables import QCowSnapshot
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import (
    Driver,
    Reopening,
    debug_event,
    driver,
    listener_below,
)
from fakeqemu.model.block.drivers.qcow2.no_medium import NoMedium
from fakeqemu.model.block.drivers.qcow2.stores import SECTOR, ChildStore
from fakeqemu.model.block.graph import persistent_bitmaps as persistent
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.formats.luks import LuksHeader
    from fakeqemu.model.block.graph.node import Node


@driver
class Qcow2Driver(Driver):
    """QEMU's own format."""

    name = "qcow2"
    supports_backing = True
    supports_create = True
    packs = True
    has_info = True
    reopens = True
    mutable = qcow2options.NAMES

    image: Qcow2
    #: what the image is encrypted with, and the options that say how
    _luks: LuksHeader | None = None
    _encrypt: dict[str, Any] | None = None

    @property
    def snapshots(self) -> list[QCowSnapshot]:
        """The image's internal snapshots, oldest first."""
        return self.image.snapshots

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Look at the header and what it leads to. Raises QapiError.

        The order is that of block/qcow2.c: qcow2_do_open().
        """
        super().open(node, options)
        self._open_image(node, options)
        node.backing_file = node.auto_backing_file = self.image.header.backing_file
        node.backing_format = self.image.header.backing_format

    def _open_image(self, node: Node, options: dict[str, Any]) -> None:
        assert node.file is not None
        writable = not node.read_only
        encrypt = self._encrypt = options.get("encrypt") or self._encrypt

        def event(name: str) -> None:
            below = node.file
            if below is not None:
                debug_event(below, name)

        def prepare(image: Qcow2) -> None:
            image.event = event
            qcow2options.take(image, options, unmap=node.discard == "unmap")

        self.image = image = Qcow2(ChildStore(node), writable=writable, prepare=prepare)
        image.say = self.graph.process.host.say
        image.active = lambda: not node.inactive
        image.on_corrupt = functools.partial(self._corrupt, node)
        header = image.header
        if image.external or header.autoclear & RAW_DATA or "data-file" in options:
            # few have one
            from fakeqemu.model.block.drivers.qcow2.data_file import open_data_file

            open_data_file(self.graph, node, image, options)
        self._luks = None
        if header.crypto is not None:
            from fakeqemu.model.block.drivers.qcow2.encryption import open_encrypted

            self._luks = open_encrypted(self.graph, image, encrypt)
        image.open_rest()
        qcow2snapshots.load(image)
        mine = writable and not node.inactive
        stale = header.stale or bool(header.autoclear & ~(BITMAPS | RAW_DATA))
        if stale and writable:
            header.autoclear &= BITMAPS | RAW_DATA
        if not node.inactive:
            persistent.load_bitmaps(node, image)
        try:
            if stale and mine:
                image.write_header()
        except extents.BlockIoError as error:
            raise error.prefixed("Could not update qcow2 header: ") from None
        if mine and header.incompatible & DIRTY:
            try:
                qcow2check.repair(image)
            except extents.BlockIoError as error:
                raise error.prefixed("Could not repair dirty image: ") from None

    def _corrupt(self, node: Node, text: str, fatal: bool, offset: int, size: int) -> None:
        """BLOCK_IMAGE_CORRUPTED; a node that must not be used any more has no medium then."""
        data: dict[str, Any] = {"device": node.device_name}
        if node.name:
            data["node-name"] = node.name
        data["msg"] = text
        if offset >= 0:
            data["offset"] = offset
        if size >= 0:
            data["size"] = size
        self.graph.process.events.emit("BLOCK_IMAGE_CORRUPTED", {**data, "fatal": fatal})
        if fatal:
            node.driver = NoMedium(self)

    def close(self, node: Node) -> None:
        """Tables and persistent bitmaps go into the image."""
        if node.inactive or not self.image.writable:
            return
        warn = self.graph.process.host.warn
        try:
            self.image.flush()
        except extents.BlockIoError:
            if node.driver is not self:
                return  # it has turned out to be damaged
        try:
            self.store_bitmaps(node)
        except QapiError as error:
            warn(
                "Lost persistent bitmaps during inactivation of node"
                f" '{node.device_or_name}': {error.desc}"
            )
        failed = False
        for name, cache in (
            ("L2 table", self.image.l2_cache), ("refcount block", self.image.refcounts.cache),
        ):  # fmt: skip
            try:
                if not self.image.dead:
                    cache.flush()
                    base.flush(node.children["file"].node)
            except extents.BlockIoError as error:
                warn(f"Failed to flush the {name} cache: {error.desc}")
                failed = True
        if not failed:
            with suppress(extents.BlockIoError):
                self.image.mark_clean()

    def flush_to_os(self, node: Node) -> None:
        """Write the tables. Raises BlockIoError."""
        if not node.inactive and self.image.writable:
            self.image.flush()

    def activated(self, node: Node) -> None:
        """Read header and tables again."""
        node.bitmaps[:] = [b for b in node.bitmaps if not b.stored or b.skip_store]
        self._open_image(node, dict(node.options))
        for bitmap in node.bitmaps:
            bitmap.skip_store = False

    def store_bitmaps(self, node: Node) -> None:
        """Write persistent bitmaps, if the image can be written, and have them no longer."""
        if not node.read_only and not node.inactive:
            persistent.store_bitmaps(node, self.image, release=True)

    def remove_bitmap(self, node: Node, name: str) -> None:
        """Out of the image. Raises BlockIoError."""
        if not node.read_only and not node.inactive:
            persistent.remove_stored(self.image, name)

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Reopening:
        """Tuning; what the image is to hold is written before it may not be any more."""
        image = self.image
        lazy, was_writable = image.lazy, image.writable
        qcow2options.take(image, options, unmap=node.discard == "unmap")
        if lazy and not image.lazy and was_writable:
            image.mark_clean()
        stored = node.read_only and was_writable and not node.inactive
        if stored:
            image.flush()
            persistent.reopen_read_only(node, image)
            image.flush()
            image.mark_clean()

        def commit() -> None:
            image.writable = not node.read_only
            image.l2_cache.clear()
            image.refcounts.cache.clear()
            if image.writable and not node.inactive:
                persistent.reopen_writable(node, image)

        def abort() -> None:
            if stored:
                persistent.reopen_writable(node, image)

        return Reopening(commit, abort)

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
        if listener_below(node) is not None:
            pieces = self.image.status(offset, offset + count)
            if any(piece.kind == extents.DATA for piece in pieces):
                debug_event(node, "read_aio")
        return self.image.read(offset, count, self._fill(node))

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Into clusters."""
        debug_event(node, "write_aio")
        self.image.write(offset, data, self._fill(node))

    def write_compressed(self, node: Node, offset: int, data: bytes) -> None:
        """Into compressed clusters. Raises QapiError."""
        cluster = self.image.cluster
        if offset % cluster or (len(data) % cluster and offset + len(data) < self.length(node)):
            raise QapiError("Invalid argument")
        if self.image.external:
            raise extents.BlockIoError(os.strerror(errno.ENOTSUP))
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
        first, end = self._zero_clusters(node, offset, offset + count)
        self.image.zero(first, end - first, self._fill(node))

    def _zero_clusters(self, node: Node, start: int, end: int) -> tuple[int, int]:
        """A range widened to clusters of which nothing else is to be read but zeros.

        See block/qcow2.c: qcow2_co_pwrite_zeroes().
        """
        cluster, size = self.image.cluster, self.length(node)
        first, last = start // cluster * cluster, min(-(-end // cluster) * cluster, size)
        if first < start and self._reads_zeros(node, first, min(first + cluster, size)):
            start = first
        if end < last and self._reads_zeros(node, (last - 1) // cluster * cluster, last):
            end = last
        return start, end

    def _reads_zeros(self, node: Node, start: int, end: int) -> bool:
        if any(piece.kind == extents.DATA for piece in self.image.status(start, end)):
            return False
        return all(piece.kind == ZERO for piece in base.status_above(node, None, start, end))

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:
        """As the tables say."""
        for piece in self.image.status(start, end):
            if piece.kind == HOLE and node.backing is None:
                yield Range(piece.offset, piece.length, HOLE)
            else:
                yield piece

    def truncate(self, node: Node, size: int, prealloc: str = "off") -> None:  # noqa: ARG002
        """Another size for the guest; no command preallocates it. Raises QapiError."""
        grown = size > self.image.header.size
        before = self.image.header.size
        self.image.writer.resize(size)
        below = node.backing
        if grown and below is not None and base.length(below) > before:
            self.image.zero(before, size - before, self._fill(node))

    def encrypted(self) -> bool:
        """Whether its data are."""
        return self._luks is not None

    # -- what it shows ---------------------------------------------------------------------------

    def cluster_size(self, node: Node) -> int:  # noqa: ARG002
        """The header's."""
        return self.image.cluster

    def vm_state_offset(self) -> int:
        """Where the machine's state begins: after what the first-level table needs for the disk.

        See block/qcow2.h: qcow2_vm_state_offset().
        """
        covered = self.image.cluster * self.image.l2_entries
        return -(-self.image.header.size // covered) * covered

    def specific(self, node: Node) -> dict[str, Any] | None:  # noqa: ARG002
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
            if self._luks is not None:
                data["encrypt"] = {"format": "luks", **self._luks.info()}
            if self.image.external:
                if header.data_file:
                    data["data-file"] = header.data_file
                data["data-file-raw"] = self.image.external_raw
        if entries := read_directory(self.image):
            data["bitmaps"] = [entry.info() for entry in entries]
        return {"type": "qcow2", "data": data}

    def limits(self, node: Node) -> dict[str, Any]:
        """The file's, and clusters for zeros."""
        cluster = self.image.cluster
        unit = {"request-alignment": SECTOR} if self._luks is not None else {}
        return {
            **super().limits(node),
            **unit,
            "discard-alignment": cluster,
            "write-zeroes-alignment": cluster,
        }

    def write_backing(self, node: Node, file: str, format: str) -> None:
        """Into the header."""
        self.image.set_backing(file, format)
        node.backing_file, node.backing_format = file, format
        node.auto_backing_file = file
