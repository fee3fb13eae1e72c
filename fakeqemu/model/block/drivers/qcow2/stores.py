"""Files as the qcow2 format reads and writes them, whichever nodes they are.

See block/qcow2.h: BDRVQcow2State.data_file.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from fakeqemu.formats import extents
from fakeqemu.model.block.drivers import base

if TYPE_CHECKING:
    from fakeqemu.formats.luks import SectorCipher
    from fakeqemu.formats.qcow2.header import Store
    from fakeqemu.model.block.graph.node import Node

SECTOR = 512


class NodeStore:
    """A file, as the format's tables see it."""

    def __init__(self, node: Node) -> None:
        self._given = node

    @property
    def _node(self) -> Node:
        return self._given

    def size(self) -> int:
        """Bytes in it."""
        return base.length(self._node)

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes, zeros beyond the end. Raises BlockIoError."""
        base.check_request(offset, count)
        try:
            inside = max(0, min(count, self.size() - offset))
            data = base.read(self._node, offset, inside) if inside else b""
        except OSError as error:
            raise extents.BlockIoError(os.strerror(error.errno or errno.EIO)) from None
        return data + bytes(count - len(data))

    def write(self, offset: int, data: bytes) -> None:
        """Write. Raises BlockIoError."""
        base.check_request(offset, len(data))
        if not data:
            return
        try:
            base.write(self._node, offset, data)
        except OSError as error:
            raise extents.BlockIoError(os.strerror(error.errno or errno.EIO)) from None

    def zero(self, offset: int, count: int) -> None:
        """Zeros. Raises BlockIoError."""
        base.check_request(offset, count)
        try:
            self._node.driver.zero(self._node, offset, min(count, max(self.size() - offset, 0)))
        except OSError as error:
            raise extents.BlockIoError(os.strerror(error.errno or errno.EIO)) from None

    def truncate(self, size: int, prealloc: str = "off") -> None:
        """Change its size."""
        base.truncate(self._node, size, prealloc)


class CipherStore:
    """What another store keeps encrypted, sector by sector."""

    def __init__(self, store: Store, cipher: SectorCipher) -> None:
        self._store, self._cipher = store, cipher
        self.size, self.zero, self.truncate = store.size, store.zero, store.truncate

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes. Raises BlockIoError."""
        first, end = offset // SECTOR, -(-(offset + count) // SECTOR)
        data = self._store.read(first * SECTOR, (end - first) * SECTOR)
        start = offset - first * SECTOR
        return self._cipher.decrypt(first, data)[start : start + count]

    def write(self, offset: int, data: bytes) -> None:
        """Write; sectors of which it is a part are read before. Raises BlockIoError."""
        end = offset + len(data)
        first, last = offset // SECTOR, -(-end // SECTOR)
        before = self.read(first * SECTOR, offset - first * SECTOR)
        after = self.read(end, last * SECTOR - end)
        sealed = self._cipher.encrypt(first, before + data + after)
        self._store.write(first * SECTOR, sealed)


class ChildStore(NodeStore):
    """The child of a qcow2 node by the name `child`, whichever it is now: it may be replaced."""

    def __init__(self, node: Node, child: str = "file") -> None:
        super().__init__(node)
        self._child = child

    @property
    def _node(self) -> Node:
        return self._given.children[self._child].node
