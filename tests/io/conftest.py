"""The test's own event loop as transports take it."""

from __future__ import annotations

import asyncio

import pytest

from fakeqemu.io.loop import Loop


@pytest.fixture
async def loop() -> Loop:
    return Loop(asyncio.get_running_loop())
