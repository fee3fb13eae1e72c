"""SIGTERM, SIGINT and SIGHUP end the machine, and standard error says who sent them.

Python's own handlers do not tell the sender. So these signals are blocked and one thread
waits for them with sigwaitinfo(2), which does; asyncio's signal handlers do not tell it either.
Before this is set up, while the machine boots, they kill the process as they do QEMU.

See os-posix.c: termsig_handler() and os_setup_signal_handling(); system/runstate.c:
qemu_system_killed().
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
from collections.abc import Callable

from fakeqemu.io.loop import Loop

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def default_signals() -> None:
    """How a starting QEMU takes signals: the ending ones kill, a broken pipe does not."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def watch_signals(loop: Loop, heard: Callable[[int, int], None]) -> None:
    """Call `heard(signal number, sender's process id)` in the loop from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)

    def wait() -> None:
        while True:
            info = signal.sigwaitinfo(ENDING)
            with contextlib.suppress(RuntimeError):  # the loop is closed, the process leaves
                loop.call_soon_threadsafe(heard, info.si_signo, info.si_pid)

    _thread.start_new_thread(wait, ())


def report_text(number: int, sender: int) -> str:
    """What QEMU prints about a signal that ends it."""
    if sender == 0:
        return f"terminating on signal {number}"
    return f"terminating on signal {number} from pid {sender} ({process_name(sender)})"


def process_name(pid: int) -> str:
    """The first word of a process's command line."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            name = file.read(4096).split(b"\0", 1)[0]
    except OSError:
        name = b""
    return os.fsdecode(name) or "<unknown process>"
