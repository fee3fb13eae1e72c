"""A stream between the host and its owner in the model, guarded as timers are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fakeqemu.guard import Failed, Guard
from fakeqemu.model.host import Stream


class GuardedStream:
    """A stream whose callbacks run through a `Guard`; `failed` is how its owner fails."""

    def __init__(self, stream: Stream, guard: Guard, failed: Failed) -> None:
        self._stream = stream
        self._guard = guard
        self._failed = failed
        self._on_data: Callable[[bytes], None] | None = None
        self._most_queued: int | None = None

    @property
    def on_data(self) -> Callable[[bytes], None] | None:
        """Who gets the input."""
        return self._on_data

    @on_data.setter
    def on_data(self, call: Callable[[bytes], None] | None) -> None:
        self._on_data = call
        self._stream.on_data = None if call is None else self._bound(self._input)

    @property
    def on_close(self) -> Callable[[str | None], None] | None:
        """Who is called at the end."""
        return self._stream.on_close

    @on_close.setter
    def on_close(self, call: Callable[[str | None], None] | None) -> None:
        self._stream.on_close = self._bound(call)

    @property
    def queued(self) -> int:
        """Bytes that the other side has not taken yet, as far as the host can tell."""
        return int(getattr(self._stream, "queued", 0))

    def limit_queue(self, most: int, drained: Callable[[], None]) -> None:
        """Leave input with the host while more than `most` bytes are queued.

        What is asked in a few bytes may be answered by millions, which wait for the other side to
        take them. `drained` is called each time that nothing is queued any more.
        """
        self._most_queued = most
        set_call = getattr(self._stream, "when_drained", None)
        if set_call is not None:
            set_call(self._bound(functools.partial(self._drained, drained)))

    def _drained(self, call: Callable[[], None]) -> None:
        call()
        self._listen()

    def _input(self, data: bytes) -> None:
        if self._on_data is not None:
            self._on_data(data)
        self._listen()

    def _listen(self) -> None:
        """Take input, or leave it where it is."""
        if self._most_queued is None:
            return
        full = self.queued > self._most_queued
        call = self._bound(self._input) if self._on_data is not None and not full else None
        if (self._stream.on_data is None) != (call is None):
            self._stream.on_data = call

    @property
    def takes_fds(self) -> bool:
        """Whether descriptors that come along are kept."""
        return self._stream.takes_fds

    @takes_fds.setter
    def takes_fds(self, takes: bool) -> None:
        self._stream.takes_fds = takes

    def send_fds(self, fds: Sequence[int]) -> None:
        """Send copies of descriptors along with the next byte."""
        self._stream.send_fds(fds)

    def received_fds(self) -> list[int]:
        """The descriptors that came along since the last call."""
        return self._stream.received_fds()

    def write(self, data: bytes) -> None:
        """Queue `data`."""
        self._stream.write(data)

    def skip(self, size: int) -> None:
        """Leave out `size` bytes."""
        self._stream.skip(size)

    def write_at(self, offset: int, data: bytes) -> None:
        """Write at an offset of the file."""
        self._stream.write_at(offset, data)

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Let everything wait, and hand over what comes, until `done()`; False if time is up."""
        return self._stream.wait(seconds, done)

    def close(self) -> None:
        """Send what is queued, then close."""
        self._stream.close()

    def _bound(self, call: Callable[..., Any] | None) -> Callable[..., Any] | None:
        return None if call is None else self._guard.bind(call, self._failed)
