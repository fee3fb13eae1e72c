"""Messages on standard error, with what stands before them.

See util/error-report.c: print_loc() and vreport().
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, TextIO

from fakeqemu.qapi.errors import FilePlace

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


def prefix(vm: Machine | None) -> str:
    """What -msg and -name put before the program's name."""
    message = vm.configuration.message if vm is not None else None
    if vm is None or message is None:
        return ""
    text = ""
    if message.timestamp:
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        text = f"{stamp}.{now % 10**9 // 1000:06}Z "
    if message.guest_name and vm.configuration.name.guest:
        text += f"{vm.configuration.name.guest} "
    return text


def report(
    program: str, text: str, vm: Machine | None = None, stream: TextIO | None = None
) -> None:
    """Write one message, after the program's name."""
    space = "" if isinstance(text, FilePlace) else " "
    write_lines(f"{prefix(vm)}{program}:{space}{text}", stream)


def write_lines(text: str, stream: TextIO | None = None) -> None:
    """Write lines as they are on `stream` (default: standard error), if anybody takes them."""
    to = stream or sys.stderr
    if to is None:  # the process was started with standard error closed
        return
    with contextlib.suppress(OSError, ValueError):
        to.write(text.rstrip("\n") + "\n")
        to.flush()


def print_text(text: str) -> None:
    """Write `text` on standard output, if anybody takes it."""
    if sys.stdout is None:  # the process was started with standard output closed
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        # what the buffer keeps would be tried, and its failure reported, when Python leaves
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
