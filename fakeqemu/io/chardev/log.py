"""The copy of a character device's output in a file: `logfile=`.

See chardev/char.c: qemu_chr_write_log().
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from fakeqemu.io.files.fdset_open import Opener
from fakeqemu.model.chardev.chardev import Chardev
from fakeqemu.model.fds.fdset import open_failure
from fakeqemu.qapi.errors import QapiError


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


def open_log(
    chardev: Chardev, opener: Opener, now: Callable[[], int], *, steps_named: bool
) -> None:
    """Open the log that the device's options ask for, if any. Raises QapiError.

    `now`: nanoseconds since 1970. `steps_named`: trait fdset_failures_named.
    """
    path = chardev.options.get("logfile")
    if path is None:
        return
    how = os.O_APPEND if chardev.options.get("logappend") else os.O_TRUNC
    flags = os.O_WRONLY | os.O_CREAT | how
    try:
        fd = opener(path, flags | os.O_CLOEXEC, 0o666)
    except OSError as error:
        why = open_failure(path, flags, error, steps_named=steps_named)
        raise QapiError(why) from None
    chardev.log = LogFile(fd, now if chardev.options.get("logtimestamp") else None)


def close_log(chardev: Chardev) -> None:
    """Close the device's log, if it has one."""
    log, chardev.log = chardev.log, None
    if isinstance(log, LogFile):
        log.close()
