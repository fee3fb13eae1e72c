"""The pid file: written and locked as QEMU does, so that a second start finds it taken.

See util/oslib-posix.c: qemu_write_pidfile().
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from fakeqemu.io.addresses import error_text, remove_file
from fakeqemu.qapi.errors import QapiError


class PidFile:
    """An open, locked pid file."""

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def create(cls, path: str) -> PidFile:
        """Write this process's id to `path`. Raises QapiError in QEMU's words."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise QapiError(f"Could not create '{path}': {error_text(error)}") from None
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise QapiError(f"Cannot lock pid file: {error_text(error)}") from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        return cls(os.path.realpath(path), fd)

    def remove(self) -> None:
        """Remove it and let the lock go."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            remove_file(self._path)
        self.close()

    def close(self) -> None:
        """Let the lock go and leave the file, as a process does that is killed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
