"""The event loop as this room needs it, and a small one for the process of its own.

`asyncio.AbstractEventLoop` satisfies `Loop`. `PollLoop` does too, with selectors and a heap:
importing asyncio costs more than everything else a start needs, and an emulator is started
thousands of times by the tests of others.
"""

from __future__ import annotations

import heapq
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol


class Handle(Protocol):
    """A call that has been asked for."""

    def cancel(self) -> None:
        """Forget it."""


class Loop(Protocol):
    """What this room asks of an event loop: a part of asyncio's."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback` at the next turn."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback` after `delay` seconds."""

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Run `callback` whenever `fd` can be read."""

    def remove_reader(self, fd: int) -> bool:
        """Stop that; False if it was not asked for."""

    def add_writer(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Run `callback` whenever `fd` can be written."""

    def remove_writer(self, fd: int) -> bool:
        """Stop that; False if it was not asked for."""


class _Call:
    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None

    def run(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback(*self.args)


class PollLoop:
    """A loop over poll(2); errors of callbacks go through `run_*` to the caller."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ready: deque[_Call] = deque()
        self._later: list[tuple[float, int, _Call]] = []
        self._count = 0
        #: how many times a descriptor was ready
        self.activity = 0

    def time(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback` at the next turn."""
        call = _Call(callback, args)
        self._ready.append(call)
        return call

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback` after `delay` seconds."""
        call = _Call(callback, args)
        self._count += 1
        heapq.heappush(self._later, (self.time() + delay, self._count, call))
        return call

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Run `callback` whenever `fd` can be read."""
        self._watch(fd, selectors.EVENT_READ, _Watch(callback, args))

    def remove_reader(self, fd: int) -> bool:
        """Stop that."""
        return self._watch(fd, selectors.EVENT_READ, None)

    def add_writer(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Run `callback` whenever `fd` can be written."""
        self._watch(fd, selectors.EVENT_WRITE, _Watch(callback, args))

    def remove_writer(self, fd: int) -> bool:
        """Stop that."""
        return self._watch(fd, selectors.EVENT_WRITE, None)

    def run_until(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Turn until `done()`; False if `timeout` seconds went by before."""
        end = None if timeout is None else self.time() + timeout
        while not done():
            if end is not None and self.time() >= end:
                return False
            self.turn(None if end is None else max(0.0, end - self.time()))
        return True

    def turn(self, timeout: float | None = None) -> None:
        """Wait up to `timeout` seconds for something to do, and do it."""
        if self._ready:
            timeout = 0
        elif self._later:
            due = max(0.0, self._later[0][0] - self.time())
            timeout = due if timeout is None else min(due, timeout)
        for key, events in self._selector.select(timeout):
            watches: dict[int, _Watch] = key.data
            for event, watch in tuple(watches.items()):
                if events & event and watches.get(event) is watch:
                    self.activity += 1
                    watch.callback(*watch.args)
        now = self.time()
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        for _ in range(len(self._ready)):
            self._ready.popleft().run()

    def close(self) -> None:
        """Let go of the selector."""
        self._selector.close()

    def _watch(self, fd: int, event: int, watch: _Watch | None) -> bool:
        try:
            watches: dict[int, _Watch] = self._selector.get_key(fd).data
        except (KeyError, ValueError):
            if watch is not None:
                self._selector.register(fd, event, {event: watch})
            return False
        had = watches.pop(event, None) is not None
        if watch is not None:
            watches[event] = watch
        if watches:
            self._selector.modify(fd, sum(watches), watches)
        else:
            self._selector.unregister(fd)
        return had


class _Watch:
    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.callback = callback
        self.args = args
