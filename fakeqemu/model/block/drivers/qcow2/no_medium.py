"""What a node has once its image has turned out to be damaged, and cannot be used any more.

See block/qcow2.c: qcow2_signal_corruption(), which takes the node's driver away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fakeqemu.formats.extents import BlockIoError, Range
from fakeqemu.model.block.drivers.driver import Driver
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Edge, Node


class NoMedium(Driver):
    """In place of a driver whose image turned out to be damaged: QEMU's `bs->drv = NULL`.

    The node keeps its name and place; nobody can use it but to take it away.
    """

    first_child = None
    has_medium = False

    def __init__(self, before: Driver) -> None:
        super().__init__(before.graph)
        self.name = before.name
        self._before = before

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int
    ) -> tuple[int, int]:
        """As before: permissions are looked at when users change."""
        return self._before.child_permissions(node, edge, perm, shared)

    def length(self, node: Node) -> int:  # noqa: ARG002
        """None."""
        raise BlockIoError("No medium found")

    def read(self, node: Node, offset: int, count: int) -> bytes:  # noqa: ARG002
        """Nothing to read."""
        raise BlockIoError("No medium found")

    def write(self, node: Node, offset: int, data: bytes) -> None:  # noqa: ARG002
        """Nothing to write to."""
        raise BlockIoError("No medium found")

    def zero(self, node: Node, offset: int, count: int) -> None:  # noqa: ARG002
        """Nothing to write to."""
        raise BlockIoError("No medium found")

    def discard(self, node: Node, offset: int, count: int) -> None:  # noqa: ARG002
        """Nothing to write to."""
        raise BlockIoError("No medium found")

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:  # noqa: ARG002
        """Nothing to look at."""
        raise BlockIoError("No medium found")

    def truncate(self, node: Node, size: int, prealloc: str = "off") -> None:  # noqa: ARG002
        """Nothing to resize."""
        raise QapiError("No medium inserted")
