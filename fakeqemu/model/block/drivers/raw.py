"""raw: an image that adds nothing to its file but a window on it.

See block/raw-format.c: raw_read_options() and raw_apply_options().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import BlockIoError, Range
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import (
    Driver,
    Reopening,
    debug_event,
    driver,
    merged_limits,
)
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.filenames import filename
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Edge, Node

_SECTOR = 512
_WRITING = perms.WRITE | perms.RESIZE
_GUESSED_RAW = (
    "Image format was not specified for '{}' and probing guessed raw.\n"
    "         Automatically detecting the format is dangerous for raw images,"
    " write operations on block 0 will be restricted.\n"
    "         Specify the 'raw' format explicitly to remove the restrictions."
)


@driver
class Raw(Driver):
    """The file as it is, or a window of it."""

    name = "raw"
    supports_create = True
    has_info = True
    role = frozenset({perms.FILTERED, perms.PRIMARY})
    strong = ("offset", "size")
    reopens = True
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
        if node.probed and not node.read_only:
            assert node.file is not None
            self.graph.process.host.say("WARNING: " + _GUESSED_RAW.format(filename(node.file)))
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

    def prepare_reopen(self, node: Node, options: dict[str, Any]) -> Reopening:
        """Another window."""
        offset, size = options.pop("offset", None), options.pop("size", None)
        before = self.offset, self.size

        def abort() -> None:
            self.offset, self.size = before

        self.offset, self.size = 0, None
        if offset is not None or size is not None:
            try:
                self._window(node, offset or 0, size)
            except QapiError:
                abort()
                raise
        return Reopening(abort=abort)

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int
    ) -> tuple[int, int]:
        """Take the write permission only if a parent has it."""
        wanted, left = super().child_permissions(node, edge, perm, shared)
        return wanted & ~_WRITING | perm & _WRITING, left

    def length(self, node: Node) -> int:
        """The window's size, or what the file has from its beginning on, in whole sectors.

        See block/raw-format.c: raw_co_getlength(); block.c: bdrv_co_nb_sectors().
        """
        left = max(super().length(node) - self.offset, 0)
        left = -(-left // _SECTOR) * _SECTOR
        return left if self.size is None else min(self.size, left)

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """Out of the window; beyond its end there are zeros."""
        debug_event(node, "read_aio")
        inside = count
        if self.size is not None:
            inside = max(min(count, self.size - offset), 0)
        data = super().read(node, offset + self.offset, inside) if inside else b""
        return data + bytes(count - inside)

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Into the window. Raises BlockIoError."""
        assert node.file is not None
        if node.probed and offset < _SECTOR and data:
            self._check_guess(node, offset, data)
        debug_event(node, "write_aio")
        base.write(node.file, self._inside(offset, len(data)), data)

    def _check_guess(self, node: Node, offset: int, data: bytes) -> None:
        """A guest must not make another format of what was taken for raw. Raises BlockIoError.

        See block/raw-format.c: raw_co_pwritev().
        """
        from fakeqemu.formats.probing import PROBED, probed_format

        head = self.read(node, 0, min(PROBED, self.length(node)))
        if probed_format(head[:offset] + data + head[offset + len(data) :]) != self.name:
            raise BlockIoError(os.strerror(errno.EPERM))

    def zero(self, node: Node, offset: int, count: int) -> None:
        """In the window. Raises BlockIoError."""
        assert node.file is not None
        base.zero(node.file, self._inside(offset, count), count)

    def discard(self, node: Node, offset: int, count: int) -> None:
        """In the window. Raises BlockIoError."""
        assert node.file is not None
        base.discard(node.file, self._inside(offset, count), count)

    def _inside(self, offset: int, count: int) -> int:
        """Where that is in the file. Raises BlockIoError for what would leave the window.

        See block/raw-format.c: raw_adjust_offset().
        """
        if self.size is not None and offset + count > self.size:
            raise BlockIoError(os.strerror(errno.ENOSPC))
        return offset + self.offset

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:
        """As the file says."""
        for piece in super().status(node, start + self.offset, end + self.offset):
            yield Range(piece.offset - self.offset, piece.length, piece.kind)

    def truncate(self, node: Node, size: int, prealloc: str = "off") -> None:
        """Change the file's size. Raises QapiError."""
        if self.size is not None:
            raise QapiError("Cannot resize fixed-size raw disks")
        assert node.file is not None
        base.truncate(node.file, size + self.offset, prealloc)

    def knows_info(self, node: Node) -> bool:
        """If the file does."""
        return node.file is not None and node.file.driver.knows_info(node.file)

    def limits(self, node: Node) -> dict[str, Any]:
        """Those of the file."""
        assert node.file is not None
        found = merged_limits(node.file)
        return {**found, "request-alignment": _SECTOR} if node.probed else found
