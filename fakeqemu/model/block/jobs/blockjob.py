"""A job on nodes: it uses them, and refuses others what would disturb it.

See blockjob.c: block_job_create(), block_job_add_bdrv() and block_job_error_action().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fakeqemu.formats.extents import BlockIoError, MustWaitError
from fakeqemu.model.block.copy_range import wait_for
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Edge, Node
from fakeqemu.model.block.graph.waiting import RetriedAccess, Waiting
from fakeqemu.model.block.jobs.holdback import delay_below
from fakeqemu.model.block.jobs.job import RETRY, WAIT, Job, Work
from fakeqemu.model.block.jobs.states import READY
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.layer import BlockLayer

#: protocols that do nothing
_NO_DATA = ("null-co", "null-aio")


def check_freezable(edges: Iterable[Edge | None]) -> None:
    """Whether a job may keep links from being changed: bdrv_freeze_backing_chain().

    Raises QapiError.
    """
    for edge in edges:
        if edge is not None and edge.node.driver.never_freeze:
            raise QapiError(f"Cannot freeze '{edge.name}' link to '{edge.node.name}'")


def common_options(arguments: dict[str, Any]) -> dict[str, Any]:
    """What the commands that start block jobs have in common, as `BlockJob` takes it."""
    on_error = arguments.get("on-error", "report")
    return {
        "auto_finalize": arguments.get("auto-finalize", True),
        "auto_dismiss": arguments.get("auto-dismiss", True),
        "on_error": {
            "read": arguments.get("on-source-error", on_error),
            "write": arguments.get("on-target-error", on_error),
        },
    }


class BlockJob(Job):
    """A job on nodes: it uses them, and refuses others what would disturb it."""

    is_block = True

    def __init__(
        self, block: BlockLayer, id: str | None, node: Node, *,
        on_error: dict[str, str] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        if id is None and not more.get("internal"):
            id = node.device_name
        self.block = block
        super().__init__(block.jobs, id, **more)
        self.edges: list[Edge] = []
        self.main = node
        #: links that nobody may change while it works
        self._frozen: list[Edge] = []
        #: what is to happen when a read or write fails: report, ignore, stop, enospc, auto
        self.on_error = on_error or {"read": "report", "write": "report"}

    def event(self, name: str, **more: Any) -> None:
        """See blockjob.c: block_job_event_completed_locked() and its neighbours."""
        if not self.internal:
            what = {"type": self.type, "device": self.id}
            progress = {"len": self.total, "offset": self.done, "speed": self.speed}
            self.jobs.process.events.emit(name, {**what, **progress, **more})

    def pending(self) -> None:
        """See blockjob.c: block_job_event_pending_locked()."""
        if not self.internal:
            what = {"type": self.type, "id": self.id}
            self.jobs.process.events.emit("BLOCK_JOB_PENDING", what)

    @property
    def waiting(self) -> Waiting:
        """How its accesses wait for servers."""
        return self.block.graph.waiting

    @property
    def device_name(self) -> str:
        """Its nodes do not go by its name."""
        return ""

    @property
    def keeps_iothread(self) -> bool:
        """It goes where its nodes go: blockjob.c: child_job_change_aio_ctx()."""
        return False

    @property
    def description(self) -> str:
        """How a permission conflict names it."""
        return f"{self.type} job '{self.id}'"

    def take(self, node: Node, perm: int, shared: int, *, speed: int = 0) -> None:
        """Use the main node, and set the speed. Raises QapiError; the job is gone then."""
        try:
            self.use("main node", node, perm, shared)
            if speed:
                self.set_speed(speed)
        except QapiError:
            self.give_up()
            raise

    def use(self, name: str, node: Node, perm: int, shared: int) -> None:
        """Use a node. Raises QapiError."""
        edge = self.block.graph.use(self, name, node, perm, shared, stays=True)
        self.edges.append(edge)
        node.block(self, f"block device is in use by block job: {self.type}")

    def use_intermediate(self, nodes: list[Node], target: Node) -> None:
        """Use what lies between what is committed and the target. Raises QapiError.

        Nobody may read there what changes below, but through filters of the target itself.
        """
        for node in nodes:
            shared = perms.WRITE_UNCHANGED | perms.WRITE
            if node.skip_filters() is target:
                shared |= perms.CONSISTENT_READ
            self.use("intermediate node", node, 0, shared)

    @property
    def instant(self) -> bool:
        """With no file below there is nothing to wait for."""
        nodes = [node for edge in self.edges for node in edge.node.subtree()]
        return all(n.driver.name in _NO_DATA for n in nodes if n.driver.is_protocol)

    def _delay(self, counted: int) -> int:
        """As the speed or the nodes below have it."""
        return max(self._limited(counted), self._below(counted))

    def _below(self, counted: int) -> int:
        """How long the nodes below make the job wait for so many bytes."""
        return delay_below(self.edges, counted) if counted else 0

    def release(self) -> None:
        """Use no node any more."""
        edges, self.edges = self.edges, []
        for edge in edges:
            edge.node.unblock(self)
            self.block.graph.detach(edge)

    def freeze(self, *edges: Edge | None) -> None:
        """Keep links from being changed: bdrv_freeze_backing_chain()."""
        for edge in edges:
            if edge is not None:
                edge.frozen += 1
                self._frozen.append(edge)

    def thaw(self) -> None:
        """Let them be changed again."""
        for edge in self._frozen:
            edge.frozen -= 1
        self._frozen.clear()

    def give_up(self) -> None:
        """The job could not be set up."""
        self.release()
        self.state.enter("null")
        self.jobs.forget(self)
        self.transaction.forget(self)
        self.block.graph.collect()

    def attempt(self, act: Callable[[], None], target: Node | None = None) -> Work:
        """Do a piece of the work, as often as it takes where errors are not to be reported.

        Raises BlockIoError where they are.
        """
        while True:
            try:
                yield from self.request(act, target)
            except BlockIoError as error:
                action = self.react(error)
                if action == "report":
                    raise
                yield 0 if action == "stop" else RETRY
            else:
                return

    def request(self, act: Callable[[], None], target: Node | None = None) -> Work:
        """Do a piece of the work once. Raises BlockIoError.

        What `act` reads is waited for, and so is what it has written to `target`.
        """
        yield from self._act(act)
        while target is not None and wait_for(self, target):
            yield WAIT

    def _act(self, act: Callable[[], None]) -> Work:
        """Run `act`, again whenever a reply has come that it has to wait for."""
        access = RetriedAccess(self.waiting, self.kick)
        held = RetriedAccess(self.waiting, self._let_go_of)
        try:
            while True:
                try:
                    with access.attempt(), self.waiting.holding(held):
                        act()
                except MustWaitError:
                    self.held = held.waits
                    yield WAIT
                else:
                    return
        finally:
            access.forget()
            held.forget()

    def _let_go_of(self) -> None:
        """Resume a request that was held at a breakpoint."""
        self.held, self.resumed = False, True
        self.kick()

    def react(self, error: BlockIoError) -> str:
        """Let an error have its effect: BLOCK_JOB_ERROR, and a pause where the job is to stop.

        Gives the action: ignore, report or stop. See blockjob.c: block_job_error_action().
        """
        action = self._reaction(error)
        if not self.internal:
            data = {"device": self.id, "operation": error.operation, "action": action}
            self.jobs.process.events.emit("BLOCK_JOB_ERROR", data)
        if action == "stop":
            if not self.user_paused:
                self.user_paused = True
                self.pause_count += 1
            if self.io_status == "ok":
                self.io_status = "nospace" if error.nospace else "failed"
        return action

    def _reaction(self, error: BlockIoError) -> str:
        wanted = self.on_error[error.operation]
        if wanted in ("enospc", "auto"):
            return "stop" if error.nospace else "report"
        return wanted

    def block_info(self) -> dict[str, Any]:
        """BlockJobInfo."""
        found: dict[str, Any] = {
            "type": self.type,
            "device": self.id,
            "busy": self.busy,
            "paused": self.pause_count > 0,
            "offset": self.done,
            "len": self.total,
            "speed": self.speed,
            "io-status": self.io_status,
            "ready": self.state.current in READY,
            "status": self.state.current,
            "auto-finalize": self.auto_finalize,
            "auto-dismiss": self.auto_dismiss,
        }
        if self.error and (self.finished or self.state.current == "aborting"):
            found["error"] = self.error
        return found

    def clean(self) -> None:
        """Use no node any more."""
        self.release()
