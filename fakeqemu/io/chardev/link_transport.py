"""A character device's transport over descriptors that are there from the start."""

from __future__ import annotations

from typing import Any

from fakeqemu.io.link import Link
from fakeqemu.io.loop import Loop
from fakeqemu.model.chardev.chardev import Chardev


class LinkTransport:
    """A transport over one link that is there from the start."""

    def __init__(self, loop: Loop, chardev: Chardev, end: Any) -> None:
        self._loop = loop
        self._chardev = chardev
        self._link = Link(loop, end, self._input, self._ended, reads_on=True, writes_on=True)

    def write(self, data: bytes) -> None:
        """Send."""
        self._link.write(data)

    def set_reading(self, reading: bool) -> None:
        """Take input, or leave it."""
        self._link.set_reading(reading)

    def disconnect(self) -> None:
        """There is no client to drop."""

    def add_client(self, fd: int) -> bool:  # noqa: ARG002
        """There can be none."""
        return False

    def flush(self, timeout: float) -> None:
        """Send what is queued, waiting up to `timeout` seconds."""
        self._link.flush(timeout)

    def close(self) -> None:
        """Close what is ours."""
        self._link.flush(0.0)
        self._link.abort()

    def _input(self, data: bytes, fds: list[int]) -> None:
        self._chardev.received(data, fds)

    def _ended(self, _error: str | None) -> None:
        self._chardev.closed()
