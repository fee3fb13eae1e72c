"""What the model may ask of the world outside: the only way out of the synchronous rooms.

`fakeqemu.io` answers with real sockets, files and processes; `NullHost` answers for
`fakeqemu explain` and for tests of the model alone. Calls that can fail raise `QapiError`
with QEMU's own text. Nothing here blocks: what takes time calls back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fakeqemu.model.chardev import Chardev


class Stream(Protocol):
    """A connected byte stream (a migration channel), driven by callbacks.

    Before data comes the owner sets `on_data` and `on_close`.
    """

    #: called with each piece of input
    on_data: Callable[[bytes], None] | None
    #: called once, with None at a clean end of file or the text of the error
    on_close: Callable[[str | None], None] | None

    def write(self, data: bytes) -> None:
        """Queue `data`; what cannot be sent ends in `on_close`."""

    def close(self) -> None:
        """Send what is queued, then close; `on_close` is not called."""


class Listener(Protocol):
    """A listening migration socket."""

    #: the address really bound, as QAPI SocketAddress members (a chosen port filled in)
    address: dict[str, object]

    def close(self) -> None:
        """Stop listening and remove a UNIX socket's file."""


class Host(Protocol):
    """The world outside, as one machine sees it."""

    def open_chardev(self, chardev: Chardev) -> None:
        """Give `chardev` its transport: bind, connect, open. Raises QapiError."""

    def close_chardev(self, chardev: Chardev) -> None:
        """Take the transport away again."""

    def listen(
        self, address: dict[str, object], accept: Callable[[Stream], None]
    ) -> Listener:
        """Listen for migration on a QAPI MigrationAddress of transport socket."""

    def connect(
        self,
        address: dict[str, object],
        done: Callable[[Stream | None, str], None],
    ) -> None:
        """Open an outgoing migration channel of any transport.

        `done(stream, "")` or `done(None, error text)` follows, never before this returns.
        Raises QapiError for what QEMU refuses at once (a file that cannot be created).
        """

    def open_incoming(self, address: dict[str, object]) -> Stream:
        """Open an incoming channel that needs no listening: exec, fd, file."""

    def kvm_usable(self) -> bool:
        """Whether `/dev/kvm` can be opened by this process."""

    def monotonic_thread_id(self) -> int:
        """A number to show as a thread id: of this process for the main thread."""

    def warn(self, text: str) -> None:
        """One line on standard error, after the program's name."""


class NullHost:
    """No world at all: opens nothing, answers politely. For explain and model tests."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def open_chardev(self, chardev: Chardev) -> None:
        """Do nothing."""

    def close_chardev(self, chardev: Chardev) -> None:
        """Do nothing."""

    def listen(
        self, address: dict[str, object], accept: Callable[[Stream], None]  # noqa: ARG002
    ) -> Listener:
        """Pretend to listen at `address`."""
        return _NullListener(address)

    def connect(
        self,
        address: dict[str, object],
        done: Callable[[Stream | None, str], None],
    ) -> None:
        """Never answer."""

    def open_incoming(self, address: dict[str, object]) -> Stream:  # noqa: ARG002
        """A stream on which nothing ever comes."""
        return _NullStream()

    def kvm_usable(self) -> bool:
        """No."""
        return False

    def monotonic_thread_id(self) -> int:
        """Always 1."""
        return 1

    def warn(self, text: str) -> None:
        """Remember the line in `warnings`."""
        self.warnings.append(text)


class _NullListener:
    def __init__(self, address: dict[str, object]) -> None:
        self.address = address

    def close(self) -> None:
        pass


class _NullStream:
    def __init__(self) -> None:
        self.on_data: Callable[[bytes], None] | None = None
        self.on_close: Callable[[str | None], None] | None = None

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass
