"""Waiting for one descriptor, whatever its number: `select` takes those below 1,024 only."""

from __future__ import annotations

import select
from typing import Protocol


class HasFileno(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int:
        """Its number."""


def readable(file: int | HasFileno, seconds: float | None) -> bool:
    """Whether there is something to read, or an end, within `seconds`; None waits for ever."""
    return _ready(file, select.POLLIN, seconds)


def writable(file: int | HasFileno, seconds: float | None) -> bool:
    """Whether it takes something, or has failed, within `seconds`; None waits for ever."""
    return _ready(file, select.POLLOUT, seconds)


def _ready(file: int | HasFileno, event: int, seconds: float | None) -> bool:
    waiting = select.poll()
    waiting.register(file, event)
    return bool(waiting.poll(None if seconds is None else max(0.0, seconds) * 1000))
