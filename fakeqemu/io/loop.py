"""asyncio's event loop as machines use it: a process of their own and tests alike.

Three things are added to it. A descriptor that cannot be polled (epoll refuses regular files,
directories and /dev/null) is always ready, so its callback runs once a turn. What descriptors do
is counted, for virtual clocks stand still while something is under way. And a machine may be
closed after the loop it ran in, as a test's fixture is: that does no harm.

Callbacks rather than asyncio's transports: those drop the descriptors that come along with bytes
(SCM_RIGHTS), see a client's end only while its input is read, and cannot be flushed by code that
does not await, as the model is.
"""

from __future__ import annotations

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

    def __init__(self, loop: asyncio.AbstractEventLoop, guard: Guard | None = None) -> None:
        self._loop = loop
        #: what every callback goes through; None: errors are the asyncio loop's affair
        self._guard = guard
        self._readers: dict[int, _EachTurn] = {}
        self._writers: dict[int, _EachTurn] = {}
        #: what goes while nobody reads
        self.hangups = Hangups(self)

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

        asyncio runs what was asked for before the descriptors that became ready meanwhile,
        hence the second turn. It counts as activity: something is under way.
        """
        self.call_soon(self.call_soon, _counted, callback)

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
            self._readers[fd] = _EachTurn(self._loop, callback, args)

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
            self._writers[fd] = _EachTurn(self._loop, callback, args)

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


class _EachTurn:
    """Runs a callback in every turn of the loop until it is cancelled."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._args = args
        self._next = loop.call_soon(self._run)

    def cancel(self) -> None:
        """Run it no more."""
        self._next.cancel()

    def _run(self) -> None:
        self._next = self._loop.call_soon(self._run)
        _counted(self._callback, *self._args)


def _counted(callback: Callable[..., Any], *args: Any) -> None:
    Loop._activity += 1
    callback(*args)


class _Nothing:
    def cancel(self) -> None:
        pass
