"""The driver of a migration phase: performs the requests that it yields and resumes it.

The phase is suspended while a request is performed, so whatever happens meanwhile (a channel
breaks, a listener of an event runs a command) is kept until the phase asks. There is at most one
timer, that of the pending request. Everything runs through the machine's guard: a bug in a phase
fails its migration.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.clock import Timer
from fakeqemu.formats.migration_stream.channels.return_path import Answer
from fakeqemu.migration.outgoing.channels import OutgoingChannel
from fakeqemu.migration.outgoing.phase import (
    Blocking,
    ChannelBrokenError,
    CheckError,
    Due,
    Event,
    NotConnectedError,
    OpenFurtherChannels,
    OpenPreemptChannel,
    Phase,
    PhaseError,
    Request,
    Skip,
    Sleep,
    SyncMultifd,
    Wait,
    WaitForChannel,
    Write,
    WriteAt,
    WritePreempt,
)
from fakeqemu.migration.outgoing.return_path import LOST, SourceReturnPath
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: with the return path QEMU has closed the main channel
_CLOSED = "Unable to write to socket: Bad file descriptor"


class Owner(Protocol):
    """The interface of `Outgoing` that the driver uses."""

    @property
    def channel(self) -> OutgoingChannel | None:
        """The channel of the current attempt; None without one."""

    @property
    def return_path(self) -> SourceReturnPath:
        """State of the return path."""

    def record(self, text: str) -> None:
        """Record the error that query-migrate shows."""

    def complete(self, runstate: str) -> None:
        """The phase ended; `runstate` is the guest's run state from now on."""

    def phase_failed(self, error: PhaseError) -> None:
        """The phase raised `error`."""

    def fail_by_bug(self, error: QapiError) -> None:
        """The phase, or a callback of its channels, raised an unexpected exception."""


class PhaseDriver:
    """The current phase, the request that it waits in, and events not delivered yet."""

    def __init__(self, vm: Machine, owner: Owner) -> None:
        self._vm = vm
        self._owner = owner
        self._phase: Phase | None = None
        #: the phase whose code runs just now
        self._running: Phase | None = None
        #: None while the phase runs, or a request is performed that ends by itself
        self._waits_in: Blocking | None = None
        self._events: deque[Event] = deque()
        #: the first error of a channel that the phase has not seen
        self._broken: ChannelBrokenError | None = None
        self._timer: Timer | None = None

    def start(self, phase: Phase) -> None:
        """Run `phase`, replacing any other, until it waits."""
        self.stop()
        self._phase = phase
        self._resume()

    def stop(self) -> None:
        """Abandon the phase. If the phase itself is the caller it ends when it next yields."""
        phase, self._phase, self._waits_in = self._phase, None, None
        self._stop_timer()
        self.forget_channel()
        if phase is not None and phase is not self._running:
            phase.close()

    def post(self, event: Event) -> None:
        """Deliver an event to the phase, now or when it next waits."""
        if not self.wake(event) and self._phase is not None:
            self._events.append(event)

    def wake(self, event: Event) -> bool:
        """Deliver an event if the phase waits for one; a phase that runs sees the change itself."""
        waits = isinstance(self._waits_in, Wait)
        if waits:
            self._resume(event)
        return waits

    def forget_channel(self) -> None:
        """Drop undelivered events of the current channel."""
        self._events.clear()
        self._broken = None

    def break_channel_later(self, text: str) -> None:
        """Report a broken channel to a waiting phase, after the command's reply was sent."""
        self._stop_timer()
        self._timer = self._vm.process.call_later(
            0, lambda: self.channel_broken(text, clean=False), self._owner.fail_by_bug
        )

    # -- callbacks of the channels, see `channels.ChannelEvents` ------------------------------

    def channel_bug(self, error: QapiError) -> None:
        """A bug of ours in a callback of a channel."""
        self._owner.fail_by_bug(error)

    def channel_opened(self) -> None:
        """The main channel is connected."""
        if isinstance(self._waits_in, WaitForChannel):
            self._resume()

    def channels_ready(self) -> None:
        """The further channels that were requested are connected."""
        if isinstance(self._waits_in, OpenFurtherChannels | OpenPreemptChannel):
            self._resume()

    def connect_failed(self, error: NotConnectedError) -> None:
        """Connecting failed, or the transport does not support additional channels."""
        if isinstance(self._waits_in, WaitForChannel):
            self._resume(error=error)

    def channel_answered(self, answer: Answer) -> None:
        """The destination sent a message on the return path."""
        owner, channel = self._owner, self._owner.channel
        bad = owner.return_path.take(answer)
        if bad and self._vm.profile.traits.return_path_error_recorded:
            owner.record(bad)
        elif bad:
            # noticed at the next write, or at the end
            if bad != LOST:
                self._vm.host.warn(f"RP: {bad}")
            self.channel_broken(_CLOSED, clean=False, by_return_path=True)
        if owner.channel is channel:
            self.post(answer)

    def channel_broken(self, text: str, *, clean: bool, by_return_path: bool = False) -> None:
        """A channel was closed."""
        if self._phase is None:
            return
        if self._broken is None:
            self._broken = ChannelBrokenError(text, clean=clean, by_return_path=by_return_path)
        if self._waits_in is not None and not self._waits_in.keeps_errors:
            self._resume(error=self._take_error())

    # -- the phase ---------------------------------------------------------------------------

    def _resume(self, result: Any = None, *, error: PhaseError | None = None) -> None:
        self._waits_in = None
        self._stop_timer()
        self._vm.guard.call(self._run, result, error, failed=self._owner.fail_by_bug)

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
                    self._owner.complete(end.value)
                return
            except PhaseError as failed:
                if self._phase is phase:
                    self._owner.phase_failed(failed)
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
                self._wait(request)
                return

    def _perform(self, request: Request) -> tuple[Any, PhaseError | None]:
        """Perform a request that needs no waiting; returns its result."""
        channel = self._owner.channel
        match request:
            case CheckError():
                return None, self._take_error()
            case Write(data) if channel is not None:
                channel.write(data)
            case WriteAt(offset, data) if channel is not None:
                channel.write_at(offset, data)
            case Skip(size) if channel is not None:
                channel.skip(size)
            case WritePreempt(data) if channel is not None:
                channel.preempt_write(data)
            case SyncMultifd(number):
                return number if channel is None else channel.sync(number), None
        return None, None

    def _at_once(self, request: Blocking) -> tuple[Event | None, PhaseError | None]:
        """The result of a request that undelivered events already satisfy."""
        if self._broken is not None and not request.keeps_errors:
            return None, self._take_error()
        if isinstance(request, Wait) and self._events:
            return self._events.popleft(), None
        return None, None

    def _wait(self, request: Blocking) -> None:
        self._waits_in = request
        channel = self._owner.channel
        match request:
            case Sleep(delay):
                self._timer = self._vm.process.call_later(delay, self._resume)
            case Wait(until) if until is not None:
                delay = max(0, until - self._vm.clock.now())
                self._timer = self._vm.process.call_later(delay, lambda: self._resume(Due()))
            case OpenFurtherChannels() if channel is not None:
                channel.open_further()
            case OpenPreemptChannel() if channel is not None:
                channel.open_preempt()

    def _take_error(self) -> ChannelBrokenError | None:
        error, self._broken = self._broken, None
        return error

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
