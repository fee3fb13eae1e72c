"""What the channels of an outgoing migration say, and what follows from it.

A destination that is gone or unhappy shows in several ways, and versions differ in which of
them they take notice of, and when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.migration import guest
from fakeqemu.migration.postcopy import Postcopy
from fakeqemu.migration.precopy import Precopy
from fakeqemu.migration.sender import Sender
from fakeqemu.migration.snapshot import Snapshot
from fakeqemu.migration.state import RUNNING
from fakeqemu.migration.streams.returnpath import Answer, Broken, Shut
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.outgoing import Outgoing

#: what QEMU says of a way back that just ends
LOST = "Channel error: Input/output error"


class Hearing:
    """The owner of one attempt's channels."""

    def __init__(self, run: Outgoing) -> None:
        self._run = run

    def channel_bug(self, error: QapiError) -> None:
        """See `channel.Owner`."""
        self._run.fail_by_bug(error)

    def connect_failed(self, text: str) -> None:
        """See `channel.Owner`."""
        run = self._run
        desc, _, hint = text.partition("\n")
        if run.traits.reports_connect_failure or isinstance(run.course, Postcopy):
            run.vm.host.warn(desc)
            if hint:
                run.vm.host.warn(hint)
        run.refused(QapiError(desc))

    def channel_alone(self, text: str) -> None:
        """See `channel.Owner`."""
        self._run.vm.host.warn(text)
        self._run.refused(QapiError(text), record=False)

    def channel_opened(self) -> None:
        """See `channel.Owner`."""
        run = self._run
        assert run.channel is not None
        if isinstance(run.course, Postcopy):
            return
        source = guest.source(run.vm, run.migration)
        offset = run.channel.file_offset
        run.sender = Sender(run.channel, source, run.traits, offset=offset)
        if run.migration.mode != "normal":
            run.hold.stop()
        run.sender.begin()

    def channels_ready(self) -> None:
        """See `channel.Owner`."""
        run = self._run
        if isinstance(run.course, Postcopy):
            run.course.reconnected()
        elif run.status == "setup":
            snapshot = run.migration.capabilities("background-snapshot")
            run.course = Snapshot(run) if snapshot else Precopy(run)
            run.course.begin()

    def channel_answered(self, answer: Answer) -> None:
        """See `channel.Owner`."""
        run = self._run
        bad = ""
        match answer:
            case Shut(status) if status:
                bad = f"Sibling indicated error {status}"
            case Shut():
                run.answered_well = run.answered_well is not False
            case Broken(text):
                bad = text
        if bad:
            run.answered_well = False
            self._told_bad(bad)
        if run.course is not None:
            run.course.answered(answer)

    def _told_bad(self, text: str) -> None:
        """The way back is of no use any more; QEMU notices at its next write, or at the end."""
        run = self._run
        if run.traits.return_path_error_recorded:
            run.record(text)
            return
        if text != LOST:
            run.vm.host.warn(f"RP: {text}")
        if run.channel is not None and run.status in RUNNING - {"cancelling"}:
            # with the way back it has closed the way there
            closed = "Unable to write to socket: Bad file descriptor"
            self.channel_broken("" if run.all_sent else closed, clean=False)

    def channel_broken(self, text: str, *, clean: bool) -> None:
        """See `channel.Owner`."""
        run = self._run
        channel = run.channel
        if channel is None or run.status in ("cancelling", "failing"):
            return
        if isinstance(run.course, Postcopy):
            run.course.broken(text)
            return
        if run.all_sent and clean and not channel.return_path:
            return  # a destination that has everything closes
        if run.status == "setup" and run.migration.parameters.get("tls-creds"):
            self.connect_failed(run.traits.tls_hangup)
            return
        if isinstance(run.course, Precopy) and run.status == "setup" and channel.return_path:
            # setting up is over before anybody looks
            run.course.broken_early = run.course.broken_early or text
            return
        if isinstance(run.course, Precopy) and run.status == "pre-switchover":
            # nothing is written until it goes on
            run.course.broken_meanwhile = run.course.broken_meanwhile or text
            return
        if run.hold.old_state is not None and run.migration.mode == "normal" and not run.all_sent:
            text = run.traits.switchover_write_error.format(text)
        if run.status == "setup" and run.traits.setup_failure:
            text = run.traits.setup_failure
        elif run.traits.reports_failed_section and not (
            # whoever listens to the way back notices before anything is written
            run.all_sent or channel.multifd_channels or (clean and channel.return_path)
        ):
            run.vm.host.warn("failed to save SaveStateEntry with id(name): 1(ram): -5")
        run.fail(text)
