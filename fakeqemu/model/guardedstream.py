"""A stream between the host and its owner in the model, guarded as timers are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakeqemu.guard import Failed, Guard
from fakeqemu.model.host import Stream


class GuardedStream:
    """A stream whose callbacks run through a `Guard`; `failed` is how its owner fails."""

    def __init__(self, stream: Stream, guard: Guard, failed: Failed) -> None:
        self._stream = stream
        self._guard = guard
        self._failed = failed

    @property
    def on_data(self) -> Callable[[bytes], None] | None:
        """Who gets the input."""
        return self._stream.on_data

    @on_data.setter
    def on_data(self, call: Callable[[bytes], None] | None) -> None:
        self._stream.on_data = self._bound(call)

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

    def write(self, data: bytes) -> None:
        """Queue `data`."""
        self._stream.write(data)

    def skip(self, size: int) -> None:
        """Leave out `size` bytes."""
        self._stream.skip(size)

    def write_at(self, offset: int, data: bytes) -> None:
        """Write at an offset of the file."""
        self._stream.write_at(offset, data)

    def close(self) -> None:
        """Send what is queued, then close."""
        self._stream.close()

    def _bound(self, call: Callable[..., Any] | None) -> Callable[..., Any] | None:
        return None if call is None else self._guard.bind(call, self._failed)
