"""All jobs of one machine. See job.c: job_next_locked() and job_get_locked()."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.jobs.states import COMPLETED
from fakeqemu.qapi.errors import DeviceNotActiveError, QapiError
from fakeqemu.qapi.readers.scalars import is_identifier

if TYPE_CHECKING:
    from fakeqemu.model.block.jobs.job import Job
    from fakeqemu.model.process import Process


class Jobs:
    """All jobs of one machine, newest first."""

    def __init__(self, process: Process, collect: Callable[[], None]) -> None:
        """`collect`: closes unreferenced nodes."""
        self.process = process
        self.collect = collect
        #: oldest first; a dictionary, for clients may leave thousands of ended ones behind
        self._made: dict[Job, None] = {}
        self._named: dict[str, Job] = {}
        #: a tester's: with which text a job fails before its next step, or (`over`) at the end of
        #: its work; empty if it does not
        self.fault: Callable[..., str] | None = None

    @property
    def all(self) -> list[Job]:
        """Newest first."""
        return list(reversed(self._made))

    def add(self, job: Job) -> None:
        """There is one more."""
        self._made[job] = None
        if not job.internal:
            self._named[job.id] = job

    def forget(self, job: Job) -> None:
        """It is gone, if it was there."""
        if job in self._made:
            del self._made[job]
            if not job.internal:
                del self._named[job.id]

    def __contains__(self, job: Job) -> bool:
        return job in self._made

    def find(self, id: str) -> Job | None:
        """The job called `id`, unless it is internal."""
        return self._named.get(id)

    def get(self, id: str) -> Job:
        """The same. Raises QapiError."""
        found = self.find(id)
        if found is None:
            raise QapiError("Job not found")
        return found

    def fault_of(self, job: Job, *, over: bool) -> str:
        """What a tester has a job fail with, before its next step or at the end of its work."""
        return "" if self.fault is None else self.fault(job, over=over)

    def check_id(self, id: str | None) -> None:
        """Whether a new job can be called that. Raises QapiError."""
        if id is None:
            raise QapiError("An explicit job ID is required")
        if not is_identifier(id):
            raise QapiError(f"Invalid job ID '{id}'")
        if self.find(id) is not None:
            raise QapiError(f"Job ID '{id}' already in use")

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
        for job in self.all:
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
