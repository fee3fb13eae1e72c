"""A descriptor in reserve: with none left, modules and recorded data can still be read.

QEMU has its code and tables in memory when it starts; here they are files, some of which are read
only when a command asks for them. That must not fail because the host's limit is reached.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

_spare: list[int] = []


def hold() -> None:
    """Have one in reserve from now on."""
    if not _spare:
        with contextlib.suppress(OSError):  # somebody took it: there is none for now
            _spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def drop() -> None:
    """Have none in reserve any more."""
    while _spare:
        os.close(_spare.pop())


def reading(read: Callable[[], _T]) -> _T:
    """What `read` returns, which opens a file of this program and closes it again.

    Raises OSError.
    """
    try:
        return read()
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE) or not _spare:
            raise
    drop()
    try:
        return read()
    finally:
        hold()
