"""The interface through which the synchronous layers use the operating system.

`fakeqemu.io` answers with real sockets, files and processes; `null_host.NullHost` answers for
`fakeqemu explain` and for tests of the model alone. Calls that can fail raise `QapiError`
with QEMU's own text. Nothing here blocks: what takes time calls back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.dataclass import dataclass

if TYPE_CHECKING:
    from fakeqemu.model.block.files import FileSystem
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.dump.output import DumpOutput
    from fakeqemu.model.fds.cpr_fds import SavedFd
    from fakeqemu.model.net.sockets.host_sockets import NetSockets
    from fakeqemu.qapi.errors import QapiError


class Stream(Protocol):
    """A connected byte stream (a migration channel), driven by callbacks.

    Before data comes the owner sets `on_data` and `on_close`.
    """

    #: called with each piece of input
    on_data: Callable[[bytes], None] | None
    #: called once, with None at a clean end of file or the text of the error
    on_close: Callable[[str | None], None] | None

    #: whether descriptors that come along are kept; else they are closed
    takes_fds: bool

    def write(self, data: bytes) -> None:
        """Queue `data`; what cannot be sent ends in `on_close`."""

    def send_fds(self, fds: Sequence[int]) -> None:
        """Send copies of descriptors along with the next byte. Only UNIX sockets can do that."""

    def received_fds(self) -> list[int]:
        """The descriptors that came along since the last call; the caller has them now."""

    def skip(self, size: int) -> None:
        """Leave out `size` bytes: read or write on behind them. Only files can do that."""

    def write_at(self, offset: int, data: bytes) -> None:
        """Write at an offset of the file, and go on where it was. Only files can do that."""

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Let everything wait, and hand over what comes, until `done()`; False if time is up."""

    def close(self) -> None:
        """Send what is queued, then close; `on_close` is not called."""


class NetListener(Protocol):
    """A listening migration socket."""

    #: the address really bound, as QAPI SocketAddress members (a chosen port filled in)
    address: dict[str, object]

    def close(self) -> None:
        """Stop listening and remove a UNIX socket's file."""


@dataclass(frozen=True, slots=True)
class CprChannel:
    """An incoming CPR channel that has brought its state, or something else."""

    #: what the old process has saved, the newest first
    saved: tuple[SavedFd, ...]
    #: let the old process go on: the main channel is listened for
    close: Callable[[], None]
    #: why that was no state
    error: QapiError | None = None
    #: lines for standard error before that
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TapInterface:
    """A TAP interface of the host that a machine has opened."""

    #: stands for the open device, and keeps others out; None where nothing has to
    fd: int | None = None
    #: others have it open as well
    shared: bool = False


class CprLink(Protocol):
    """An outgoing CPR channel that has taken the state."""

    def close(self) -> None:
        """Wait for the new process no longer."""


class HostMemory(Protocol):
    """Whether memory of a size can be had; nothing is kept of what is asked for."""

    def map_error(self, size: int, *, reserve: bool = True, page: int = 0) -> int:
        """The errno of mapping `size` bytes of memory; 0 if that can be.

        `reserve`: whether there has to be room for them all now. `page`: bytes in the huge
        pages they are to be of; 0 for any.
        """

    def shared_error(self, size: int) -> int:
        """The errno of making a shared memory file of `size` bytes; 0 if that can be."""

    def device_error(self, path: str) -> int:
        """The errno of mapping a pipe, socket or device; 0 if that can be, or it is none."""


class Host(Protocol):
    """The world outside, as one machine sees it."""

    #: where images are
    @property
    def files(self) -> FileSystem:
        """Image files."""

    #: what guest memory may be made of
    @property
    def memory(self) -> HostMemory:
        """Memory that guests get."""

    def yield_turn(self, call: Callable[[], None]) -> bool:
        """Run `call` when all others who wait for the process have had their turn.

        False if there are no others: the caller goes on by itself.
        """

    def open_chardev(self, chardev: Chardev) -> None:
        """Give `chardev` its transport: bind, connect, open. Raises QapiError."""

    def open_chardev_log(self, chardev: Chardev) -> None:
        """Open what gets a copy of its output, where it is not opened by `open_chardev`.

        Raises QapiError.
        """

    def close_chardev(self, chardev: Chardev) -> None:
        """Take the transport and the log away again."""

    def listen(
        self, address: dict[str, object], accept: Callable[[Stream], None]
    ) -> NetListener:
        """Listen for migration on a QAPI MigrationAddress of transport socket."""

    def serve_clients(
        self,
        address: dict[str, Any],
        accept: Callable[[Stream, dict[str, Any]], None],
        *,
        leave_file: bool,
    ) -> Sequence[NetListener]:
        """Listen for clients at every address that a flat SocketAddress stands for.

        `accept` gets each connection and the address of its other end. `leave_file`: a UNIX
        socket's file is still there when the process has ended. Raises QapiError.
        """

    @property
    def sockets(self) -> NetSockets:
        """Sockets of network backends."""

    def adopt_socket(self, fd: int) -> tuple[Stream, dict[str, Any]]:
        """A connected socket that a client handed over, and the address of its other end.

        Raises QapiError if it is no socket.
        """

    def connect(
        self,
        address: dict[str, object],
        done: Callable[[Stream | None, str], None],
    ) -> None:
        """Open an outgoing migration channel of any transport.

        `done(stream, "")` or `done(None, error text)` follows, never before this returns.
        Raises QapiError for what QEMU refuses at once (a file that cannot be created).
        """

    def connect_now(
        self, address: dict[str, object], seconds: float, *, retry_for: float = 0.0
    ) -> Stream:
        """A connection to a socket; everything waits for it, up to `seconds` for each attempt.

        A refused one is tried again for `retry_for` seconds. Raises QapiError.
        """

    def connect_to_client(self, address: dict[str, Any]) -> tuple[Stream, dict[str, Any]]:
        """A connection to who is to be served, and the address of its other end.

        Everything waits for it. Raises QapiError.
        """

    def open_incoming(self, address: dict[str, object]) -> Stream:
        """Open an incoming channel that needs no listening: exec, fd, file."""

    def open_tap(self, ifname: str, *, multi_queue: bool, given: bool) -> TapInterface:
        """Open a TAP interface of the host, or find out whether others have it open (`given`).

        Raises QapiError if the kernel would refuse it.
        """

    def close_fd(self, fd: int) -> None:
        """Close a descriptor that a client handed over."""

    def fd_kind(self, fd: int) -> str:
        """What `fd` is: "socket", "pipe", "file" (anything else) or "closed"."""

    def passed_fd(self, fd: int) -> int:
        """An inherited descriptor by its number; -1 if the process did not get it.

        What the process has opened itself is nobody else's to name.
        """

    def socket_pair(self) -> tuple[Stream, int]:
        """A stream, and the descriptor of its other end, for another program."""

    def create_event(self) -> int:
        """A descriptor by which another program signals, or is signalled to (eventfd)."""

    def is_unix_socket(self, fd: int) -> bool:
        """Whether `fd` is a UNIX domain socket, which takes descriptors along."""

    def dup_fd(self, fd: int) -> int:
        """A second descriptor for the same file. Raises QapiError."""

    def send_cpr_state(
        self,
        address: dict[str, object],
        pieces: Sequence[tuple[bytes, int | None]],
        hung_up: Callable[[], None],
    ) -> CprLink:
        """Send CPR state to a UNIX socket: bytes, and the descriptor that goes with their last.

        `hung_up` is called when the other end closes. Raises QapiError if nothing listens.
        """

    def create_memory(self, name: str, size: int) -> int:
        """A descriptor of new memory that another process can map. Raises QapiError."""

    def read_memory(self, fd: int) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of what is in the memory `fd`, without holes that it has."""

    def write_memory(self, fd: int, offset: int, data: bytes) -> None:
        """Write into the memory `fd`."""

    def fd_size(self, fd: int) -> int | None:
        """Bytes in the file or memory `fd`; None if that is unknown."""

    def replace_process(self, args: list[str], state: bytes, fds: Sequence[int]) -> None:
        """Become the command `args` (cpr-exec), which finds `state` and has `fds` open.

        Raises QapiError when it cannot be run; else it does not return.
        """

    def left_by_exec(self) -> bytes | None:
        """CPR state left by the process that executed this one; None if none has."""

    def create_file(self, path: str, size: int) -> int:
        """Make sure that a file is there, an empty one of `size` bytes if it can be.

        The bytes that were in it before. Raises OSError.
        """

    def remove_file(self, path: str) -> None:
        """Remove a file, if that can be done."""

    def create_output(
        self, path: str, mode: int = 0o666, *, fdsets: bool = True
    ) -> DumpOutput:
        """Create or truncate a file; `fdsets`: or use that of `/dev/fdset/N`. Raises OSError."""

    def output_of_fd(self, fd: int) -> DumpOutput:
        """Write to a descriptor that a client handed over, and close it in the end."""

    def read_file(self, path: str) -> bytes:
        """A file's content. Raises OSError."""

    def file_error(self, path: str) -> str | None:
        """Why a file cannot be read, in the system's words; None if it can."""

    def open_error(self, path: str) -> str | None:
        """Why a file cannot be opened to read and write; None if it can."""

    def access_error(self, path: str) -> str | None:
        """Why a file must not be read or is not there; None if it can be. It is not opened."""

    def name_error(self, name: str, service: str | None, *, ipv6: bool) -> str | None:
        """Why a name (with a UDP service) has no address, in the resolver's words."""

    def path_error(self, path: str) -> str | None:
        """Why nothing is at a path, in the system's words; None if something is."""

    def read_link(self, path: str) -> str:
        """Where a symbolic link leads. Raises OSError."""

    def real_path(self, path: str) -> str:
        """A path without symbolic links, as far as there is one."""

    def list_folder(self, path: str) -> list[str]:
        """Names in a folder. Raises OSError."""

    def fd_error(self, fd: int) -> str | None:
        """Why descriptor `fd` cannot be used, in the system's words; None if it can."""

    def tap_error(self, fd: int) -> str | None:
        """Why `fd` is no open TAP device, in the system's words; None if it is one."""

    def vhost_error(self, fd: int) -> str | None:
        """Why `fd` is no vhost device, in the system's words; None if it is one."""

    def is_terminal(self, fd: int) -> bool:
        """Whether descriptor `fd` of the process is a terminal."""

    def kvm_usable(self) -> bool:
        """Whether `/dev/kvm` can be opened by this process."""

    def random_uuid(self) -> str:
        """A new UUID, in the form of RFC 4122."""

    def processors(self, node: int | None = None) -> frozenset[int]:
        """The host's processors, or those of one NUMA node: none if there is no such node."""

    def monotonic_thread_id(self) -> int:
        """A number to show as a thread id: of this process for the main thread."""

    def thread_id(self, name: str, number: int) -> int:
        """The id of the thread that `name` runs in: a vCPU, an iothread, a channel of migration.

        Where nothing has a thread of its own it is counted from the main one's by `number`.
        """

    def end_thread(self, name: str) -> None:
        """`name` has gone, and its thread with it."""

    def warn(self, text: str) -> None:
        """One line on standard error, after the program's name."""

    def say(self, text: str) -> None:
        """Lines on standard error as they are."""

    def print(self, text: str) -> None:
        """Lines on standard output."""
