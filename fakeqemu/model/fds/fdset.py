"""File descriptors that clients hand over: by name, and in sets.

A named descriptor belongs to the monitor it came through; a set belongs to the machine and
remembers which monitors hold it. Numbers are the process's own; nothing here opens or closes
them, that is the host's affair.

See monitor/fds.c: monitor_fdset_add_fd(), monitor_get_fd() and monitor_fdset_dup_fd_add().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import digits

_PREFIX = "/dev/fdset/"


def open_failure(path: str, flags: int, error: OSError, *, steps_named: bool) -> str:
    """Why `path`, or a descriptor of the set it names, cannot be opened.

    `steps_named`: trait fdset_failures_named. See util/osdep.c: qemu_open_internal();
    monitor/fds.c: monitor_fdset_dup_fd_add().
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    if not path.startswith(_PREFIX):
        return f"Could not {'create' if flags & os.O_CREAT else 'open'} '{path}': {reason}"
    number = digits(path.removeprefix(_PREFIX))
    if number is None:
        return f"Could not parse fdset {path}"
    if steps_named and error.errno == errno.ENOENT:
        return f"Failed to find fdset {_PREFIX}{number}"
    if steps_named and error.errno == errno.EACCES:
        return f"Failed to find file descriptor with matching flags=0x{flags:x}"
    return f"Could not dup FD for {path} flags {flags:x}: {reason}"


@dataclass(slots=True)
class FdsetFd:
    """One descriptor of a set."""

    fd: int
    opaque: str | None = None


@dataclass(slots=True)
class Fdset:
    """One set; `users` are descriptors duplicated out of it and still open."""

    id: int
    fds: list[FdsetFd] = field(default_factory=list)
    users: list[int] = field(default_factory=list)


class Fdsets:
    """All sets of a machine, highest number first, as query-fdsets lists them."""

    def __init__(self) -> None:
        self._sets: dict[int, Fdset] = {}

    def __iter__(self) -> Iterator[Fdset]:
        return iter([self._sets[number] for number in sorted(self._sets, reverse=True)])

    def get(self, number: int | None) -> Fdset | None:
        """The set of that number, if there is one; None for None."""
        return self._sets.get(number) if number is not None else None

    def add(self, fd: int, number: int | None, opaque: str | None) -> dict[str, int]:
        """Put `fd` into set `number`, or into the first free number; an AddfdInfo.

        Raises QapiError for a negative number.
        """
        if number is not None and number < 0:
            raise QapiError("Parameter 'fdset-id' expects a non-negative value")
        if number is None:
            number = 0
            while number in self._sets:
                number += 1
        self._sets.setdefault(number, Fdset(number)).fds.append(FdsetFd(fd, opaque))
        return {"fd": fd, "fdset-id": number}

    def remove(self, number: int, fd: int | None) -> list[int]:
        """Take `fd`, or all, out of set `number`; the descriptors to close.

        Raises QapiError if there is no such set or descriptor.
        """
        fdset = self._sets.get(number)
        gone = [] if fdset is None else [f for f in fdset.fds if fd is None or f.fd == fd]
        if fdset is None or (fd is not None and not gone):
            what = f"fdset-id:{number}" + ("" if fd is None else f", fd:{fd}")
            raise QapiError(f"File descriptor named '{what}' not found")
        fdset.fds = [f for f in fdset.fds if f not in gone]
        self._drop_if_unused(fdset)
        return [f.fd for f in gone]

    def release_unused(self) -> list[int]:
        """Empty every set that nobody uses (the last client of 7.2 has left); to close."""
        gone: list[int] = []
        for fdset in list(self._sets.values()):
            if not fdset.users:
                gone += [f.fd for f in fdset.fds]
                del self._sets[fdset.id]
        return gone

    def _drop_if_unused(self, fdset: Fdset) -> None:
        if not fdset.fds and not fdset.users:
            del self._sets[fdset.id]


class NamedFds:
    """The descriptors one monitor has got by `getfd`."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def add(self, name: str, fd: int) -> int | None:
        """Keep `fd` as `name`; the descriptor that had the name before, to be closed.

        Raises QapiError for a name that starts with a digit.
        """
        if name[:1].isdigit():
            raise QapiError("Parameter 'fdname' expects a name not starting with a digit")
        old = self._fds.pop(name, None)
        self._fds[name] = fd
        return old

    def take(self, name: str) -> int:
        """Hand `name` over to whoever uses it from now on."""
        try:
            return self._fds.pop(name)
        except KeyError:
            raise QapiError(f"File descriptor named '{name}' has not been found") from None

    def close(self, name: str) -> int:
        """Forget `name`; the descriptor to close."""
        try:
            return self._fds.pop(name)
        except KeyError:
            raise QapiError(f"File descriptor named '{name}' not found") from None

    def __contains__(self, name: str) -> bool:
        return name in self._fds


class MonitorFds:
    """The named descriptors of every monitor of a machine; a monitor's go with it."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Any, NamedFds] = WeakKeyDictionary()

    def of(self, monitor: Any) -> NamedFds:
        """The descriptors that `monitor` has got by getfd."""
        return self._of.setdefault(monitor, NamedFds())
