"""What is to be done before the test's event loop closes.

pytest-asyncio 1.1 and newer close a test's loop before the other fixtures are torn down; a machine
that nobody stopped could not give its client's connection back then. A loop that is closed
properly, by asyncio.Runner for one, finishes its asynchronous generators first: so one waits here.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable


class LoopEnd:
    """Has `work` done when the running loop closes, unless it is `past` before."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work: Callable[[], Awaitable[None]] | None = work
        #: the loop knows it only while somebody holds it
        self._generator: AsyncGenerator[None, None] = self._wait()

    async def begin(self) -> None:
        """Have the running loop know."""
        await anext(self._generator)

    async def past(self) -> None:
        """There is nothing to do any more."""
        if self._work is not None:
            self._work = None
            await self._generator.aclose()

    async def _wait(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            work, self._work = self._work, None
            if work is not None:
                with contextlib.suppress(Exception):  # there is nobody to tell
                    await work()
