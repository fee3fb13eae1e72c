"""TAP interfaces that machines on one host have open: a locked file for each, in a folder.

The host's devices are not opened. Where a folder is named, machines of several processes see each
other by it: the lock belongs to the open file, which goes to another process with its descriptor as
an open TAP does, and is given up when nobody has it any more. An interface opened with several
queues has a shared lock, any other an exclusive one.

See net/tap-linux.c: tap_open(); and the kernel's tun_set_iff() and tun_attach().
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from fakeqemu.model.host import TapInterface
from fakeqemu.model.net.tap import refused
from fakeqemu.qapi.errors import QapiError


class TapInterfaces:
    """The interfaces of one host, by a folder that all its machines name."""

    def __init__(self, folder: str | Path) -> None:
        """Raises OSError unless `folder` is one."""
        self._folder = Path(folder)
        os.close(self._open_folder())

    def open(self, ifname: str, *, multi_queue: bool, given: bool) -> TapInterface:
        """Open an interface as the kernel would let one, or refuse it with QapiError.

        `given`: whoever gave a descriptor has opened it, so that nothing is refused.
        """
        with self._changing(ifname):
            return self._take(ifname, multi_queue=multi_queue, given=given)

    def is_shared(self, ifname: str, *, multi_queue: bool, given: bool) -> bool:
        """Whether others have it open, which `open` would allow. QapiError where it would not.

        Nobody who opens one notices.
        """
        with self._changing(ifname):
            if not self._lock_file(ifname).exists():
                return False
            found = self._take(ifname, multi_queue=multi_queue, given=given)
            if found.fd is not None:
                os.close(found.fd)
            return found.shared

    def _take(self, ifname: str, *, multi_queue: bool, given: bool) -> TapInterface:
        fd = os.open(self._lock_file(ifname), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if _lock(fd, fcntl.LOCK_EX):
            if multi_queue:
                _lock(fd, fcntl.LOCK_SH)
            return TapInterface(fd)
        several = _lock(fd, fcntl.LOCK_SH)
        if several and multi_queue and not given:
            return TapInterface(fd, shared=True)
        os.close(fd)
        if given:
            return TapInterface(shared=True)
        raise refused(ifname, errno.EINVAL if several or multi_queue else errno.EBUSY)

    def _lock_file(self, ifname: str) -> Path:
        return self._folder / quote(ifname, safe="")

    @contextlib.contextmanager
    def _changing(self, ifname: str) -> Iterator[None]:
        """Nobody else takes or looks at locks meanwhile; those who do are quick."""
        try:
            fd = self._open_folder()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)
        except OSError as error:
            raise QapiError(f"could not lock TAP interface {ifname}: {error.strerror}") from None

    def _open_folder(self) -> int:
        return os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _lock(fd: int, kind: int) -> bool:
    """Whether the lock can be had now."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
