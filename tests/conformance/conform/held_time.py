"""Emulators whose time passes only while a step waits for something.

Some records send commands while a migration lasts, which takes a few hundredths of a second: by
the wall clock it may be over before they are all sent, where the machine is busy. A fakeqemu can
have a clock that others move.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from .session import Session, StepError, pause

#: seconds that pass between two looks of `session.pause`
_STEP = 0.02
#: steps that are over at once
_AT_ONCE = ("start", "connect", "send", "raw")
_ADVANCE = b'{"execute":"advance","arguments":{"seconds":%g}}\n' % _STEP


class HeldTime:
    """The clocks of one play's emulators."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[str] = []
        self._controls: list[Session] = []

    def options(self, name: str) -> list[str]:
        """What `fakeqemu run` needs to have its time held."""
        path = str(self._directory / f"{name}.control")
        self._started.append(path)
        return ["--clock", "virtual", "--control", f"unix:{path}"]

    @contextlib.asynccontextmanager
    async def during(self, step: dict[str, Any]) -> AsyncIterator[None]:
        """Time passes meanwhile, unless the step waits for nothing but replies."""
        if any(kind in step for kind in _AT_ONCE):
            yield
            return
        passing = asyncio.create_task(self._pass())
        try:
            yield
        finally:
            passing.cancel()
            await asyncio.wait([passing])
        if not passing.cancelled():
            passing.result()

    async def _pass(self) -> None:
        while self._started:
            control = Session()
            await control.connect(self._started.pop(0))
            await control.line()
            await control.write(b'{"execute":"qmp_capabilities"}\n')
            await control.reply()
            self._controls.append(control)
        while True:
            for control in tuple(self._controls):
                try:
                    await control.write(_ADVANCE)
                    await control.reply()
                except (StepError, ConnectionError):  # it has ended
                    self._controls.remove(control)
                    control.close()
            await pause()

    def close(self) -> None:
        """Hang up."""
        for control in self._controls:
            control.close()
