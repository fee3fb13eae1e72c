"""A host with nothing in it: for `fakeqemu explain` and for tests of the model alone."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.files import FileSystem, MemoryFiles
from fakeqemu.model.dump.output import DumpOutput, MemoryOutput, NoOutput
from fakeqemu.model.host import CprLink, HostMemory, NetListener, Stream, TapInterface
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.net.sockets.host_sockets import NetSockets


class NullMemory:
    """As much as it is said to have; an address space ends at 47 bits."""

    def __init__(self, most: int = 1 << 47) -> None:
        self.most = most

    def map_error(self, size: int, *, reserve: bool = True, page: int = 0) -> int:  # noqa: ARG002
        """ENOMEM beyond what there is."""
        return errno.ENOMEM if size > (self.most if reserve else 1 << 47) else 0

    def shared_error(self, size: int) -> int:
        """EINVAL for what no file can be of."""
        return errno.EINVAL if size >= 1 << 63 else 0

    def device_error(self, path: str) -> int:  # noqa: ARG002
        """There is none."""
        return 0


class NullHost:
    """No world at all: opens nothing, answers politely. For explain and model tests."""

    def __init__(self) -> None:
        from fakeqemu.model.net.sockets.host_sockets import NullSockets

        self.warnings: list[str] = []
        self.printed: list[str] = []
        self.files: FileSystem = MemoryFiles()
        self.sockets: NetSockets = NullSockets()
        self.memory: HostMemory = NullMemory()

    def yield_turn(self, call: Callable[[], None]) -> bool:  # noqa: ARG002
        """Nobody else is there."""
        return False

    def open_chardev(self, chardev: Chardev) -> None:
        """Check the options, open nothing."""
        from fakeqemu.model.chardev.chardev import open_in_model

        open_in_model(chardev)

    def open_chardev_log(self, chardev: Chardev) -> None:
        """Do nothing."""

    def close_chardev(self, chardev: Chardev) -> None:
        """Do nothing."""

    def listen(
        self, address: dict[str, object], accept: Callable[[Stream], None]  # noqa: ARG002
    ) -> NetListener:
        """Pretend to listen at `address`."""
        return _NullListener(address)

    def serve_clients(
        self,
        address: dict[str, Any],
        accept: Callable[[Stream, dict[str, Any]], None],  # noqa: ARG002
        *,
        leave_file: bool,  # noqa: ARG002
    ) -> Sequence[NetListener]:
        """Pretend to listen at `address`."""
        return [_NullListener(address)]

    def adopt_socket(self, fd: int) -> tuple[Stream, dict[str, Any]]:  # noqa: ARG002
        """A stream on which nothing ever comes."""
        return _NullStream(), {"type": "unix", "path": ""}

    def connect(
        self,
        address: dict[str, object],
        done: Callable[[Stream | None, str], None],
    ) -> None:
        """Never answer."""

    def connect_now(
        self, address: dict[str, object], seconds: float, *, retry_for: float = 0.0  # noqa: ARG002
    ) -> Stream:
        """Nothing listens."""
        raise NotModelledError("a server that has to answer where there is no host")

    def connect_to_client(self, address: dict[str, Any]) -> tuple[Stream, dict[str, Any]]:  # noqa: ARG002
        """Nothing listens."""
        raise NotModelledError("a client that has to answer where there is no host")

    def socket_pair(self) -> tuple[Stream, int]:
        """There is no program to get the other end."""
        raise NotModelledError("a program that has to answer where there is no host")

    def create_event(self) -> int:
        """No descriptor is that high."""
        return 1 << 30

    def open_incoming(self, address: dict[str, object]) -> Stream:  # noqa: ARG002
        """A stream on which nothing ever comes."""
        return _NullStream()

    def open_tap(
        self, ifname: str, *, multi_queue: bool, given: bool  # noqa: ARG002
    ) -> TapInterface:
        """Nobody else has it."""
        return TapInterface()

    def close_fd(self, fd: int) -> None:
        """Do nothing."""

    def dup_fd(self, fd: int) -> int:
        """The same number."""
        return fd

    def send_cpr_state(
        self,
        address: dict[str, object],
        pieces: Sequence[tuple[bytes, int | None]],  # noqa: ARG002
        hung_up: Callable[[], None],  # noqa: ARG002
    ) -> CprLink:
        """Nobody ever hangs up."""
        return _NullListener(address)

    def create_memory(self, name: str, size: int) -> int:  # noqa: ARG002
        """No descriptor is that high."""
        return 1 << 30

    def read_memory(self, fd: int) -> Iterator[tuple[int, bytes]]:  # noqa: ARG002
        """Nothing is in it."""
        return iter(())

    def write_memory(self, fd: int, offset: int, data: bytes) -> None:
        """Do nothing."""

    def fd_size(self, fd: int) -> int | None:  # noqa: ARG002
        """Unknown."""
        return None

    def replace_process(
        self, args: list[str], state: bytes, fds: Sequence[int]  # noqa: ARG002
    ) -> None:
        """Refuse: there is no process."""
        raise QapiError(f"execvp {args[0]} failed: Operation not permitted")

    def left_by_exec(self) -> bytes | None:
        """Nothing."""
        return None

    def create_file(self, path: str, size: int) -> int:  # noqa: ARG002
        """Do nothing: it was empty."""
        return 0

    def remove_file(self, path: str) -> None:
        """Remove one of `files`."""
        self.files.remove(path)

    def create_output(
        self, path: str, mode: int = 0o666, *, fdsets: bool = True  # noqa: ARG002
    ) -> DumpOutput:
        """One of `files`."""
        return MemoryOutput(self.files.open(path, writable=True, create=True))

    def output_of_fd(self, fd: int) -> DumpOutput:  # noqa: ARG002
        """Nowhere."""
        return NoOutput()

    def read_file(self, path: str) -> bytes:  # noqa: ARG002
        """Nothing is in it."""
        return b""

    def open_error(self, path: str) -> str | None:  # noqa: ARG002
        """It can."""
        return None

    def file_error(self, path: str) -> str | None:  # noqa: ARG002
        """It can be read."""
        return None

    def access_error(self, path: str) -> str | None:  # noqa: ARG002
        """It can be read."""
        return None

    def name_error(self, name: str, service: str | None, *, ipv6: bool) -> str | None:  # noqa: ARG002
        """It has one."""
        return None

    def path_error(self, path: str) -> str | None:  # noqa: ARG002
        """Something is."""
        return None

    def read_link(self, path: str) -> str:  # noqa: ARG002
        """There is nothing to look at."""
        raise NotModelledError("a device of the host where there is no host")

    def real_path(self, path: str) -> str:
        """The same."""
        return path

    def list_folder(self, path: str) -> list[str]:  # noqa: ARG002
        """There is nothing to look at."""
        raise NotModelledError("a device of the host where there is no host")

    def fd_kind(self, fd: int) -> str:  # noqa: ARG002
        """Always a socket."""
        return "socket"

    def passed_fd(self, fd: int) -> int:
        """It was passed."""
        return fd

    def is_unix_socket(self, fd: int) -> bool:  # noqa: ARG002
        """Every descriptor is one."""
        return True

    def fd_error(self, fd: int) -> str | None:  # noqa: ARG002
        """It can be used."""
        return None

    def is_terminal(self, fd: int) -> bool:  # noqa: ARG002
        """It is none."""
        return False

    def tap_error(self, fd: int) -> str | None:  # noqa: ARG002
        """It is one."""
        return None

    def vhost_error(self, fd: int) -> str | None:  # noqa: ARG002
        """It is one."""
        return None

    def kvm_usable(self) -> bool:
        """No."""
        return False

    def random_uuid(self) -> str:
        """The same each time."""
        return "00000000-0000-4000-8000-000000000000"

    def processors(self, node: int | None = None) -> frozenset[int]:
        """One, in node 0."""
        return frozenset() if node else frozenset({0})

    def monotonic_thread_id(self) -> int:
        """Always 1."""
        return 1

    def thread_id(self, name: str, number: int) -> int:  # noqa: ARG002
        """Counted."""
        return 1 + number

    def end_thread(self, name: str) -> None:
        """Do nothing."""

    def warn(self, text: str) -> None:
        """Remember the line in `warnings`."""
        self.warnings.append(text)

    def say(self, text: str) -> None:
        """Remember the lines in `warnings`."""
        self.warnings.append(text)

    def print(self, text: str) -> None:
        """Remember the lines in `printed`."""
        self.printed.append(text)


class _NullListener:
    def __init__(self, address: dict[str, object]) -> None:
        self.address = address

    def close(self) -> None:
        pass


class _NullStream:
    def __init__(self) -> None:
        self.takes_fds = False
        self.on_data: Callable[[bytes], None] | None = None
        self.on_close: Callable[[str | None], None] | None = None

    def send_fds(self, fds: Sequence[int]) -> None:
        """Do nothing."""

    def received_fds(self) -> list[int]:
        """Nothing comes."""
        return []

    def write(self, data: bytes) -> None:
        pass

    def skip(self, size: int) -> None:
        pass

    def write_at(self, offset: int, data: bytes) -> None:
        pass

    def wait(self, seconds: float, done: Callable[[], bool]) -> bool:  # noqa: ARG002
        return False

    def close(self) -> None:
        pass
