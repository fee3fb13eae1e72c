"""State of the return path: the destination's result and acknowledgements.

See migration/migration.c: source_return_path_thread(). What a message means for the source depends
on its phase.
"""

from __future__ import annotations

from fakeqemu.formats.migration_stream.channels.return_path import (
    Answer,
    Broken,
    Shut,
    SwitchoverAck,
)

#: QEMU's text for a return path that is closed without error
LOST = "Channel error: Input/output error"


class SourceReturnPath:
    """Return path messages of one migration, as far as they are state."""

    def __init__(self) -> None:
        #: the destination's result in SHUT; None before
        self.succeeded: bool | None = None
        #: SWITCHOVER_ACK was received (capability switchover-ack)
        self.switchover_acked = False

    def take(self, answer: Answer) -> str:
        """Note a message; returns an error text, empty if the message is valid."""
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
        """Forget the result: the channel is replaced."""
        self.succeeded = None
