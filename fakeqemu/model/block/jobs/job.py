"""The lifecycle common to all jobs: creation, pausing, completion in transactions, events.

A job's work is a generator of steps; each yields how many bytes it processed, from which the
speed limit's wait follows. See job.c: job_create(), job_pause_locked() and job_completed_locked().
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import Timer
from fakeqemu.model.block.jobs.rate_limit import SLICE, RateLimit
from fakeqemu.model.block.jobs.states import JobState
from fakeqemu.model.block.jobs.txn import CANCELED, OVER, Transaction, fail, fail_by_bug
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Edge
    from fakeqemu.model.block.jobs.manager import Jobs

#: pieces of work that take no time and are done before others have their turn
_PIECES = 32
#: a job waits until its target has caught up (a network block device); it tries again what failed
WAIT, RETRY = -1, -2

Work = Generator[int, None, None]


class Job:
    """One job."""

    #: type as query-jobs shows it
    type = ""
    #: whether it is also listed by query-block-jobs
    is_block = False
    #: whether a ready job can be completed on request
    completable = False
    #: whether it still waits for what it has sent when it is cancelled, so the reply goes out first
    ends_later = False

    def __init__(
        self,
        jobs: Jobs,
        id: str | None,
        *,
        auto_finalize: bool = True,
        auto_dismiss: bool = True,
        transaction: Transaction | None = None,
        internal: bool = False,
    ) -> None:
        self.jobs = jobs
        #: uses of nodes, of a block job
        self.edges: Sequence[Edge] = ()
        self.internal = internal
        if not internal:
            jobs.check_id(id)
        self.id = id or ""
        self.auto_finalize = auto_finalize
        self.auto_dismiss = auto_dismiss
        self.state = JobState(self._changed)
        self.done = self.total = self.speed = 0
        #: None until the job has been limited
        self._limit: RateLimit | None = None
        #: what went wrong; empty while all is well
        self.error = ""
        self.cancelled = False
        self.force_cancelled = False
        self.started = False
        #: users (and the graph, while it changes) that want it to stand still
        self.pause_count = 0
        self.user_paused = False
        self.busy = False
        #: whether a request of it is held at a breakpoint, and it can neither pause nor end
        self.held = False
        #: whether such a request goes on, and is to be over before anything else
        self.resumed = False
        #: whether the work is over and only the end is left
        self.finished = False
        self.complete_requested = False
        self.io_status = "ok"
        self._work: Work | None = None
        self._timer: Timer | None = None
        self._sleeping = False
        #: whether it stands still until `let_go`, as the graph changed when it began
        self.drained = False
        self.transaction = transaction or Transaction()
        self.state.enter("created")
        jobs.add(self)
        self.transaction.jobs.insert(0, self)

    # -- what a kind of job does -----------------------------------------------------------------

    def work(self) -> Work:
        """The job's work. Raises QapiError when it goes wrong."""
        raise NotImplementedError

    def prepare(self) -> None:
        """All jobs of the transaction are done: change the graph. Raises QapiError."""

    def commit(self) -> None:
        """The transaction succeeded."""

    def abort(self) -> None:
        """It did not."""

    def clean(self) -> None:
        """Give back what is held, either way."""

    def soft_cancel(self) -> bool:
        """Whether a cancel without force lets the job end well (a ready mirror)."""
        return False

    # -- events ----------------------------------------------------------------------------------

    def _changed(self, state: str) -> None:
        self.jobs.process.journal.note("job", self.id, state=state, type=self.type)
        if not self.internal:
            self.jobs.process.events.emit("JOB_STATUS_CHANGE", {"id": self.id, "status": state})

    def event(self, name: str, **more: Any) -> None:
        """An event of block jobs: others have none of their own."""

    def pending(self) -> None:
        """It waits until a client has it finalized."""

    # -- running -----------------------------------------------------------------------------------

    def start(self, *, hold: bool = False) -> None:
        """Begin the work; with `hold` not before `let_go`."""
        self.started = True
        self.busy = True
        self.state.enter("running")
        self._work = self.work()
        self.begun()
        if not hold:
            self.let_go()

    def undrain(self) -> None:
        """The graph has changed: stand still no more, work soon."""
        if self.drained:
            self.drained = False
            self.pause_count -= 1
            self._go_on()
        self._later(0)

    def let_go(self) -> None:
        """Do the work."""
        self.undrain()
        self.work_at_once()

    def work_at_once(self) -> None:
        """Do what takes no time at all."""
        while self.instant and self._timer is not None and not self._sleeping:
            self._timer.cancel()
            self.step()

    def begun(self) -> None:
        """The job runs, and has not done anything yet."""

    @property
    def instant(self) -> bool:
        """Whether nothing it does takes time, so that it is over before its command is."""
        return False

    def _later(self, delay: int) -> None:
        self._sleeping = delay > 0
        self._timer = self.jobs.process.call_later(delay, self.step)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    @property
    def sleeps_on(self) -> bool:
        """Whether what wakes it does not shorten a wait that its speed asks for.

        See blockjob.c: block_job_ratelimit_sleep().
        """
        return self.jobs.process.profile.traits.jobs_sleep_on

    def kick(self) -> None:
        """Go on if the job sleeps, at once where its speed lets it."""
        self._stop_timer()
        if self.started and not self.finished:
            rests = self.sleeps_on and not self.force_cancelled
            self._later(self._limited(0) if rests else 0)

    def step(self) -> None:
        """Some pieces of work, unless the job is to stand still; a bug in them fails the job."""
        self.jobs.process.guard.call(self._pieces, failed=partial(fail_by_bug, self))

    def _pieces(self) -> None:
        for _ in range(_PIECES):
            self._piece()
            if self._timer is None or self._sleeping:
                return
            self._timer.cancel()
        self._later(0)

    def _piece(self) -> None:
        self._timer = None
        if self.finished or self._work is None or self.held:
            return
        resumed, self.resumed = self.resumed, False
        if self.pause_count and not self.force_cancelled and not resumed:
            self._stand_still()
            return
        try:
            if self.force_cancelled and not resumed:
                raise QapiError(CANCELED)
            if text := self.jobs.fault_of(self, over=False):
                raise QapiError(text)
            counted = next(self._work)
        except StopIteration:
            self.work_ended(self.jobs.fault_of(self, over=True))
        except QapiError as error:
            self.work_ended(error.desc)
        else:
            delay = SLICE if counted == RETRY else self._delay(max(counted, 0))
            self.busy = self.held or (counted != WAIT and not delay)
            if counted != WAIT:
                self._later(delay)

    def _limited(self, counted: int) -> int:
        """How long the speed limit makes the job wait after so many bytes."""
        if not self.speed:
            return 0
        if self._limit is None:
            self._limit = RateLimit()
        return self._limit.delay(self.jobs.process.clock.now(), self.speed, counted)

    def _delay(self, counted: int) -> int:
        """The same, and what else makes it wait."""
        return self._limited(counted)

    def _stand_still(self) -> None:
        if self.state.current in ("running", "ready"):
            self.busy = False
            self.state.enter("standby" if self.state.current == "ready" else "paused")

    def _go_on(self) -> None:
        if self.state.current in ("paused", "standby"):
            self.state.enter("ready" if self.state.current == "standby" else "running")
            self.busy = True

    def pause(self) -> None:
        """Stand still from now on."""
        self.pause_count += 1
        if self.started and not self.finished and not self.held:
            self._stop_timer()
            self._stand_still()

    def resume(self) -> None:
        """Take one `pause` back."""
        self.pause_count -= 1
        if not self.pause_count and self.started and not self.finished:
            self._go_on()
            self.kick()

    def set_ready(self) -> None:
        """Enter the ready state, following the guest's writes until completed or cancelled."""
        self.state.enter("ready")
        self.event("BLOCK_JOB_READY")

    def set_speed(self, speed: int) -> None:
        """Bytes per second; 0 for no limit. Raises QapiError."""
        self.state.check("set-speed", self.id)
        if speed < 0:
            raise QapiError(texts.parameter_expects("speed", "a non-negative value"))
        old, self.speed = self.speed, speed
        if speed and speed <= old:
            return
        if self.started and not self.pause_count and self.state.current == "running":
            self.kick()

    # -- the end -----------------------------------------------------------------------------------

    def work_ended(self, error: str) -> None:
        """The work is over."""
        self.finished = True
        self.busy = False
        if self._work is not None:
            self._work.close()
        self.error = error or self.error
        if self.error:
            fail(self)
            return
        self.state.enter("waiting")
        self.transaction.work_ended()

    def finalize(self) -> None:
        """Make the transaction's result so."""
        self.transaction.finalize()

    def finalize_single(self) -> None:
        """Make this job's own result so."""
        if self.error and self.state.current != "aborting":
            self.state.enter("aborting")
        guard = self.jobs.process.guard
        guard.call(self.abort if self.error else self.commit)
        guard.call(self.clean)
        if self.started:
            if self.force_cancelled:
                self.event("BLOCK_JOB_CANCELLED")
            else:
                more = {"error": self.error} if self.error else {}
                self.event("BLOCK_JOB_COMPLETED", **more)
        self.transaction.forget(self)
        self._conclude()

    def _conclude(self) -> None:
        # a client may leave it behind for ever, to be looked through by whoever looks for garbage
        self._work = self._limit = None
        self.transaction = OVER
        self.state.enter("concluded")
        if self.auto_dismiss or not self.started:
            self.dismiss()

    def dismiss(self) -> None:
        """Forget the job."""
        self.state.enter("null")
        self.jobs.forget(self)
        self.transaction.forget(self)
        self.jobs.collect()

    def end_now(self) -> None:
        """Work no more."""
        self._stop_timer()
        self._go_on()
        self.finished = True
        self.busy = False
        if self._work is not None:
            self._work.close()

    def cancel_async(self, *, force: bool) -> None:
        """Note that it is to end."""
        if not force and self.soft_cancel():
            self.cancelled = True
            self.complete_requested = True
            return
        self.cancelled = self.force_cancelled = True
        self.error = self.error or CANCELED

    def cancel(self, *, force: bool) -> None:
        """End it; a ready mirror without force ends well."""
        if self.state.current == "concluded":
            self.dismiss()
            return
        if self.user_paused:
            self.user_paused = False
            self.pause_count -= 1
        self.cancel_async(force=force)
        if not self.started:
            self.finished = True
            fail(self)
        elif self.finished:
            if self.force_cancelled:
                fail(self)
        else:
            self._go_on()
            self._stop_timer()
            if self.force_cancelled and not self.ends_later:
                self.step()
            else:
                self.kick()

    def complete(self) -> None:
        """A client wants a ready job to end. Raises QapiError."""
        self.state.check("complete", self.id)
        if self.cancelled or not self.completable:
            raise QapiError(f"The active block job '{self.id}' cannot be completed")
        self.prepare_complete()
        self.complete_requested = True
        if not self.pause_count:
            self.kick()

    def prepare_complete(self) -> None:
        """Whether it can. Raises QapiError."""

    def prepare_cancel(self) -> None:
        """A client is about to cancel it. Raises QapiError where that cannot be."""

    # -- what it shows -----------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """JobInfo."""
        found: dict[str, Any] = {
            "id": self.id,
            "type": self.type,
            "status": self.state.current,
            "current-progress": self.done,
            "total-progress": self.total,
        }
        if self.error and (self.finished or self.state.current == "aborting"):
            found["error"] = self.error
        return found
