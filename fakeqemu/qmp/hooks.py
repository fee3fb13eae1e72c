"""Where a tester may stand between a monitor and the machine.

QMP itself stays as it is; without hooks nothing here is called. `fakeqemu.testing` puts its
faults in, and they see requests before they are checked and lines before they are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fakeqemu.commands.registry import Deferred
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.qmp.connection import QmpConnection
    from fakeqemu.qmp.request import Request
    from fakeqemu.qmp.session import Line

#: hands input on: bytes, and the descriptors that came with them
TakeInput = Callable[[bytes, Sequence[int]], None]


class Hooks(Protocol):
    """What stands there."""

    def command(
        self, connection: QmpConnection, request: Request, proceed: Callable[[], Any]
    ) -> Any:
        """A well-formed request; `proceed()` carries it out. A value or a Deferred.

        Raises QapiError to refuse it.
        """

    def output(self, connection: QmpConnection, line: Line) -> None:
        """A line for a client; send it with `connection.transport.write`."""

    def hmp_line(
        self, chardev: Chardev, line: str, run: Callable[[], str]
    ) -> str | Deferred:
        """A line of a human monitor; `run()` gives its text. The text, or a Deferred of it."""

    def hmp_output(self, chardev: Chardev, data: bytes, line: str | None) -> None:
        """What a human monitor shows: for a line, or (None) its banner; "" is all else.

        Send it with `chardev.write`.
        """

    def hmp_input(
        self, chardev: Chardev, data: bytes, fds: Sequence[int], take: TakeInput
    ) -> None:
        """Keys for a human monitor; hand them on with `take`."""

    def input(
        self, connection: QmpConnection, data: bytes, fds: Sequence[int], take: TakeInput
    ) -> None:
        """Bytes from a client; hand them on with `take`."""
