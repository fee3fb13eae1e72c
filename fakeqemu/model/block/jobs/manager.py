"""All jobs of one machine. See job.c: job_next_locked() and job_get_locked()."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.jobs.states import COMPLETED
from fakeqemu.qapi.errors import DeviceNotActiveError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.jobs.job import Job
    from fakeqemu.model.process import Process


class Jobs:
    """All jobs of one machine, newest first."""

    def __init__(self, process: Process, collect: Callable[[], None]) -> None:
        """`collect`: closes nodes that nobody uses any more."""
        self.process = process
        self.collect = collect
        self.all: list[Job] = []

    def find(self, id: str) -> Job | None:
        """The job called `id`."""
        return next((job for job in self.all if job.id == id and not job.internal), None)

    def get(self, id: str) -> Job:
        """The same. Raises QapiError."""
        found = self.find(id)
        if found is None:
            raise QapiError("Job not found")
        return found

    def get_block(self, id: str) -> Job:
        """A block job. Raises QapiError of class DeviceNotActive."""
        found = self.find(id)
        if found is None or not found.is_block:
            raise DeviceNotActiveError(f"Block job '{id}' not found")
        return found

    def visible(self) -> list[Job]:
        """Those that queries list."""
        return [job for job in self.all if not job.internal]

    def drain(self, nodes: set[int] | None = None) -> None:
        """Block jobs (on some nodes) stand still for a moment, as while the graph changes.

        See blockjob.c: child_job_drained_begin(); other jobs have no nodes that are drained.
        """
        touched = [job for job in self._drained() if nodes is None or _on(job, nodes)]
        for job in touched:
            job.pause()
        for job in touched:
            job.resume()

    def _drained(self) -> list[Job]:
        return [job for job in self.all if job.is_block and job.started and not job.finished]

    def graph_changed(self) -> None:
        """All stand still for a moment, in versions where any change of the graph makes them."""
        if self.process.profile.traits.graph_change_pauses_jobs:
            self.drain()

    def quiesce(self, node: Node) -> None:
        """Those that use a node, or one above it, stand still for a moment."""
        self.drain({id(each) for each in _above(node)})

    def cancel_all(self) -> None:
        """The machine ends: they are cancelled while all stand still; ended ones are dismissed.

        See job.c: job_cancel_sync_all().
        """
        for job in self._drained():
            job.pause()
        for job in list(self.all):
            if job.state.current not in COMPLETED:
                job.cancel(force=True)
                if not job.finished:
                    job.step()
            if job.state.current == "concluded":
                job.dismiss()


def _above(node: Node) -> Iterator[Node]:
    """A node, and all that use it."""
    yield node
    for edge in node.parents:
        if isinstance(edge.parent, Node):
            yield from _above(edge.parent)


def _on(job: Job, nodes: set[int]) -> bool:
    return any(id(edge.node) in nodes for edge in job.edges)
