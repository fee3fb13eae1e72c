"""Descriptors that network backends are given: by a client's name, as a number, by an old process.

See monitor/fds.c: monitor_fd_param(); migration/cpr.c: cpr_find_fd() and cpr_save_fd().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.model.net.sockets.addresses import c_integer
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.fds.cpr_fds import SavedFds
    from fakeqemu.model.fds.fdset import MonitorFds
    from fakeqemu.model.host import Host
    from fakeqemu.model.migration import CurrentMigration


@dataclass(frozen=True, slots=True)
class FoundDescriptor:
    """What a name or number stands for."""

    #: as it is shown
    number: int
    #: -1 if it is none that the process was given
    fd: int


class BackendDescriptors:
    """Where backends of one machine find theirs."""

    def __init__(
        self,
        host: Host,
        named: MonitorFds,
        saved: SavedFds,
        migration: CurrentMigration,
        *,
        reads_early: bool,
    ) -> None:
        """`reads_early`: there are parameters for those who are made before the object."""
        self.saved = saved
        self.reads_early = reads_early
        self._host = host
        self._named = named
        self._migration = migration

    def find(self, monitor: Any, name: str) -> FoundDescriptor:
        """A descriptor by name or number. Raises QapiError."""
        if monitor is not None and not name[:1].isdigit():
            fd = self._named.of(monitor).take(name)
            return FoundDescriptor(fd, fd)
        number = c_integer(name) if name.isascii() else None
        if number is None or not 0 <= number < 1 << 31:
            raise QapiError(f"Invalid file descriptor number '{name}'")
        return FoundDescriptor(number, self._host.passed_fd(number))

    @property
    def cpr_is_incoming(self) -> bool:
        """Whether they come from an old process."""
        return self._migration.parameters.cpr_is_incoming()

    def inherits(self, id: str, options: dict[str, Any]) -> bool:
        """Whether a TAP's descriptor comes from an old process. Raises QapiError.

        No released QEMU looks for one: it is what a TAP that reads `mode` early would do.
        """
        fd = options.get("fd")
        if fd is None or not self.reads_early or not self.cpr_is_incoming:
            return False
        self.saved.take(id, fd)
        return True
