"""The copy of a character device's output in a file: `logfile=`.

See chardev/char.c: qemu_chr_write_log().
"""

from __future__ import annotations

import contextlib
import os

from fakeqemu.io.files.fdset_open import Opener, open_with_reason
from fakeqemu.model.chardev.chardev import Chardev


class LogFile:
    """An open log; calling it appends."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __call__(self, data: bytes) -> None:
        """Write; a full disk loses what is written."""
        with contextlib.suppress(OSError):
            os.write(self._fd, data)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)


def open_log(chardev: Chardev, opener: Opener) -> None:
    """Open the log that the device's options ask for, if any. Raises QapiError."""
    path = chardev.options.get("logfile")
    if path is None:
        return
    how = os.O_APPEND if chardev.options.get("logappend") else os.O_TRUNC
    chardev.log = LogFile(open_with_reason(opener, path, os.O_WRONLY | os.O_CREAT | how))


def close_log(chardev: Chardev) -> None:
    """Close the device's log, if it has one."""
    log, chardev.log = chardev.log, None
    if isinstance(log, LogFile):
        log.close()
