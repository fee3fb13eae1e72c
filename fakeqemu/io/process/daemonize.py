"""-daemonize: the parent waits until the machine has started, then leaves with its verdict.

Whoever starts QEMU this way takes the parent's exit for "the socket listens and the pid file
is written", and its standard error for what went wrong. Descriptors other than 0, 1 and 2
stay open in the child, because options and commands may name them later.

See os-posix.c: os_daemonize() and os_setup_post().
"""

from __future__ import annotations

import contextlib
import os


class Daemon:
    """The child's side: knows how to let the parent go."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    @classmethod
    def start(cls) -> Daemon:
        """Fork; returns in the child only. The parent leaves with 0 once the child has started."""
        read_end, write_end = os.pipe()
        if os.fork():
            os.close(write_end)
            os._exit(_wait_for_start(read_end))
        os.close(read_end)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.umask(0o027)
        return cls(write_end)

    def started(self) -> None:
        """The machine is up: standard input, output and error go to nowhere, the parent leaves."""
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        if null > 2:
            os.close(null)
        with contextlib.suppress(OSError):
            os.write(self._pipe, b"\0")
        os.close(self._pipe)


def _wait_for_start(read_end: int) -> int:
    """The parent's exit status: 1 where the child ended before, however it did."""
    return 0 if os.read(read_end, 1) == b"\0" else 1
