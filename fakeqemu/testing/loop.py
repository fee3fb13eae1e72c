"""A test's event loop, as the machine may use it: harmless when the loop ends first.

A fixture may outlive the loop its test ran in; giving sockets back must then not fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fakeqemu.io.loop import Handle


class TestLoop:
    """`io.loop.Loop` over an asyncio loop."""

    __test__ = False
    #: how often descriptors were ready, of all machines together: they may talk to each other
    _activity = 0

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @property
    def activity(self) -> int:
        """How many times a descriptor was ready."""
        return TestLoop._activity

    def time(self) -> float:
        """Monotonic seconds."""
        return self._loop.time()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback` at the next turn, if there is one."""
        if self._loop.is_closed():
            return _Nothing()
        return self._loop.call_soon(callback, *args)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback` after `delay` seconds, if the loop runs so long."""
        if self._loop.is_closed():
            return _Nothing()
        return self._loop.call_later(delay, callback, *args)

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Run `callback` whenever `fd` can be read."""
        self._loop.add_reader(fd, _counted, callback, *args)

    def remove_reader(self, fd: int) -> bool:
        """Stop that."""
        return not self._loop.is_closed() and self._loop.remove_reader(fd)

    def add_writer(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Run `callback` whenever `fd` can be written."""
        self._loop.add_writer(fd, _counted, callback, *args)

    def remove_writer(self, fd: int) -> bool:
        """Stop that."""
        return not self._loop.is_closed() and self._loop.remove_writer(fd)


def _counted(callback: Callable[..., Any], *args: Any) -> None:
    TestLoop._activity += 1
    callback(*args)


class _Nothing:
    def cancel(self) -> None:
        pass
