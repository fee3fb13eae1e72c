"""Stream: pull what lies in images below into the top one.

See block/stream.c: stream_start(), stream_run() and stream_prepare().
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.formats.extents import HOLE, BlockIoError, Range
from fakeqemu.model.block import block_copy, copy_range as copying
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.filters import CopyOnRead
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.filenames import filename
from fakeqemu.model.block.graph.node import Edge, Node
from fakeqemu.model.block.jobs.blockjob import BlockJob, check_freezable
from fakeqemu.model.block.jobs.job import Work
from fakeqemu.model.block.operations import backing_chain as chains, relinking, reopen
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer

_CHUNK = 512 * 1024
_STEADY = perms.CONSISTENT_READ | perms.WRITE_UNCHANGED


class StreamJob(BlockJob):
    """block-stream."""

    type = "stream"

    def __init__(
        self,
        block: BlockLayer,
        id: str | None,
        top: Node,
        base_node: Node | None,
        *,
        backing_file: str | None = None,
        speed: int = 0,
        filter_name: str | None = None,
        **more: Any,
    ) -> None:
        self.top, self.base_node, self.backing_file = top, base_node, backing_file
        self.image = top.skip_filters()
        check_freezable(edge for edge in self._edges() if edge.node is not base_node)
        self._was_read_only = self.image.read_only
        if self._was_read_only:
            reopen.set_read_only(block.graph, self.image, read_only=False)
        self.filter: Node | None = None
        try:
            copier = CopyOnRead(block.graph)
            copier.bottom = [self.image, *self._between()][-1]
            self.filter = block.insert_filter(copier, top, filter_name, child="file")
            super().__init__(block, id, top, **more)
        except QapiError:
            self._leave()
            raise
        try:
            shared = _STEADY | (perms.WRITE if not self._was_read_only else 0)
            self.take(self.filter, _STEADY, shared, speed=speed)
            if self.image.name:
                self.use("active node", self.image, 0, _STEADY | perms.WRITE)
            for node in self._between():
                self.use("intermediate node", node, 0, _STEADY)
        except QapiError:
            self.release()
            self._leave()
            if self in block.jobs:
                self.give_up()
            raise
        for edge in self._edges():
            if edge.node is not self.base_node:
                self.freeze(edge)

    def _edges(self) -> list[Edge]:
        nodes = [self.image, *self._between()]
        return [edge for node in nodes if (edge := node.chain_edge) is not None]

    def _between(self) -> list[Node]:
        return chains.down_to(self.image, self.base_node)[1:]

    @property
    def instant(self) -> bool:
        """With nothing to pull there is nothing to wait for."""
        below = self.image.backing_chain_next()
        return below is None or below is self.base_node or super().instant

    def work(self) -> Work:
        """Copy what images between top and base have."""
        yield 0
        below = self.image.backing_chain_next()
        if below is None or below is self.base_node:
            return
        size = base.length(self.image)
        self.total = size
        ranges = copying.Ranges(self, lambda at: base.status(self.image, at, size))
        own = yield from ranges.all()
        missing = copying.Ranges(self, lambda at: copying.pieces(
            self, self._missing(_from(own, at)), _CHUNK
        ))  # fmt: skip
        first: BlockIoError | None = None
        while (piece := (yield from missing.next())) is not None:
            if piece.kind == extents.DATA:
                while (error := (yield from self._populate(piece))) is not None:
                    action = self.react(error)
                    first = first or (error if action != "stop" else None)
                    if action == "report":
                        raise error
                    if action == "ignore":
                        break
                    yield 0
            self.done = piece.end
            yield piece.length if piece.kind == extents.DATA else 0
        self.done = size
        if first is not None:  # what lies below is still needed
            raise first

    def _populate(self, piece: Range) -> copying.Waits[BlockIoError | None]:
        """Copy a piece up; gives what went wrong, which is a read's whatever it was."""
        try:
            yield from self.request(
                functools.partial(block_copy.copy, self.image, self.image, piece), self.image
            )
        except BlockIoError as error:
            error.operation = "read"
            return error
        return None

    def _missing(self, ranges: Iterator[Range]) -> Iterator[Range]:
        """What the image has not and those below have, as data; the rest as holes."""
        backing = self.image.cow
        for piece in ranges:
            if piece.kind != HOLE or backing is None:
                yield extents.Range(piece.offset, piece.length, HOLE)
                continue
            inside = min(piece.end, base.length(backing))
            if piece.offset < inside:
                yield from base.status_above(backing, self.base_node, piece.offset, inside)
            if inside < piece.end:
                first = max(piece.offset, inside)
                yield extents.Range(first, piece.end - first, HOLE)

    def prepare(self) -> None:
        """What lies below is now the base. Raises QapiError."""
        graph = self.block.graph
        self.thaw()
        image = self.image
        with graph.referenced(self.top, image):
            self.release()
            self._remove_filter()
            if image.cow is not None:
                name, format = "", ""
                if self.base_node is not None:
                    unfiltered = self.base_node.skip_filters()
                    name, format = filename(unfiltered), unfiltered.driver.name
                    if self.backing_file is not None:
                        name = self.backing_file
                if image.driver.supports_backing:
                    image.driver.write_backing(image, name, format)
                relinking.set_backing(graph, image, self.base_node)

    def abort(self) -> None:
        """Leave the chain as it was."""
        self.thaw()
        self.release()
        self._remove_filter()

    def clean(self) -> None:
        """Read-only again if it was."""
        super().clean()
        self._leave()

    def _remove_filter(self) -> None:
        if self.filter is not None:
            found, self.filter = self.filter, None
            self.block.remove_filter(found)

    def _leave(self) -> None:
        self._remove_filter()
        if self._was_read_only and self.image.name in self.block.graph.nodes:
            reopen.set_read_only(self.block.graph, self.image, read_only=True)


def _from(ranges: list[Range], at: int) -> Iterator[Range]:
    """What of `ranges` lies behind `at`."""
    for each in ranges:
        if at < each.end:
            first = max(at, each.offset)
            yield Range(first, each.end - first, each.kind)
