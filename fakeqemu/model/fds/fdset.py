"""File descriptors that clients hand over: by name, and in sets.

A named descriptor belongs to the monitor it came through; a set belongs to the machine and
remembers what still uses it. Numbers are the process's own.

See monitor/fds.c: monitor_fdset_add_fd(), monitor_get_fd() and monitor_fdset_dup_fd_add().
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import digits

if TYPE_CHECKING:
    from fakeqemu.model.process import Process
    from fakeqemu.model.runstate import RunState

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
    #: remove-fd has taken it out, but it stays for now; see `Traits.fdsets_follow_monitors`
    removed: bool = False


@dataclass(slots=True)
class Fdset:
    """One set."""

    id: int
    fds: list[FdsetFd] = field(default_factory=list)
    #: for each duplicate of one of its descriptors, whether that is still open
    users: list[Callable[[], bool]] = field(default_factory=list)

    @property
    def used(self) -> bool:
        """Whether a duplicate of one of its descriptors is open; the set stays as long."""
        self.users = [is_open for is_open in self.users if is_open()]
        return bool(self.users)


class Fdsets:
    """All sets of a machine, highest number first, as query-fdsets lists them."""

    def __init__(self, process: Process, runstate: RunState) -> None:
        self._sets: dict[int, Fdset] = {}
        self._host = process.host
        self._follow_monitors = process.profile.traits.fdsets_follow_monitors
        self._runstate = runstate
        #: clients of monitors (7.2's mon_refcount)
        self._clients = 0

    def __iter__(self) -> Iterator[Fdset]:
        self._drop_unused()
        return iter([self._sets[number] for number in sorted(self._sets, reverse=True)])

    def get(self, number: int | None) -> Fdset | None:
        """The set of that number, if there is one; None for None."""
        self._drop_unused()
        return self._sets.get(number) if number is not None else None

    def add(self, fd: int, number: int | None, opaque: str | None) -> dict[str, int]:
        """Put `fd` into set `number`, or into the first free number; an AddfdInfo.

        Raises QapiError for a negative number.
        """
        if number is not None and number < 0:
            raise QapiError("Parameter 'fdset-id' expects a non-negative value")
        self._drop_unused()
        if number is None:
            number = 0
            while number in self._sets:
                number += 1
        self._sets.setdefault(number, Fdset(number)).fds.append(FdsetFd(fd, opaque))
        return {"fd": fd, "fdset-id": number}

    def remove(self, number: int, fd: int | None) -> None:
        """Take `fd`, or all, out of set `number`. Raises QapiError if there is no such one."""
        fdset = self.get(number)
        gone = [] if fdset is None else [f for f in fdset.fds if fd is None or f.fd == fd]
        if fdset is None or (fd is not None and not gone):
            what = f"fdset-id:{number}" + ("" if fd is None else f", fd:{fd}")
            raise QapiError(f"File descriptor named '{what}' not found")
        for each in gone:
            each.removed = True
        self._clean_up(fdset)

    def client_came(self) -> None:
        """A monitor has greeted a client."""
        self._clients += 1

    def client_left(self) -> None:
        """A monitor's client has gone."""
        self._clients -= 1
        for fdset in list(self._sets.values()):
            self._clean_up(fdset)

    def _clean_up(self, fdset: Fdset) -> None:
        self._close_abandoned(fdset)
        self._drop_unused()

    def _close_abandoned(self, fdset: Fdset) -> None:
        """See 7.2's monitor/misc.c: monitor_fdset_cleanup(); monitor/fds.c: qmp_remove_fd()."""
        abandoned = self._follow_monitors and not self._clients and not fdset.used
        if self._follow_monitors and not self._runstate.check("running"):
            return
        gone = [each for each in fdset.fds if each.removed or abandoned]
        fdset.fds = [each for each in fdset.fds if each not in gone]
        for each in gone:
            self._host.close_fd(each.fd)

    def _drop_unused(self) -> None:
        """Sets without descriptors go with the last user, as what was removed meanwhile does."""
        for fdset in list(self._sets.values()):
            if fdset.users and not fdset.used:
                self._close_abandoned(fdset)
            if not fdset.fds and not fdset.used:
                del self._sets[fdset.id]


class NamedFds:
    """The descriptors one monitor has got by `getfd`."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._fds)

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
        """Remove `name`; its new owner closes the descriptor."""
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
