"""Waiting for what happens, with a deadline and a message. No test sleeps otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

#: seconds between two looks at what another process does
_PAUSE = 0.005
#: the flags of a socket that listens (__SO_ACCEPTCON)
_ACCEPTS = "00010000"


async def until(
    condition: Callable[[], object], what: str = "the condition", seconds: float = 20.0
) -> None:
    """Let the event loop turn until `condition()`. Raises TimeoutError, which says `what`."""
    await _turn_until(condition, what, seconds, 0)


async def until_elsewhere(
    condition: Callable[[], object], what: str, seconds: float = 30.0
) -> None:
    """Look until `condition()` holds of another process. Raises TimeoutError, which says `what`.

    The kernel says nothing of another process's files, so this looks again and again; the pause
    leaves the processor to the process waited for.
    """
    await _turn_until(condition, what, seconds, _PAUSE)


def listens(path: str | Path) -> bool:
    """Whether a process listens at a UNIX socket's path, whose file is there a moment earlier."""
    sockets = Path("/proc/net/unix").read_text().splitlines()
    return any(f" {_ACCEPTS} " in each and each.endswith(f" {path}") for each in sockets)


async def _turn_until(
    condition: Callable[[], object], what: str, seconds: float, pause: float
) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(pause)
    except TimeoutError:
        raise TimeoutError(f"waited {seconds:g} s for {what}") from None


def block_until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """`until_elsewhere` where no event loop runs."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(_PAUSE)
