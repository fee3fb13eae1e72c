"""The driver of a source's phases: what they write, and the channels that they wait for.

See migration/migration.c: migration_thread().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.formats.migration_stream.channels.return_path import Answer
from fakeqemu.migration.outgoing.channels import OutgoingChannel
from fakeqemu.migration.outgoing.phase import (
    ChannelBrokenError,
    CheckError,
    NotConnectedError,
    OpenFurtherChannels,
    OpenPreemptChannel,
    Request,
    Skip,
    SyncMultifd,
    WaitForChannel,
    Write,
    WriteAt,
    WritePreempt,
)
from fakeqemu.migration.outgoing.return_path import LOST, SourceReturnPath
from fakeqemu.migration.phases.driver import PhaseDriver, PhaseOwner
from fakeqemu.migration.phases.requests import Blocking, PhaseError
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.guard import Guard
    from fakeqemu.model.process import Process
    from fakeqemu.traits import Traits

#: with the return path QEMU has closed the main channel
_CLOSED = "Unable to write to socket: Bad file descriptor"


class Owner(PhaseOwner, Protocol):
    """The interface of `Outgoing` that the driver uses."""

    @property
    def channel(self) -> OutgoingChannel | None:
        """The channel of the current attempt; None without one."""

    @property
    def return_path(self) -> SourceReturnPath:
        """State of the return path."""

    def record(self, text: str) -> None:
        """Record the error that query-migrate shows."""


class OutgoingDriver(PhaseDriver):
    """Performs what only the phases of a source ask for: writing, and connecting channels."""

    def __init__(self, guard: Guard, process: Process, traits: Traits, owner: Owner) -> None:
        super().__init__(guard, process, owner)
        self._traits = traits
        self._owner = owner
        #: the first error of a channel that the phase has not seen
        self._broken: ChannelBrokenError | None = None

    def forget_events(self) -> None:
        """Drop undelivered events of the current channel."""
        super().forget_events()
        self._broken = None

    def break_channel_later(self, text: str) -> None:
        """Report a broken channel to a waiting phase, after the command's reply was sent."""
        self._stop_timer()
        self._timer = self._process.call_later(
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
        if bad and self._traits.return_path_error_recorded:
            owner.record(bad)
        elif bad:
            # noticed at the next write, or at the end
            if bad != LOST:
                self._process.host.warn(f"RP: {bad}")
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

    # -- requests ----------------------------------------------------------------------------

    def _perform(self, request: Request) -> tuple[Any, PhaseError | None]:
        channel = self._owner.channel
        match request:
            case CheckError():
                return None, self._take_error()
            case Write(data, fds) if channel is not None:
                channel.write(data, fds)
            case WriteAt(offset, data) if channel is not None:
                channel.write_at(offset, data)
            case Skip(size) if channel is not None:
                channel.skip(size)
            case WritePreempt(data) if channel is not None:
                channel.preempt_write(data)
            case SyncMultifd(number):
                return number if channel is None else channel.sync(number), None
        return None, None

    def _at_once(self, request: Blocking) -> tuple[Any, PhaseError | None]:
        if self._broken is not None and not request.keeps_errors:
            return None, self._take_error()
        return super()._at_once(request)

    def _wait(self, request: Blocking) -> None:
        channel = self._owner.channel
        match request:
            case OpenFurtherChannels() if channel is not None:
                channel.open_further()
            case OpenPreemptChannel() if channel is not None:
                channel.open_preempt()
            case _:
                super()._wait(request)

    def _take_error(self) -> ChannelBrokenError | None:
        error, self._broken = self._broken, None
        return error
