"""asyncio's event loop as machines use it: a process of their own and tests alike.

Four things are added to it. A descriptor that cannot be polled (epoll refuses regular files,
directories and /dev/null) is always ready, so its callback runs once a turn. What descriptors do
is counted, for virtual clocks stand still while something is under way. And a machine may be
closed after the loop it ran in, as a test's fixture is: that does no harm. And it may be booted
before there is a loop.

Callbacks rather than asyncio's transports: those drop the descriptors that come along with bytes
(SCM_RIGHTS), see a client's end only while its input is read, and cannot be flushed by code that
does not await, as the model is.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.io.hangups import Hangups

if TYPE_CHECKING:
    import asyncio

    from fakeqemu.guard import Guard


class Handle(Protocol):
    """A call that has been asked for."""

    def cancel(self) -> None:
        """Forget it."""


class Loop:
    """One asyncio loop, for one machine or several."""

    #: how often descriptors were ready, of all machines together: they may talk to each other
    _activity = 0

    def __init__(
        self, loop: asyncio.AbstractEventLoop | EarlyLoop, guard: Guard | None = None
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | EarlyLoop = loop
        #: what every callback goes through; None: errors are the asyncio loop's affair
        self._guard = guard
        self._readers: dict[int, _EachTurn] = {}
        self._writers: dict[int, _EachTurn] = {}
        #: a turn runs descriptors that are ready, then timers that are due: not known of loops
        #: that are not asyncio's own, of uvloop for one
        self._timers_come_last = False
        if isinstance(loop, EarlyLoop):
            loop.when_started.append(self._run_on)
        else:
            self._run_on(loop)
        #: what goes while nobody reads
        self.hangups = Hangups(self)

    def _run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        from asyncio import BaseEventLoop

        self._loop = loop
        self._timers_come_last = isinstance(loop, BaseEventLoop)

    def guarded(self, guard: Guard) -> Loop:
        """The same loop for one machine, whose `guard` every callback goes through."""
        return Loop(self._loop, guard)

    @property
    def activity(self) -> int:
        """How many times a descriptor was ready."""
        return Loop._activity

    def time(self) -> float:
        """Monotonic seconds."""
        return self._loop.time()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback` at the next turn, if there is one."""
        if self._loop.is_closed():
            return _Nothing()
        return self._loop.call_soon(self._bound(callback), *args)

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> Handle:
        """The same from another thread. Raises RuntimeError once the loop is closed."""
        return self._loop.call_soon_threadsafe(self._bound(callback), *args)

    def next_turn(self, callback: Callable[[], object]) -> None:
        """Run `callback` when every descriptor that is ready has been served.

        asyncio runs what was asked for before the descriptors that became ready meanwhile, and a
        timer that is due behind them. It counts as activity: something is under way.
        """
        if not self._timers_come_last:
            self.call_soon(self.call_soon, _counted, callback)
        elif not self._loop.is_closed():
            self._loop.call_at(self._loop.time(), _counted, self._bound(callback))

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Run `callback` after `delay` seconds, if the loop runs so long."""
        if self._loop.is_closed():
            return _Nothing()
        return self._loop.call_later(delay, self._bound(callback), *args)

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Run `callback` whenever `fd` can be read. Raises OSError if it is not open."""
        callback = self._bound(callback)
        self._stop(self._readers, fd)
        try:
            self._loop.add_reader(fd, _counted, callback, *args)
        except PermissionError:
            self._readers[fd] = _EachTurn(self, callback, args)

    def remove_reader(self, fd: int) -> bool:
        """Stop that; False if it was not asked for."""
        return self._stop(self._readers, fd) or (
            not self._loop.is_closed() and self._loop.remove_reader(fd)
        )

    def add_writer(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Run `callback` whenever `fd` can be written. Raises OSError if it is not open."""
        callback = self._bound(callback)
        self._stop(self._writers, fd)
        try:
            self._loop.add_writer(fd, _counted, callback, *args)
        except PermissionError:
            self._writers[fd] = _EachTurn(self, callback, args)

    def remove_writer(self, fd: int) -> bool:
        """Stop that; False if it was not asked for."""
        return self._stop(self._writers, fd) or (
            not self._loop.is_closed() and self._loop.remove_writer(fd)
        )

    def _bound(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        return callback if self._guard is None else self._guard.bind(callback)

    @staticmethod
    def _stop(calls: dict[int, _EachTurn], fd: int) -> bool:
        call = calls.pop(fd, None)
        if call is not None:
            call.cancel()
        return call is not None


class _Call:
    """A call that was asked for."""

    def __init__(self, when: float | None, callback: Callable[..., object], args: Any) -> None:
        self.when = when
        self.callback = callback
        self.args = args
        self.cancelled = False
        #: asyncio's own, once there is one
        self.handle: asyncio.Handle | None = None

    def cancel(self) -> None:
        """Forget it."""
        self.cancelled = True
        if self.handle is not None:
            self.handle.cancel()


#: descriptors that asyncio's loop opens: an epoll and both ends of a socket
_OF_A_LOOP = 3


class EarlyLoop:
    """What is asked of asyncio's loop before there is one; `start` hands over to it.

    A boot waits for nobody, as a rule, so it needs no loop. asyncio takes as long to import as half
    a boot: it is imported once the clients that are there have been greeted, while none of them
    waits for an answer. The descriptors that a loop needs are kept for it, or a boot that uses up
    all others would end for want of a loop.
    """

    def __init__(self) -> None:
        """Raise OSError where there are no descriptors."""
        #: says which descriptors can be polled
        self._epoll = select.epoll()
        self._kept = [os.dup(self._epoll.fileno()) for _ in range(_OF_A_LOOP - 1)]
        self._calls: list[_Call] = []
        self._readers: dict[int, tuple[Any, ...]] = {}
        self._writers: dict[int, tuple[Any, ...]] = {}
        #: called with the loop when there is one
        self.when_started: list[Callable[[asyncio.AbstractEventLoop], None]] = []

    def make_room(self) -> None:
        """Give back the descriptors that are kept for the loop, which is made now."""
        self._epoll.close()
        while self._kept:
            os.close(self._kept.pop())

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """There is a loop now: nothing is asked of this one any more."""
        for follow in self.when_started:
            follow(loop)
        for fd, reader in self._readers.items():
            loop.add_reader(fd, *reader)
        for fd, writer in self._writers.items():
            loop.add_writer(fd, *writer)
        for call in self._calls:
            if call.cancelled:
                continue
            if call.when is None:
                call.handle = loop.call_soon(call.callback, *call.args)
            else:
                call.handle = loop.call_at(call.when, call.callback, *call.args)

    # -- what asyncio's has --------------------------------------------------------------------

    def is_closed(self) -> bool:
        """It is not."""
        return False

    def time(self) -> float:
        """Monotonic seconds, as asyncio's."""
        return time.monotonic()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> _Call:
        """Run `callback` at the first turn."""
        return self._noted(None, callback, args)

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> _Call:
        """Run `callback` after `delay` seconds."""
        return self._noted(self.time() + delay, callback, args)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> _Call:
        """Run `callback` at `when`."""
        return self._noted(when, callback, args)

    def add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
        """Run `callback` when `fd` can be read.

        Raises OSError if it is not open, PermissionError if it cannot be polled.
        """
        self._check(fd)
        self._readers[fd] = (callback, *args)

    def remove_reader(self, fd: int) -> bool:
        """Stop that; False if it was not asked for."""
        return self._readers.pop(fd, None) is not None

    def add_writer(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
        """The same for writing."""
        self._check(fd)
        self._writers[fd] = (callback, *args)

    def remove_writer(self, fd: int) -> bool:
        """Stop that; False if it was not asked for."""
        return self._writers.pop(fd, None) is not None

    def _noted(self, when: float | None, callback: Callable[..., object], args: Any) -> _Call:
        call = _Call(when, callback, args)
        self._calls.append(call)
        return call

    def _check(self, fd: int) -> None:
        """Raise what epoll raises for a descriptor that it does not take."""
        self._epoll.register(fd, 0)
        self._epoll.unregister(fd)


class _EachTurn:
    """Runs a callback in every turn of the loop until it is cancelled."""

    def __init__(self, loop: Loop, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._loop = loop
        #: guarded already, if it is to be
        self._callback = callback
        self._args = args
        self._next = loop._loop.call_soon(self._run)

    def cancel(self) -> None:
        """Run it no more."""
        self._next.cancel()

    def _run(self) -> None:
        self._next = self._loop._loop.call_soon(self._run)
        _counted(self._callback, *self._args)


def _counted(callback: Callable[..., Any], *args: Any) -> None:
    Loop._activity += 1
    callback(*args)


class _Nothing:
    def cancel(self) -> None:
        pass
