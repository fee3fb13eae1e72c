"""The driver of a migration phase: performs the requests that it yields and resumes it.

The phase is suspended while a request is performed, so whatever happens meanwhile (a channel
breaks, a listener of an event runs a command) is kept until the phase asks. There is at most one
timer, that of the pending request. Everything runs through the machine's guard: a bug in a phase
fails its migration.

See migration/migration.c: migration_thread() and process_incoming_migration_co().
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.clock import Timer
from fakeqemu.migration.phases.requests import Blocking, Due, PhaseError, Sleep, Wait
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.guard import Guard
    from fakeqemu.model.process import Process


class PhaseOwner(Protocol):
    """Whose phase it is: what it comes to in the end."""

    def complete(self, result: Any) -> None:
        """The phase ended and returned `result`."""

    def phase_failed(self, error: PhaseError) -> None:
        """The phase raised `error`."""

    def fail_by_bug(self, error: QapiError) -> None:
        """The phase, or a callback of its channels, raised an unexpected exception."""


class PhaseDriver:
    """The current phase, the request that it waits in, and events not delivered yet."""

    def __init__(self, guard: Guard, process: Process, owner: PhaseOwner) -> None:
        self._guard = guard
        self._process = process
        self._phase_owner = owner
        self._phase: Generator[Any, Any, Any] | None = None
        #: the phase whose code runs just now
        self._running: Generator[Any, Any, Any] | None = None
        #: None while the phase runs, or a request is performed that ends by itself
        self._waits_in: Blocking | None = None
        self._events: deque[Any] = deque()
        self._timer: Timer | None = None

    @property
    def started(self) -> bool:
        """Whether there is a phase that has not ended."""
        return self._phase is not None

    def start(self, phase: Generator[Any, Any, Any]) -> None:
        """Run `phase`, replacing any other, until it waits."""
        self.stop()
        self._phase = phase
        self._resume()

    def stop(self) -> None:
        """Abandon the phase. If the phase itself is the caller it ends when it next yields."""
        phase, self._phase, self._waits_in = self._phase, None, None
        self._stop_timer()
        self.forget_events()
        if phase is not None and phase is not self._running:
            phase.close()

    def post(self, event: Any) -> None:
        """Deliver an event to the phase, now or when it next waits."""
        if not self.wake(event) and self._phase is not None:
            self._events.append(event)

    def wake(self, event: Any) -> bool:
        """Deliver an event if the phase waits for one; a phase that runs sees the change itself."""
        waits = isinstance(self._waits_in, Wait)
        if waits:
            self._resume(event)
        return waits

    def forget_events(self) -> None:
        """Drop events that are not delivered yet."""
        self._events.clear()

    # -- requests; what a side of the migration has besides those of both ---------------------

    def _perform(self, request: Any) -> tuple[Any, PhaseError | None]:
        """Perform a request that needs no waiting; returns its result."""
        raise TypeError(f"nobody performs {request}")

    def _at_once(self, request: Blocking) -> tuple[Any, PhaseError | None]:
        """The result of a request that undelivered events already satisfy."""
        if isinstance(request, Wait) and self._events:
            return self._events.popleft(), None
        return None, None

    def _wait(self, request: Blocking) -> None:
        """Begin what ends the wait."""
        match request:
            case Sleep(delay):
                self._resume_later(delay)
            case Wait(until) if until is not None:
                self._resume_later(max(0, until - self._process.clock.now()), Due())

    # -- the phase ---------------------------------------------------------------------------

    def _resume_later(self, delay: int, result: Any = None) -> None:
        self._timer = self._process.call_later(delay, lambda: self._resume(result))

    def _resume(self, result: Any = None, *, error: PhaseError | None = None) -> None:
        self._waits_in = None
        self._stop_timer()
        self._guard.call(self._run, result, error, failed=self._phase_owner.fail_by_bug)

    def _run(self, result: Any, error: PhaseError | None) -> None:
        """Resume the phase until it waits, ends or is stopped."""
        phase = self._phase
        assert phase is not None
        while self._phase is phase:
            self._running = phase
            try:
                request = phase.send(result) if error is None else phase.throw(error)
            except StopIteration as end:
                if self._phase is phase:
                    self._phase = None
                    self._phase_owner.complete(end.value)
                return
            except PhaseError as failed:
                if self._phase is phase:
                    self._phase = None
                    self._phase_owner.phase_failed(failed)
                return
            finally:
                self._running = None
            if self._phase is not phase:
                # the phase itself caused the call of `stop`
                phase.close()
                return
            if not isinstance(request, Blocking):
                result, error = self._perform(request)
                continue
            result, error = self._at_once(request)
            if result is None and error is None:
                self._waits_in = request
                self._wait(request)
                return

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
