"""Quorum: several images that are to be the same, and a vote on what they say.

See block/quorum.c: quorum_open(), quorum_vote(), quorum_co_pwritev() and quorum_co_block_status().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fakeqemu.formats.extents import DATA, HOLE, ZERO, BlockIoError, Range
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import Driver, driver
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Edge, Node
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import AbortError, QapiError

_SECTOR = 512
_ROLE = frozenset({perms.DATA})
_PASSED = perms.CONSISTENT_READ | perms.WRITE | perms.WRITE_UNCHANGED | perms.RESIZE


@driver
class Quorum(Driver):
    """Reads ask all children, or one after the other until one answers; writes go to all."""

    name = "quorum"
    first_child = None
    child_list = "children"
    strong = ("vote-threshold", "blkverify", "rewrite-corrupted", "read-pattern")

    _threshold = 0
    _fifo = False
    _blkverify = False
    _rewrites = False
    _next_index = 0

    def open(self, node: Node, options: dict[str, Any]) -> None:
        """Open the children. Raises QapiError."""
        from fakeqemu.model.block.graph.open import open_node

        children = _as_list(options.pop("children", []))
        if not children:
            raise QapiError("Number of provided children must be 1 or more")
        self._threshold = options.pop("vote-threshold", 0)
        if self._threshold < 1:
            raise QapiError(texts.parameter_expects("vote-threshold", "a value >= 1"))
        if self._threshold > len(children):
            raise QapiError("threshold may not exceed children count")
        self._fifo = options.pop("read-pattern", "quorum") == "fifo"
        blkverify = options.pop("blkverify", False)
        rewrites = options.pop("rewrite-corrupted", False)
        if not self._fifo:
            self._blkverify, self._rewrites = blkverify, rewrites
        if self._blkverify and (len(children), self._threshold) != (2, 2):
            raise QapiError(
                "blkverify=on can only be set if there are exactly two files and"
                " vote-threshold is 2"
            )
        if self._blkverify and self._rewrites:
            raise QapiError("rewrite-corrupted=on cannot be used with blkverify=on")
        for index, child in enumerate(children):
            below = open_node(self.graph, child, parent=node, role=_ROLE)
            if isinstance(child, dict):
                below.inherits_from = node
            with self.graph.referenced(below):
                self.graph.attach(node, f"children.{index}", below, _ROLE)
        self._next_index = len(children)
        node.options.pop("children", None)

    def child_permissions(
        self, node: Node, edge: Edge, perm: int, shared: int  # noqa: ARG002
    ) -> tuple[int, int]:
        """Nobody else may write: the children would differ."""
        wanted = perm & _PASSED | (perms.WRITE if self._rewrites else 0)
        return wanted, shared & perms.CONSISTENT_READ | perms.WRITE_UNCHANGED

    # -- children that come and go ---------------------------------------------------------------

    def can_replace(self, node: Node, other: Node) -> bool:
        """A child that nobody else uses can be: what the quorum shows does not change."""
        return node is other or any(
            edge.node is other and other.parents == [edge] for edge in node.children.values()
        )

    def add_child(self, node: Node, child: Node) -> None:
        """See block/quorum.c: quorum_add_child(). Raises QapiError."""
        if self._blkverify:
            raise QapiError("Cannot add a child to a quorum in blkverify mode")
        self.graph.attach(node, f"children.{self._next_index}", child, _ROLE)
        self._next_index += 1

    def remove_child(self, node: Node, edge: Edge) -> None:
        """See block/quorum.c: quorum_del_child(). Raises QapiError."""
        if len(node.children) <= self._threshold:
            raise QapiError(
                "The number of children cannot be lower than the vote threshold"
                f" {self._threshold}"
            )
        if edge.name == f"children.{self._next_index - 1}":
            self._next_index -= 1
        node.leave_alone(edge)
        self.graph.detach(edge)

    # -- data ------------------------------------------------------------------------------------

    def _nodes(self, node: Node) -> list[Node]:
        return [edge.node for edge in node.children.values()]

    def length(self, node: Node) -> int:
        """All have the same. Raises BlockIoError."""
        lengths = [base.length(child) for child in self._nodes(node)]
        if len(set(lengths)) != 1:
            raise BlockIoError
        return lengths[0]

    def read(self, node: Node, offset: int, count: int) -> bytes:
        """What enough children agree on, or the first one has. Raises BlockIoError."""
        if self._fifo:
            return self._read_first(node, offset, count)
        found: list[bytes | None] = []
        errors: list[BlockIoError] = []
        for child in self._nodes(node):
            try:
                found.append(base.read(child, offset, count))
            except BlockIoError as error:
                found.append(None)
                errors.append(error)
                self._bad(child, "read", offset, count, error)
        self._check_count(node, errors, offset, count)
        return self._vote(node, found, offset, count)

    def _read_first(self, node: Node, offset: int, count: int) -> bytes:
        last: BlockIoError | None = None
        for child in self._nodes(node):
            try:
                return base.read(child, offset, count)
            except BlockIoError as error:
                self._bad(child, "read", offset, count, error)
                last = error
        assert last is not None
        raise last

    def _vote(self, node: Node, found: list[bytes | None], offset: int, count: int) -> bytes:
        versions: dict[bytes, list[Node]] = {}
        for child, data in zip(self._nodes(node), found, strict=True):
            if data is not None:
                versions.setdefault(data, []).append(child)
        if len(versions) == 1:
            return next(iter(versions))
        if self._blkverify:
            one, other = versions
            at = next(index for index in range(count) if one[index] != other[index])
            text = (
                f"quorum: offset={offset} bytes={count} contents mismatch at offset {offset + at}"
            )
            self.graph.process.host.say(text)
            raise AbortError(text, status=1)
        # of those with as many votes the newest wins
        winner = max(reversed(versions), key=lambda data: len(versions[data]))
        if len(versions[winner]) < self._threshold:
            self._failure(node, offset, count)
            raise BlockIoError
        bad = [c for data in reversed(versions) if data != winner for c in reversed(versions[data])]
        for child in bad:
            self._bad(child, "read", offset, count)
        for child in bad if self._rewrites else ():
            try:
                base.write(child, offset, winner)
            except BlockIoError:
                continue  # no more than an attempt
        return winner

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Into all. Raises BlockIoError."""
        self._everywhere(node, offset, len(data), lambda c: base.write(c, offset, data))

    def zero(self, node: Node, offset: int, count: int) -> None:
        """Into all. Raises BlockIoError."""
        self._everywhere(node, offset, count, lambda c: base.zero(c, offset, count))

    def _everywhere(
        self, node: Node, offset: int, count: int, act: Callable[[Node], None]
    ) -> None:
        errors = []
        for child in self._nodes(node):
            try:
                act(child)
            except BlockIoError as error:
                errors.append(error)
                self._bad(child, "write", offset, count, error)
        self._check_count(node, errors, offset, count)

    def flush_to_disk(self, node: Node) -> None:
        """All of them. Raises BlockIoError where too few can be."""
        errors = []
        for child in self._nodes(node):
            try:
                base.flush(child)
            except BlockIoError as error:
                errors.append(error)
                self._bad(child, "flush", 0, 0, error)
        if len(node.children) - len(errors) < self._threshold:
            raise _most_frequent(errors)

    def status(self, node: Node, start: int, end: int) -> Iterator[Range]:
        """Zeros where all children have zeros, else data."""
        while start < end:
            zeros, data = end, start
            for child in self._nodes(node):
                piece = next(base.status_above(child, None, start, end))
                if piece.kind in (ZERO, HOLE):
                    zeros = min(zeros, piece.end)
                else:
                    data = max(data, piece.end)
            stop = data if data > start else zeros
            yield Range(start, stop - start, DATA if data > start else ZERO)
            start = stop

    def exact_filename(self, node: Node) -> str | None:  # noqa: ARG002
        """No name stands for several images."""
        return ""

    # -- who disagrees ---------------------------------------------------------------------------

    def _check_count(
        self, node: Node, errors: list[BlockIoError], offset: int, count: int
    ) -> None:
        """Raise BlockIoError if too few have answered."""
        if len(node.children) - len(errors) < self._threshold:
            self._failure(node, offset, count)
            raise _most_frequent(errors)

    def _bad(
        self, child: Node, operation: str, offset: int, count: int,
        error: BlockIoError | None = None,
    ) -> None:  # fmt: skip
        first = offset // _SECTOR
        data = {
            "type": operation, "node-name": child.name, "sector-num": first,
            "sectors-count": -(-(offset + count) // _SECTOR) - first,
        }  # fmt: skip
        if error is not None:
            data["error"] = error.desc
        self.graph.process.events.emit("QUORUM_REPORT_BAD", data)

    def _failure(self, node: Node, offset: int, count: int) -> None:
        first = offset // _SECTOR
        self.graph.process.events.emit("QUORUM_FAILURE", {
            "reference": node.device_or_name, "sector-num": first,
            "sectors-count": -(-(offset + count) // _SECTOR) - first,
        })  # fmt: skip


def _most_frequent(errors: list[BlockIoError]) -> BlockIoError:
    said = [error.desc for error in errors]
    return max(reversed(errors), key=lambda error: said.count(error.desc))


def _as_list(children: Any) -> list[Any]:
    """Children, also where they came by number from a command line. Raises QapiError."""
    if isinstance(children, list):
        return children
    if set(children) != {str(number) for number in range(len(children))}:
        raise QapiError("Option children is not a valid array")
    return [children[str(number)] for number in range(len(children))]
