"""Where a tester may stand between a monitor and the machine.

QMP itself stays as it is; without hooks nothing here is called. `fakeqemu.testing` puts its
faults in, and they see requests before they are checked and lines before they are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fakeqemu.qmp.monitor import QmpMonitor
    from fakeqemu.qmp.request import Request
    from fakeqemu.qmp.session import QmpSession


class Hooks(Protocol):
    """What stands there."""

    def command(self, session: QmpSession, request: Request, proceed: Callable[[], Any]) -> Any:
        """A well-formed request; `proceed()` carries it out. A value or a Deferred.

        Raises QapiError to refuse it.
        """

    def output(self, monitor: QmpMonitor, line: bytes) -> None:
        """A line for the client of `monitor`; send it with `monitor.chardev.write`."""

    def input(self, monitor: QmpMonitor, data: bytes, fds: Sequence[int]) -> None:
        """Bytes from that client; hand them on with `monitor.take`."""
