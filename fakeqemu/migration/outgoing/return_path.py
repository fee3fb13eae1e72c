"""What the destination has said of the migration as a whole, as the source notes it.

See migration/migration.c: source_return_path_thread(). What an answer asks of the source is the
affair of the phase it is in.
"""

from __future__ import annotations

from fakeqemu.formats.migration_stream.channels.return_path import (
    Answer,
    Broken,
    Shut,
    SwitchoverAck,
)

#: what QEMU says of a return path that just ends
LOST = "Channel error: Input/output error"


class SourceReturnPath:
    """The return path of one migration."""

    def __init__(self) -> None:
        #: the destination is through, well or not; None: not yet
        self.succeeded: bool | None = None
        #: it agrees to the switchover, see the capability switchover-ack
        self.switchover_acked = False

    def take(self, answer: Answer) -> str:
        """Note an answer; what is wrong with it or there, empty if nothing is."""
        match answer:
            case Shut(status) if status:
                self.succeeded = False
                return f"Sibling indicated error {status}"
            case Shut():
                self.succeeded = self.succeeded is not False
            case Broken(text) if text:
                self.succeeded = False
                return text
            case SwitchoverAck():
                self.switchover_acked = True
        return ""

    def restart(self) -> None:
        """There is another channel, or will be: the destination is not through."""
        self.succeeded = None
