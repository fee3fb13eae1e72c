"""The NBD protocol's server side without I/O: bytes in, bytes out, requests to an export.

A connection is a handshake (`handshake`) that ends in transmission (`requests`). There is
no TLS.

See nbd/server.c: nbd_negotiate() and nbd_trip().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from fakeqemu.formats.nbd import wire
from fakeqemu.formats.nbd.handshake import Handshake
from fakeqemu.formats.nbd.requests import Transmission
from fakeqemu.traits import Traits


class ExportAccess(Protocol):
    """One access to an export; attempts at it raise MustWaitError."""

    def attempt(self) -> AbstractContextManager[None]:
        """Try, or try again."""

    def forget(self) -> None:
        """It is over."""


class ServedExport(Protocol):
    """One export, as a connection uses it."""

    name: str
    #: None: it has none, and nothing is sent
    description: str | None
    writable: bool
    #: whether several clients may use it at the same time
    multi_conn: bool
    #: the contexts of block status that it has, each at the place of its number; "" is no context
    contexts: tuple[str, ...]

    def size(self) -> int:
        """Bytes."""

    def alignment(self) -> int:
        """What requests should be multiples of, in bytes."""

    def largest(self) -> int:
        """The longest request it takes, in bytes."""

    def read(self, offset: int, count: int) -> bytes:
        """Data. Raises OSError or QapiError, as all that follow."""

    def write(self, offset: int, data: bytes) -> None:
        """Write."""

    def zero(self, offset: int, count: int, *, fast: bool) -> None:
        """Write zeros; `fast`: or fail at once if that is no faster than writing them."""

    def trim(self, offset: int, count: int) -> None:
        """There is no use for the range any more."""

    def flush(self) -> None:
        """What was written is to be on disk."""

    def cache(self, offset: int, count: int) -> None:
        """The range is going to be read."""

    def inactive(self) -> bool:
        """Whether another process has the image, and it can only be read."""

    def status(self, context: int, offset: int, end: int) -> Iterator[tuple[int, int]]:
        """Lengths and flags of the extents, as a context has them."""

    def access(self, resume: Callable[[], None]) -> ExportAccess:
        """One access; `resume` is called when what it has to wait for may have come."""

    def throttled(self, count: int, *, writes: bool, then: Callable[[], None]) -> bool:
        """Whether an access to `count` bytes may not be made now; `then` is called when it may."""


class NbdServerClient:
    """One client. `send` takes bytes for it, `close` ends it.

    While `is_full` no request is looked at: what is asked in a few bytes may be answered by
    millions, which wait for the client to take them. `receive` goes on.
    """

    def __init__(
        self,
        exports: Callable[[], dict[str, ServedExport]],
        send: Callable[[bytes], None],
        close: Callable[[], None],
        traits: Traits,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._traits = traits
        self._is_full = is_full
        self._send, self._close = send, close
        self._buffer = bytearray()
        self._handshake = Handshake(exports, send, extended=traits.nbd_extended_headers)
        self._transmission: Transmission | None = None
        self._ended = False
        #: what was wrong with the client, as standard error has it
        self.complaint = ""
        self.target: ServedExport | None = None

    def start(self) -> None:
        """Greet the client."""
        self._send(
            wire.INIT_MAGIC
            + wire.OPTION_MAGIC
            + (wire.FIXED_NEWSTYLE | wire.NO_ZEROES).to_bytes(2, "big")
        )

    def receive(self, data: bytes) -> None:
        """What came from the client."""
        self._buffer += data
        while not self._ended and not self._is_full() and self._step():
            pass

    def hung_up(self) -> None:
        """The client has gone by itself."""
        if self._transmission is None and not self._ended:
            self._handshake.cut_off(self._buffer)
            self.complaint = self._handshake.complaint
        if self._transmission is not None:
            self._transmission.abandon()
        self._ended = True

    def _step(self) -> bool:
        phase = self._transmission or self._handshake
        went_on = phase.step(self._buffer)
        if phase.ended:
            self._end(phase.complaint)
        elif phase is self._handshake and phase.chosen is not None:
            self.target = phase.chosen
            self._transmission = Transmission(
                phase.chosen, phase.mode, phase.contexts, self._send, self._traits,
                resumed=self._resumed,
            )  # fmt: skip
        return went_on

    def _end(self, complaint: str) -> None:
        self._ended = True
        self.complaint = complaint
        self._buffer.clear()
        self._close()

    def _resumed(self) -> None:
        """A request that others waited for is over."""
        transmission = self._transmission
        if transmission is not None and transmission.ended and not self._ended:
            self._end(transmission.complaint)
        self.receive(b"")
