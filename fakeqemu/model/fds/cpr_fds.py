"""Descriptors by name that outlive the process: what CPR hands from an old QEMU to a new one.

Backends save a descriptor when they open it, and look for a saved one before they open their
own. Between processes on one host the list travels ahead of the migration.

See migration/cpr.c: cpr_save_fd(), cpr_find_fd() and cpr_delete_fd().
"""

from __future__ import annotations

from collections.abc import Iterator

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError


@dataclass(frozen=True, slots=True)
class SavedFd:
    """One descriptor."""

    name: str
    #: tells several of one name apart
    id: int
    fd: int


class SavedFds:
    """The saved descriptors of one machine, the last saved first."""

    def __init__(self) -> None:
        self._saved: list[SavedFd] = []

    def __iter__(self) -> Iterator[SavedFd]:
        return iter(tuple(self._saved))

    def save(self, name: str, fd: int, id: int = 0) -> None:
        """Keep `fd` for a later process."""
        self._saved.insert(0, SavedFd(name, id, fd))

    def find(self, name: str, id: int = 0) -> int | None:
        """The descriptor saved as `name`; None if there is none."""
        found = (saved.fd for saved in self._saved if (saved.name, saved.id) == (name, id))
        return next(found, None)

    def take(self, name: str, given: str, id: int = 0) -> int:
        """The descriptor saved as `name`, in place of the one `given`. Raises QapiError."""
        fd = self.find(name, id)
        if fd is None:
            raise QapiError(f"cannot find saved value for fd {given}")
        return fd

    def forget(self, name: str, id: int = 0) -> None:
        """Keep it no longer."""
        self._saved = [s for s in self._saved if (s.name, s.id) != (name, id)]
