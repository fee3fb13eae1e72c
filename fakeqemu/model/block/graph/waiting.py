"""Accesses that have to wait for a server, where the model itself cannot wait.

What a server has to answer is asked for, and whoever wanted it is left by `MustWaitError`. When
the answer has come the access is begun anew, and then finds it. So reads wait as long as a server
takes, and nobody else waits with them, as in QEMU's coroutines (see block/nbd.c:
nbd_receive_replies()). An access that cannot be begun anew, since it changes
something before it is over, holds the machine up for a bounded time instead, as QEMU does for as
long as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fakeqemu.formats.extents import MustWaitError


class Waiting:
    """How what is under way at this moment waits; every machine's graph has one."""

    def __init__(self) -> None:
        #: what is begun anew where it has to wait; None: everything else waits with it
        self.access: RetriedAccess | None = None
        #: whether writes do not wait for a server's answers
        self.sends_ahead = False
        #: a request that a breakpoint of a blkdebug may hold; None: none can be held now
        self.suspendable: RetriedAccess | None = None

    @contextmanager
    def in_one_go(self) -> Iterator[None]:
        """What is done inside is not retried: it waits for what it needs."""
        before, self.access = self.access, None
        try:
            yield
        finally:
            self.access = before

    @contextmanager
    def holding(self, access: RetriedAccess) -> Iterator[None]:
        """What is done inside may be held at a breakpoint, and is retried when resumed."""
        before, self.suspendable = self.suspendable, access
        try:
            yield
        finally:
            self.suspendable = before

    @contextmanager
    def sending_ahead(self) -> Iterator[None]:
        """Writes inside do not wait for answers; `Driver.when_idle` tells when they are here."""
        before, self.sends_ahead = self.sends_ahead, True
        try:
            with self.in_one_go():
                yield
        finally:
            self.sends_ahead = before


class RetriedAccess:
    """One access that can be retried; `resume` is called when a reply has come."""

    def __init__(self, waiting: Waiting, resume: Callable[[], None]) -> None:
        self._waiting = waiting
        self._resume = resume
        #: what has been asked for -> the answer; None: it is still to come
        self._answers: dict[Any, Any] = {}
        self._over = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Try, or try again."""
        before, self._waiting.access = self._waiting.access, self
        try:
            yield
        finally:
            self._waiting.access = before

    def answer(self, key: Any, ask: Callable[[Callable[[Any], None]], None]) -> Any:
        """The reply to `key`, requested by `ask(answered)` at first. Raises MustWaitError."""
        if key not in self._answers:
            self._answers[key] = None
            ask(lambda answer: self._arrived(key, answer))
        found = self._answers[key]
        if found is None:
            raise MustWaitError
        return found

    @property
    def waits(self) -> bool:
        """Whether an answer is still to come."""
        return None in self._answers.values()

    def forget(self) -> None:
        """It is over: what still comes is of no interest."""
        self._over = True
        self._answers.clear()

    def _arrived(self, key: Any, answer: Any) -> None:
        if not self._over:
            self._answers[key] = answer
            self._resume()
