"""Who resumes the phases of an outgoing migration: performs what they yield, brings them events.

The phase is suspended while a request of it is performed, so whatever the world does meanwhile
(a channel that breaks, a command from an event's listener) is kept until it asks. There is one
timer at most, that of the request it waits in. Everything runs through the machine's guard: a
bug in a phase fails its migration.
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
    """Whose phases they are."""

    @property
    def channel(self) -> OutgoingChannel | None:
        """Where a phase sends to; None while there is none."""

    @property
    def return_path(self) -> SourceReturnPath:
        """Where answers of the destination are noted."""

    def record(self, text: str) -> None:
        """Remember why the migration will fail."""

    def complete(self, runstate: str) -> None:
        """The phase has come to its end; `runstate` is what the guest is in from now on."""

    def phase_failed(self, error: PhaseError) -> None:
        """The phase was left by `error`."""

    def fail_by_bug(self, error: QapiError) -> None:
        """The phase, or something on its channels, was left by a bug of ours."""


class PhaseDriver:
    """The phase under way, what it waits for, and what it has not been given yet."""

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
        """Run `phase`, in place of any other, until it waits."""
        self.stop()
        self._phase = phase
        self._resume()

    def stop(self) -> None:
        """Leave the phase where it is. It may be the caller: then it ends when it next yields."""
        phase, self._phase, self._waits_in = self._phase, None, None
        self._stop_timer()
        self.forget_channel()
        if phase is not None and phase is not self._running:
            phase.close()

    def post(self, event: Event) -> None:
        """Give the phase an event, now or when it next waits for one."""
        if not self.wake(event) and self._phase is not None:
            self._events.append(event)

    def wake(self, event: Event) -> bool:
        """Give the phase an event if it waits for one; another sees for itself what is new."""
        waits = isinstance(self._waits_in, Wait)
        if waits:
            self._resume(event)
        return waits

    def forget_channel(self) -> None:
        """What came from the channel so far is of no interest any more."""
        self._events.clear()
        self._broken = None

    def break_channel_later(self, text: str) -> None:
        """Let a phase that waits find its channel broken, after the reply of a command."""
        self._stop_timer()
        self._timer = self._vm.call_later(
            0, lambda: self.channel_broken(text, clean=False), self._owner.fail_by_bug
        )

    # -- what the channels say, see `channel.ChannelEvents` ----------------------------------

    def channel_bug(self, error: QapiError) -> None:
        """A bug of ours in a callback of a channel."""
        self._owner.fail_by_bug(error)

    def channel_opened(self) -> None:
        """The main channel is there."""
        if isinstance(self._waits_in, WaitForChannel):
            self._resume()

    def channels_ready(self) -> None:
        """The further channels that were asked for are there."""
        if isinstance(self._waits_in, OpenFurtherChannels | OpenPreemptChannel):
            self._resume()

    def connect_failed(self, error: NotConnectedError) -> None:
        """The main channel cannot be had, or not the further ones it takes."""
        if isinstance(self._waits_in, WaitForChannel):
            self._resume(error=error)

    def channel_answered(self, answer: Answer) -> None:
        """The destination has answered."""
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
        """A channel has ended."""
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
        """Go on until the phase waits, ends or is stopped."""
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
                # stopped by something that it did itself
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
        """Do what ends by itself."""
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
        """What the phase has not been given yet and need not wait for."""
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
                self._timer = self._vm.call_later(delay, self._resume)
            case Wait(until) if until is not None:
                delay = max(0, until - self._vm.clock.now())
                self._timer = self._vm.call_later(delay, lambda: self._resume(Due()))
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
