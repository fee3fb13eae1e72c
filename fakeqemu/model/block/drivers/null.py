"""Drivers without data: null-co and null-aio.

See block/null.c: null_open() and null_co_common().
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import HOLE, ZERO, Range
from fakeqemu.model.block.drivers.driver import Driver, driver
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node

_DEFAULT_NULL_SIZE = 1 << 30


@driver
class NullCo(Driver):
    """No data at all: writes vanish, reads give zeros."""

    name = "null-co"
    is_protocol = True
    waits = False
    first_child = None
    reopens = True
    strong = ("size", "read-zeroes")

    size = _DEFAULT_NULL_SIZE
    zeroes = False
    #: nanoseconds that a request of a job takes
    latency = 0

    def open(self, node: Node, options: dict[str, Any]) -> None:  # noqa: ARG002
        """Take size and the like. Raises QapiError."""
        self.size = options.pop("size", _DEFAULT_NULL_SIZE)
        self.zeroes = options.pop("read-zeroes", False)
        if "filename" in options and options.pop("filename") != f"{self.name}://":
            raise QapiError(f"The only allowed filename for this driver is '{self.name}://'")
        self.latency = options.pop("latency-ns", 0)
        if self.latency >= 1 << 63:
            raise QapiError("latency-ns is invalid")

    def length(self, node: Node) -> int:  # noqa: ARG002
        """As asked for."""
        return self.size

    def read(self, node: Node, offset: int, count: int) -> bytes:  # noqa: ARG002
        """Zeros."""
        return bytes(count)

    def delay(self, count: int, *, writes: bool) -> int:  # noqa: ARG002
        """The latency."""
        return self.latency

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Forget it."""

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Nothing to do."""

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:  # noqa: ARG002
        """Zeros where they were promised."""
        yield Range(start, end - start, ZERO if self.zeroes else HOLE)

    def exact_filename(self, node: Node) -> str | None:
        """A name only where nothing but the driver matters."""
        plain = set(node.options) <= {"driver", "filename", "latency-ns"}
        return f"{self.name}://" if plain else ""

    def allocated(self, node: Node) -> int | None:  # noqa: ARG002
        """Nothing is on disk."""
        return 0

    def limits(self, node: Node) -> dict[str, Any]:  # noqa: ARG002
        """What QEMU assumes."""
        return {
            "request-alignment": 1,
            "min-mem-alignment": 512,
            "opt-mem-alignment": 4096,
            "max-iov": 1024,
        }


@driver
class NullAio(NullCo):
    """The same with another way of I/O in real QEMU."""

    name = "null-aio"
