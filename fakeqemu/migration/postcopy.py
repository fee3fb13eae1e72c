"""The other course: the guest goes on at the destination, and its memory follows.

Once the destination may run, this side can only pause when the channel breaks, and wait for
another one: `migrate` with `resume`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.migration.streams.constants import PACKAGE_LOADED
from fakeqemu.migration.streams.returnpath import (
    Answer,
    Pong,
    ReceivedBitmap,
    RequestPages,
    ResumeAck,
    Shut,
)

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing

_PAUSED = "Detected IO failure for postcopy. Migration paused."
#: most bytes of memory given for one request
_REQUEST_LIMIT = 1 << 24


class Postcopy:
    """Switch to postcopy, pages after that, pause and resumption of one migration."""

    def __init__(self, run: Outgoing) -> None:
        self._run = run
        #: the destination has the device states
        self._handed_over = False
        #: bitmaps of received pages that a resumption still waits for
        self._bitmaps = 0
        #: block of the last request for pages
        self._block = ""

    # -- switching over ----------------------------------------------------------------------

    def begin(self) -> None:
        """Stop the guest here; with postcopy-preempt once there is a channel for urgent pages."""
        run = self._run
        assert run.channel is not None
        if run.migration.capabilities("postcopy-preempt"):
            run.channel.open_preempt(self._stop)
        else:
            self._stop()

    def _stop(self) -> None:
        run = self._run
        if run.status != "active":
            return
        pauses = run.migration.capabilities("pause-before-switchover")
        if run.traits.postcopy_active_before_stop and not pauses:
            run.state.move("postcopy-active")
        run.hold.stop()
        if pauses:
            run.state.move("pre-switchover")
        else:
            self._switch()

    def go_on(self) -> None:
        """migrate-continue: leave pre-switchover."""
        self._run.later(0, self._switch)

    def _switch(self) -> None:
        run = self._run
        if not run.traits.postcopy_active_before_stop:
            run.state.move("device")
        elif run.status == "pre-switchover":
            run.state.move("postcopy-active")
        run.vm.hand_over_images()
        run.transfer.start_postcopy(run.vm.clock.now())
        run.tell_passes()
        assert run.sender is not None
        run.sender.discard(run.transfer.remaining)
        run.later(run.transfer.workload.device_time, self._hand_over)

    def _hand_over(self) -> None:
        run = self._run
        assert run.sender is not None
        run.sender.package(run.hold.old_state or "running", run.vm.clock.now())
        run.hold.end_downtime()
        self._handed_over = True
        memory_follows = run.migration.capabilities("postcopy-ram")
        if run.traits.postcopy_device_state and memory_follows:
            # until the destination has loaded what it was sent
            run.state.move("postcopy-device")
            return
        if run.status != "postcopy-active":
            run.state.move("postcopy-active")
        self._go_on_sending()

    # -- pages -------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let the model follow the clock."""
        self._run.transfer.advance(self._run.vm.clock.now())

    def _go_on_sending(self) -> None:
        """What is in memory goes at once; how long all of it takes is the time model's affair."""
        if self._run.sender is not None:
            self._run.sender.rest()
        self.schedule()

    def schedule(self) -> None:
        """Wait until everything is sent."""
        run = self._run
        if self._handed_over and run.status == "postcopy-active" and not run.all_sent:
            if run.transfer.phase == "done":
                run.later(0, self._advance)
            else:
                run.later_at(run.transfer.next_change(), self._advance)

    def _advance(self) -> None:
        run = self._run
        run.transfer.advance(run.vm.clock.now())
        if run.transfer.phase != "done":
            self.schedule()
            return
        run.all_sent = True
        assert run.sender is not None
        run.sender.postcopy_end()
        self._complete()

    def _complete(self) -> None:
        run = self._run
        if run.channel is None or run.status != "postcopy-active" or not run.all_sent:
            return
        # without a way back nobody is waited for
        if run.answered_well or not run.channel.return_path:
            run.complete("postmigrate")

    def answered(self, answer: Answer) -> None:
        """The destination said something."""
        run = self._run
        match answer:
            case RequestPages(block, start, length):
                self._block = block if block is not None else self._block
                if run.sender is not None and self._block and length <= _REQUEST_LIMIT:
                    run.sender.page(self._block, start, length)
            case Pong(value) if value == PACKAGE_LOADED and run.status == "postcopy-device":
                run.state.move("postcopy-active")
                self._go_on_sending()
            case ReceivedBitmap() if run.status == "postcopy-recover":
                if run.sender is not None:
                    run.sender.has(answer.block, answer.numbers())
                self._bitmaps -= 1
                if not self._bitmaps:
                    self._resume()
            case ResumeAck() if run.status == "postcopy-recover":
                run.state.move("postcopy-active")
                run.transfer.set_halted(run.vm.clock.now(), False)
                self._go_on_sending()
            case Shut():
                self._complete()

    # -- pause and resumption ----------------------------------------------------------------

    def broken(self, text: str) -> None:
        """The channel is gone: pause, or fail as long as the guest can still run here."""
        run = self._run
        if run.status in ("active", "pre-switchover", "device", "postcopy-device"):
            run.fail(text)
            return
        if run.status not in ("postcopy-active", "postcopy-recover", "postcopy-recover-setup"):
            return
        run.error = run.error or text
        self._drop_channel()
        run.state.move("postcopy-paused")
        run.vm.host.warn(_PAUSED)

    def _drop_channel(self) -> None:
        run = self._run
        run.later_at(None, self._advance)
        run.transfer.set_halted(run.vm.clock.now(), True)
        run.all_sent, run.answered_well = False, None
        channel, run.channel = run.channel, None
        if channel is not None:
            channel.close()

    def not_resumed(self) -> None:
        """There is no new channel to be had: paused as before."""
        run = self._run
        self._drop_channel()
        if run.status == "postcopy-recover-setup":
            run.state.move("postcopy-paused")

    def reconnected(self) -> None:
        """The new channel is there: ask the destination what it has."""
        run = self._run
        assert run.channel is not None and run.sender is not None
        run.error = ""
        run.answered_well = None
        run.state.move("postcopy-recover")
        blocks = run.sender.ask_bitmaps(run.channel)
        self._bitmaps = len(blocks)
        if not blocks:
            self._resume()

    def _resume(self) -> None:
        run = self._run
        assert run.channel is not None and run.sender is not None
        preempt = run.migration.capabilities("postcopy-preempt")
        if preempt and not run.traits.preempt_channel_at_setup:
            run.channel.open_preempt(run.sender.resume)
        else:
            run.sender.resume()
