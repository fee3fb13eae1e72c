"""Exit statuses below zero stand for signals, and the process dies of that signal.

Exit statuses below zero stand for signals throughout, as `subprocess` shows them. Where real
QEMU fails an assertion or crashes, the model says so with such a status, and here the process
really dies of that signal. No core file is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def leave(status: int) -> int:
    """`status` for an ordinary end; does not return for one that stands for a signal."""
    if status >= 0:
        return status
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # SIGKILL has no other action
        signal.signal(-status, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-status})
    os.kill(os.getpid(), -status)
    raise AssertionError(f"signal {-status} did not end the process")
