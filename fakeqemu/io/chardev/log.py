"""The copy of a character device's output in a file: `logfile=`.

See chardev/char.c: qemu_chr_write_log().
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from fakeqemu.io.files.fdset_open import Opener, open_with_reason
from fakeqemu.model.chardev.chardev import Chardev


class LogFile:
    """An open log; calling it appends."""

    def __init__(self, fd: int, now: Callable[[], int] | None = None) -> None:
        """`now`: nanoseconds since 1970, to be written before each line."""
        self._fd = fd
        self._now = now
        self._at_start = True

    def __call__(self, data: bytes) -> None:
        """Write; a full disk loses what is written."""
        if self._now is not None:
            data = self._with_times(data, self._now)
        with contextlib.suppress(OSError):
            os.write(self._fd, data)

    def _with_times(self, data: bytes, now: Callable[[], int]) -> bytes:
        out = bytearray()
        for line in data.splitlines(keepends=True):
            out += (_stamp(now()) if self._at_start else b"") + line
            self._at_start = line.endswith(b"\n")
        return bytes(out)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)


def _stamp(nanoseconds: int) -> bytes:
    """2026-11-29T13:01:17.971354Z and a space, in UTC."""
    seconds, rest = divmod(nanoseconds, 10**9)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{rest // 1000:06}Z ".encode()


def open_log(chardev: Chardev, opener: Opener, now: Callable[[], int]) -> None:
    """Open the log that the device's options ask for, if any. Raises QapiError.

    `now`: nanoseconds since 1970.
    """
    path = chardev.options.get("logfile")
    if path is None:
        return
    how = os.O_APPEND if chardev.options.get("logappend") else os.O_TRUNC
    fd = open_with_reason(opener, path, os.O_WRONLY | os.O_CREAT | how)
    chardev.log = LogFile(fd, now if chardev.options.get("logtimestamp") else None)


def close_log(chardev: Chardev) -> None:
    """Close the device's log, if it has one."""
    log, chardev.log = chardev.log, None
    if isinstance(log, LogFile):
        log.close()
