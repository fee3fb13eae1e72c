"""The test's own event loop as transports take it, and waiting for what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fakeqemu.io.loop import Loop


@pytest.fixture
async def loop() -> Loop:
    return Loop(asyncio.get_running_loop())


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Let the event loop turn until `condition()`. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)
