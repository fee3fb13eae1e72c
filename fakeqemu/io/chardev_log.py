"""The copy of a character device's output in a file: `logfile=`, see chardev/char.c."""

from __future__ import annotations

import contextlib
import os

from fakeqemu.model.chardev import Chardev
from fakeqemu.qapi.errors import QapiError


class LogFile:
    """An open log; calling it appends."""

    def __init__(self, path: str, *, append: bool) -> None:
        """Raises OSError."""
        how = os.O_APPEND if append else os.O_TRUNC
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o666)

    def __call__(self, data: bytes) -> None:
        """Write; a full disk loses what is written."""
        with contextlib.suppress(OSError):
            os.write(self._fd, data)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)


def open_log(chardev: Chardev) -> None:
    """Open the log that the device's options ask for, if any. Raises QapiError."""
    path = chardev.options.get("logfile")
    if path is None:
        return
    try:
        chardev.log = LogFile(path, append=bool(chardev.options.get("logappend")))
    except OSError as error:
        raise QapiError(f"Could not create '{path}': {error.strerror}") from None


def close_log(chardev: Chardev) -> None:
    """Close the device's log, if it has one."""
    log, chardev.log = chardev.log, None
    if isinstance(log, LogFile):
        log.close()
