"""Opening a path as QEMU does: `/dev/fdset/N` is a descriptor that was passed before.

See util/osdep.c: qemu_open_internal(); monitor/fds.c: monitor_fdset_dup_fd_add().
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from functools import partial

from fakeqemu.model.fds.fdset import Fdsets
from fakeqemu.qapi.readers.scalars import digits

#: (path, flags, mode) -> descriptor; raises OSError
Opener = Callable[[str, int, int], int]

_PREFIX = "/dev/fdset/"


def open_path(fdsets: Fdsets | None, path: str, flags: int, mode: int = 0o666) -> int:
    """Open `path`; of a set, a duplicate of the first descriptor with the access asked for."""
    if not path.startswith(_PREFIX):
        return os.open(path, flags, mode)
    number = path.removeprefix(_PREFIX)
    fdset = None if fdsets is None else fdsets.get(digits(number))
    if fdset is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for each in fdset.fds:
        have = fcntl.fcntl(each.fd, fcntl.F_GETFL)
        if have & os.O_ACCMODE == flags & os.O_ACCMODE:
            copy = os.dup(each.fd)
            fdset.users.append(partial(_still_open, copy, _identity(copy)))
            return copy
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _identity(fd: int) -> tuple[int, ...]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, fcntl.fcntl(fd, fcntl.F_GETFL)


def _still_open(fd: int, identity: tuple[int, ...]) -> bool:
    """Whether a duplicate is still there: its number may be another file's by now."""
    try:
        return _identity(fd) == identity
    except OSError:
        return False
