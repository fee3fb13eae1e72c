"""Commit of images into one below, which a mirror does where the guest writes to them.

See block/commit.c: commit_start() and commit_run(); block/mirror.c: commit_active_start().
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from fakeqemu.formats import extents
from fakeqemu.formats.extents import HOLE
from fakeqemu.model.block import block_copy, copy_range as copying
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.filters import CommitTop
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.jobs.blockjob import BlockJob
from fakeqemu.model.block.jobs.job import Work
from fakeqemu.model.block.jobs.mirror import MirrorJob
from fakeqemu.model.block.operations import backing_chain as chains, reopen
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.layer import BlockLayer

_CHUNK = 512 * 1024


class CommitJob(BlockJob):
    """block-commit of an intermediate image."""

    type = "commit"
    ends_later = True

    def __init__(
        self,
        block: BlockLayer,
        id: str | None,
        active: Node,
        top: Node,
        target: Node,
        *,
        speed: int = 0,
        backing_file: str | None = None,
        filter_name: str | None = None,
        **more: Any,
    ) -> None:
        self.top, self.target, self.backing_file = top, target, backing_file
        if top.skip_filters() is target:
            raise QapiError("Invalid files for merge: top and base are the same")
        super().__init__(block, id, active, **more)
        self.take(active, 0, perms.ALL, speed=speed)
        self._read_only_before = target.read_only
        self._target_backend: Backend | None = None
        self.filter: Node | None = None
        try:
            self._set_up(filter_name)
        except QapiError:
            self._drop_backend()
            self.release()
            if self.filter is not None:
                block.remove_filter(self.filter)
            self._put_back_read_only()
            self.give_up()
            raise

    def _set_up(self, filter_name: str | None) -> None:
        if self._read_only_before:
            reopen.set_read_only(self.block.graph, self.target, read_only=False)
        self.filter = self.block.insert_filter(
            CommitTop(self.block.graph), self.top, filter_name
        )
        self.use_intermediate(self._between(), self.target)
        for node in [self.filter, *self._between()]:
            self.freeze(node.chain_edge)
        self.use("base", self.target, 0, perms.ALL)
        backend = self.block.backends.create()
        self._target_backend = backend
        backend.perm = perms.CONSISTENT_READ | perms.WRITE
        if base.length(self.target) < base.length(self.top):
            backend.perm |= perms.RESIZE
        backend.shared = perms.CONSISTENT_READ | perms.WRITE_UNCHANGED
        backend.insert(self.target)

    def _between(self) -> list[Node]:
        return chains.down_to(self.top, self.target)

    def work(self) -> Work:
        """Copy what the images above the base have."""
        size = base.length(self.top)
        self.total = size
        if base.length(self.target) < size:
            base.truncate(self.target, size)
        yield 0
        pieces = copying.Ranges(self, lambda at: copying.pieces(
            self, base.status_above(self.top, self.target, at, size), _CHUNK
        ))  # fmt: skip
        while (piece := (yield from pieces.next())) is not None:
            if piece.kind != HOLE:
                yield from self.attempt(
                    functools.partial(block_copy.copy, self.top, self.target, piece), self.target
                )
            self.done += piece.length
            yield piece.length if piece.kind == extents.DATA else 0

    def prepare(self) -> None:
        """Take the committed images out of the chain. Raises QapiError."""
        graph = self.block.graph
        with graph.referenced(self.top, self.target):
            self._undo_set_up()
            chains.drop_intermediate(graph, self.top, self.target, self.backing_file)

    def abort(self) -> None:
        """Leave the chain as it was."""
        self._undo_set_up()

    def _undo_set_up(self) -> None:
        self.thaw()
        self._drop_backend()
        self.release()
        if self.filter is not None:
            found, self.filter = self.filter, None
            self.block.remove_filter(found)

    def clean(self) -> None:
        """The base goes back to read-only."""
        self._put_back_read_only()
        super().clean()

    def _put_back_read_only(self) -> None:
        if self._read_only_before and self.target.name in self.block.graph.nodes:
            reopen.set_read_only(self.block.graph, self.target, read_only=True)

    def _drop_backend(self) -> None:
        if self._target_backend is not None:
            self.block.backends.drop(self._target_backend)
            self._target_backend = None


class ActiveCommitJob(MirrorJob):
    """block-commit of what the guest writes to."""

    type = "commit"
    is_commit = True
