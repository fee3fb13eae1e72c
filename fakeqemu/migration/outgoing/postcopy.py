"""Postcopy: the guest runs on the destination while the rest of its memory is sent.

See migration/migration.c: postcopy_start(), postcopy_pause() and postcopy_do_resume(). Once the
destination may run, this side can only pause when the channel breaks, until the command `migrate`
with `resume`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from fakeqemu.formats.migration_stream.channels.return_path import (
    Pong,
    ReceivedBitmap,
    RequestPages,
    ResumeAck,
)
from fakeqemu.formats.migration_stream.constants import PACKAGE_LOADED
from fakeqemu.migration.outgoing.phase import (
    ChannelBrokenError,
    CheckError,
    Continue,
    Event,
    MigrationFailedError,
    NotConnectedError,
    OpenFurtherChannels,
    OpenPreemptChannel,
    Phase,
    Request,
    Steps,
    WaitForChannel,
)
from fakeqemu.migration.phases.requests import Due, Sleep, Wait

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing.outgoing import Outgoing

_PAUSED = "Detected IO failure for postcopy. Migration paused."
#: largest number of bytes sent for one page request
_REQUEST_LIMIT = 1 << 24
#: states in which a broken channel leads to a pause
_PAUSES = frozenset({"postcopy-active", "postcopy-recover", "postcopy-recover-setup"})


class Postcopy:
    """Switchover to postcopy, page requests, pause and recovery of one migration."""

    def __init__(self, run: Outgoing) -> None:
        self._run = run
        #: the switchover has begun: this side may not run the guest any more
        self.started = False
        #: RAM block of the last page request
        self._block = ""

    def run(self) -> Phase:
        """Switch over to postcopy, then send pages. Returns the guest's run state."""
        self.started = True
        return (yield from self._with_pauses(self._start()))

    def broken(self, text: str) -> Phase:
        """The phase after an unexpected exception: continue with a pause."""
        return (yield from self._with_pauses(self._resume(text)))

    def _with_pauses(self, steps: Steps) -> Phase:
        """Run `steps`; a broken channel pauses, or fails as long as the guest can still run here.
        """
        while True:
            try:
                yield from steps
                return "postmigrate"
            except ChannelBrokenError as broken:
                if self._run.status not in _PAUSES:
                    raise MigrationFailedError(broken.text) from broken
                steps = self._resume(broken.text)

    # -- switching over ----------------------------------------------------------------------

    def _start(self) -> Steps:
        """Stop the guest and send the package that starts the destination. See postcopy_start()."""
        run = self._run
        on, early = run.migration.capabilities, run.traits.postcopy_active_before_stop
        if on("postcopy-preempt"):
            yield OpenPreemptChannel()
        pauses = on("pause-before-switchover")
        if early and not pauses:
            run.state.move("postcopy-active")
        run.vm_stop.stop()
        if pauses:
            run.state.move("pre-switchover")
            while not isinstance((yield from self._event()), Continue):
                pass
            # the command's reply is sent first
            yield Sleep(0)
        if not early:
            run.state.move("device")
        elif pauses:
            run.state.move("postcopy-active")
        run.vm_stop.inactivate()
        run.transfer.start_postcopy(run.now)
        run.progress.emit_passes()
        yield from run.save_vm.discard(run.transfer.remaining)
        yield Sleep(run.transfer.workload.device_time)
        yield from run.save_vm.package(run.vm_stop.vm_old_state or "running", run.now)
        run.vm_stop.end_downtime()
        if run.traits.postcopy_device_state and on("postcopy-ram"):
            run.state.move("postcopy-device")
            # wait until the destination has loaded the package
            while (yield from self._event()) != Pong(PACKAGE_LOADED):
                pass
        if run.status != "postcopy-active":
            run.state.move("postcopy-active")
        yield from self._send_rest()

    # -- pages -------------------------------------------------------------------------------

    def _send_rest(self) -> Steps:
        """Send all remaining pages; the time model says how long that takes."""
        run = self._run
        yield from run.save_vm.rest()
        event: Event | None = None
        while not (isinstance(event, Due) and run.transfer.phase == "done"):
            done = run.transfer.phase == "done"
            event = yield from self._event(run.now if done else run.transfer.next_change())
            run.transfer.advance(run.now)
        yield from run.save_vm.postcopy_end()
        try:
            yield CheckError()
            # without a return path there is no message to wait for
            while run.open_channel.return_path and not run.return_path.succeeded:
                yield from self._event()
        except ChannelBrokenError as broken:
            if broken.by_return_path:
                raise ChannelBrokenError("", clean=False) from broken
            raise

    def _event(self, until: int | None = None) -> Generator[Request, Event, Event]:
        """The next event; page requests are served on the way."""
        while True:
            event = yield Wait(until)
            if not isinstance(event, RequestPages):
                return event
            yield from self._send_pages(event)

    def _send_pages(self, request: RequestPages) -> Steps:
        """Serve a page request. See migration/ram.c: ram_save_queue_pages()."""
        self._block = request.block if request.block is not None else self._block
        if self._block and request.length <= _REQUEST_LIMIT:
            yield from self._run.save_vm.page(self._block, request.start, request.length)

    # -- pause and resumption ----------------------------------------------------------------

    def _resume(self, text: str) -> Steps:
        """Pause, wait for a new channel, request the received bitmaps, and continue.

        An error of the return path is one of the channel, until the destination has agreed. See
        postcopy_pause(), postcopy_do_resume() and migration_rp_wait().
        """
        run = self._run
        run.record(text)
        run.drop_channel()
        run.state.move("postcopy-paused")
        run.vm.host.warn(_PAUSED)
        yield from self._reconnect()
        run.begin_recovery()
        missing = yield from run.save_vm.ask_bitmaps()
        if not missing:
            yield from self._ask_to_resume()
        while not isinstance((event := (yield from self._event())), ResumeAck):
            if run.return_path.succeeded is False:
                raise ChannelBrokenError("", clean=False, by_return_path=True)
            if isinstance(event, ReceivedBitmap):
                run.save_vm.has(event.block, event.numbers())
                missing -= 1
                if not missing:
                    yield from self._ask_to_resume()
        run.state.move("postcopy-active")
        run.transfer.set_halted(run.now, False)
        yield from self._send_rest()

    def _reconnect(self) -> Steps:
        """Wait until a `migrate` with `resume` has connected a channel."""
        run = self._run
        while True:
            try:
                yield WaitForChannel()
                yield OpenFurtherChannels()
                return
            except NotConnectedError as error:
                run.not_connected(error)
            except ChannelBrokenError:
                # a change in a state that has no paused variant is not observable
                if run.status in _PAUSES:
                    raise

    def _ask_to_resume(self) -> Steps:
        run = self._run
        preempt = run.migration.capabilities("postcopy-preempt")
        if preempt and not run.traits.preempt_channel_at_setup:
            yield OpenPreemptChannel()
        yield from run.save_vm.resume()
