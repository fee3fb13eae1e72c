"""How a migration channel goes wrong: a stream that stands in for the host's.

The model on this side sees an ordinary `Stream`; the machine on the other side sees what a bad
network, or a process that stands still, would make it see.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import SECOND
from fakeqemu.model.host import Stream
from fakeqemu.testing.faults.model import Delay, Drop, Fault, JunkBytes, NeverAnswer, Split

if TYPE_CHECKING:
    from fakeqemu.testing.faults.injector import Faults

#: what the host says of a connection that the other side reset
RESET = "Unable to read from socket: Connection reset by peer"


class FaultyStream:
    """One channel, as the model holds it."""

    def __init__(self, stream: Stream, faults: Faults) -> None:
        self._stream: Any = stream
        self._faults = faults
        self._waiting: list[bytes] = []
        #: a piece is on its way, so what follows has to wait for it
        self._busy = False
        #: what is sent is swallowed, and so is its end
        self._mute = False
        self.closed = False
        self._on_close: Callable[[str | None], None] | None = None

    def __getattr__(self, name: str) -> Any:
        # queued, flush, abort: whatever this kind of stream can
        return getattr(self._stream, name)

    @property
    def on_data(self) -> Callable[[bytes], None] | None:
        """Who gets the input."""
        call: Callable[[bytes], None] | None = self._stream.on_data
        return call

    @on_data.setter
    def on_data(self, call: Callable[[bytes], None] | None) -> None:
        self._stream.on_data = None if call is None else self._faults.process.unless_stopped(call)

    @property
    def on_close(self) -> Callable[[str | None], None] | None:
        """Who hears of the end."""
        return self._on_close

    @on_close.setter
    def on_close(self, call: Callable[[str | None], None] | None) -> None:
        self._on_close = call
        self._stream.on_close = None if call is None else self._ended

    @property
    def takes_fds(self) -> bool:
        """Whether descriptors that come along are kept."""
        return bool(self._stream.takes_fds)

    @takes_fds.setter
    def takes_fds(self, takes: bool) -> None:
        self._stream.takes_fds = takes

    @property
    def queued(self) -> int:
        """Bytes that have not gone out."""
        return int(getattr(self._stream, "queued", 0)) + sum(map(len, self._waiting))

    def write(self, data: bytes) -> None:
        """Send, as far as the faults let it."""
        if self._busy or self._faults.process.stopped:
            self._waiting.append(data)
            return
        pieces = [data]
        for fault, random in self._faults.matching("channel", self._applies):
            match fault:
                case NeverAnswer():
                    self._mute = True
                    return
                case Drop(place="before"):
                    self.drop()
                    return
                case Drop(place=place):
                    self._stream.write(data[: len(data) // 2] if place == "middle" else data)
                    self.drop()
                    return
                case JunkBytes(size=size, place=place):
                    at = {"before": 0, "middle": len(data) // 2, "after": len(data)}[place]
                    pieces = [data[:at], random.randbytes(size), data[at:]]
                case Split(size=size):
                    whole = b"".join(pieces)
                    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
                case Delay(seconds=seconds):
                    self._busy = True
                    self._faults.vm.process.call_later(
                        round(seconds * SECOND), partial(self._late, b"".join(pieces))
                    )
                    return
        for piece in pieces:
            self._stream.write(piece)

    def close(self) -> None:
        """Send what is queued, then close."""
        self.closed = True
        for data in self._waiting:
            self._stream.write(data)
        self._waiting.clear()
        if not self._mute:
            self._stream.close()

    def resume(self) -> None:
        """The process goes on."""
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.write(data)

    def drop(self) -> None:
        """Break the channel for both sides."""
        if self.closed:
            return
        self.closed = True
        call, self._on_close = self._on_close, None
        getattr(self._stream, "abort", self._stream.close)()
        if call is not None:
            self._faults.soon(lambda: call(RESET))

    def _late(self, data: bytes) -> None:
        self._busy = False
        if not self.closed:
            self._stream.write(data)
            self.resume()

    def _ended(self, error: str | None) -> None:
        self.closed = True
        if self._on_close is not None:
            self._on_close(error)

    @staticmethod
    def _applies(fault: Fault) -> bool:
        return fault.channel

