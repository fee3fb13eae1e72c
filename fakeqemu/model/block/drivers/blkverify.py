"""Images compared while they are used: blkverify, which QEMU's own tests of formats use.

See block/blkverify.c: blkverify_open() and blkverify_co_preadv().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakeqemu.formats import extents
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import driver
from fakeqemu.model.block.drivers.filters import FILTER_ROLE, FilterDriver
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.filenames import FileArgument, exact_filename
from fakeqemu.model.block.graph.node import Node
from fakeqemu.qapi.errors import AbortError, QapiError


@driver
class Blkverify(FilterDriver):
    """Two images that are to be the same; QEMU leaves with 1 when they are not.

    See block/blkverify.c: blkverify_err().
    """

    name = "blkverify"
    in_file_names = True
    parses_filename = True
    first_child = "raw"
    role = FILTER_ROLE
    flushes_below = ("test",)

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Open the image to compare. Raises QapiError."""
        from fakeqemu.model.block.graph.open import open_node

        if "raw" not in node.children:
            raise QapiError('A block device must be specified for "raw"')
        role = frozenset({perms.DATA})
        test = open_node(self.graph, options.pop("test"), parent=node, role=role)
        self.graph.attach(node, "test", test, role)

    def parse_filename(self, filename: str, others: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """`blkverify:RAW:TEST`, or the name under test alone. Raises QapiError."""
        if not filename.startswith("blkverify:"):
            return {"test": {"filename": FileArgument(filename)}}
        raw, colon, test = filename.removeprefix("blkverify:").partition(":")
        if not colon:
            raise QapiError("blkverify requires raw copy and original image path")
        return {
            "raw": {"filename": FileArgument(raw)}, "test": {"filename": FileArgument(test)},
        }  # fmt: skip

    def exact_filename(self, node: Node) -> str | None:
        """`blkverify:RAW:TEST`."""
        names = [exact_filename(self._below(node)), exact_filename(node.children["test"].node)]
        return ":".join(("blkverify", *names)) if all(names) else ""

    def allocated(self, node: Node) -> int | None:  # noqa: ARG002
        """A protocol driver that does not say."""
        return None

    def length(self, node: Node) -> int:
        """That of the image under test."""
        return base.length(node.children["test"].node)

    def _differ(self, what: str, offset: int, count: int, how: str) -> AbortError:
        text = f"blkverify: {what} offset={offset} bytes={count} {how}"
        self.graph.process.host.say(text)
        return AbortError(text, status=1)

    def _both(
        self, node: Node, what: str, offset: int, count: int, act: Callable[[Node], bytes]
    ) -> bytes:
        """Do it to both; the image under test decides. Raises QapiError."""
        results: list[tuple[bytes, QapiError | None]] = []
        for each in (node.children["test"].node, self._below(node)):
            try:
                results.append((act(each), None))
            except extents.BlockIoError as error:
                results.append((b"", error))
        (tested, failed), (raw, raw_failed) = results
        if (failed is None) != (raw_failed is None):
            raise self._differ(what, offset, count, "return value mismatch")
        if failed is not None:
            raise failed
        if tested != raw:
            at = next(i for i in range(count) if tested[i] != raw[i])
            how = f"contents mismatch at offset {offset + at}"
            raise self._differ(what, offset, count, how)
        return tested

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """Out of both, compared. Raises QapiError, AbortError."""
        return self._both(
            node, "read", offset, count, lambda each: base.read(each, offset, count)
        )

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Into both. Raises QapiError."""

        def act(each: Node) -> bytes:
            base.write(each, offset, data)
            return b""

        self._both(node, "write", offset, len(data), act)

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Zeros into both, as data. Raises QapiError."""
        for at in range(offset, offset + count, extents.CHUNK):
            self.write(node, at, bytes(min(extents.CHUNK, offset + count - at)))

    def discard(self, node: Node, offset: int, count: int) -> None:
        """Not passed on."""
