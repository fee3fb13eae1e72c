"""Descriptors whose other side's going is noticed while nothing is read from them.

An event loop knows only "can be read", which is also true of input nobody wants yet; so these are
in an epoll of their own that asks for no input. One serves all connections of a machine, and is
there before they need it: it must not fail because they have used up the descriptors.

See chardev/char-socket.c: update_ioc_handlers(), its watch for G_IO_HUP.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable
from typing import Protocol


class _Readers(Protocol):
    def add_reader(self, fd: int, callback: Callable[[], None]) -> None: ...

    def remove_reader(self, fd: int) -> bool: ...


class Hangups:
    """Those of one loop; `join` and `leave` say who has use for it."""

    def __init__(self, loop: _Readers) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._users = 0

    def join(self) -> None:
        """Somebody may want to watch."""
        self._users += 1
        self._open()

    def leave(self) -> None:
        """One of those does not any more."""
        self._users -= 1
        if not self._users and self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back once when the other side of `fd` has gone."""
        epoll = self._open()
        if epoll is not None:
            epoll.register(fd, select.EPOLLHUP)
            self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Watch one no longer."""
        if self._callbacks.pop(fd, None) is not None and self._epoll is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def _open(self) -> select.epoll | None:
        """None: the host has no descriptor for it; whoever has gone is missed until it is read.

        So it is on hosts without epoll.
        """
        if self._epoll is None:
            if not hasattr(select, "epoll"):
                return None
            try:
                self._epoll = select.epoll()
            except OSError:
                return None
            self._loop.add_reader(self._epoll.fileno(), self._ready)
        return self._epoll

    def _ready(self) -> None:
        if self._epoll is None:
            return
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            self.forget(fd)
            if callback is not None:
                callback()
