"""What a tester's own call may raise."""

from __future__ import annotations


class QmpError(Exception):
    """A command was refused: `error_class` and `desc` as a client sees them.

    `hint` says what would be right, and stands at the end of the message.
    """

    def __init__(self, command: str, error_class: str, desc: str, hint: str = "") -> None:
        super().__init__(f"{command}: {error_class}: {desc}{hint}")
        self.command = command
        self.error_class = error_class
        self.desc = desc
