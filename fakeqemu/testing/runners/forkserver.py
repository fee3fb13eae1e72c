"""`fakeqemu fork-server`: everything imported once, a child for each request.

Most of what a short-lived emulator costs is importing itself. This process imports, reads the
profiles it is asked for, and forks; the child takes over the descriptors, environment and
directory it was sent and goes on as `fakeqemu ARGUMENTS` would, with its own process id.

Each connection is one child. The client sends one message (JSON, with the descriptors beside
its first byte) and hears `{"pid": N}` and, when the child has ended, `{"status": N}`, below
zero for a signal. The server stays single-threaded and waits on a selector of its own, not in an
event loop: a fork of it is a clean process, in which no loop runs.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.guard import describe

if TYPE_CHECKING:
    from fakeqemu.profile import Profile

#: most descriptors that one child is handed
_MOST_FDS = 250
_LENGTH = struct.Struct("!I")
#: bytes of a request
_LONGEST = 16 << 20


#: arguments of the command -> exit status
Command = Callable[[list[str]], int]


def listen(address: str) -> socket.socket:
    """A UNIX socket that listens: its path, or "fd:N" for one that does already.

    Raises OSError, ValueError.
    """
    if address.startswith("fd:"):
        number = address[3:]
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise ValueError(f"a descriptor is fd:N, not {address!r}")
        return socket.socket(fileno=int(number))
    if not address:
        raise ValueError("fork-server takes the path of its socket")
    listener = socket.socket(socket.AF_UNIX)
    try:
        # whoever sees the file may connect
        listener.bind(f"{address}.new")
        listener.listen(128)
        os.rename(f"{address}.new", address)  # noqa: PTH104
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror or str(error), address) from None
    return listener


def serve(
    listener: socket.socket,
    address: str,
    command: Command,
    profile_of: Callable[[list[str]], Any],
) -> int:
    """Serve on the socket of `listen(address)`.

    Children run `command`; `profile_of` tells which profile its arguments ask for, or None.
    With "fd:N" the server leaves when its standard input ends.
    """
    server = ForkServer(listener, command, profile_of)
    if address.startswith("fd:"):
        server.leave_with_input()
    try:
        return server.run()
    finally:
        if not address.startswith("fd:") and not server.is_child:
            with contextlib.suppress(OSError):
                os.unlink(address)  # noqa: PTH108


class _Child(BaseException):
    """Out of the server's waiting at once: what else was ready is not the child's."""

    def __init__(self, request: dict[str, Any], fds: list[int]) -> None:
        super().__init__("child")
        self.request = request
        self.fds = fds


class ForkServer:
    """The zygote."""

    def __init__(
        self,
        listener: socket.socket,
        command: Command,
        profile_of: Callable[[list[str]], Any],
    ) -> None:
        self.is_child = False
        self._command = command
        self._profile_of = profile_of
        self._warmed: set[Profile] = set()
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._clients: dict[int, socket.socket] = {}
        #: pidfd -> (process id, its client)
        self._children: dict[int, tuple[int, socket.socket]] = {}
        self._status: int | None = None

    def run(self) -> int:
        """Serve until asked to leave; in a forked child, run the machine."""
        warm()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._listener.setblocking(False)
        self._wait_for(self._listener.fileno(), self._accept)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            while self._status is None:
                for key, _ in self._selector.select():
                    self._call(key.data)
        except _Child as child:
            job = child.request, child.fds
        else:
            return self._status or 0
        become(*job, self._command)
        raise AssertionError("a child came back")

    def _call(self, callback: Callable[[], None]) -> None:
        """Do one thing; a bug in it costs its client, not the server."""
        try:
            callback()
        except Exception as bug:
            sys.stderr.write(f"fakeqemu: internal error: {describe(bug)}\n")

    def leave_with_input(self) -> None:
        """Leave when standard input ends: the server's parent has exited."""

        def readable() -> None:
            if not os.read(0, 4096):
                self._status = 0

        self._wait_for(0, readable)

    def _wait_for(self, fd: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            self._clients[client.fileno()] = client
            coming = Coming()
            self._wait_for(client.fileno(), lambda: self._readable(client, coming))

    def _readable(self, client: socket.socket, coming: Coming) -> None:
        """Read what there is of a request; others are served until all of it is there."""
        try:
            found = coming.read(client)
        except BlockingIOError:
            return
        except (OSError, ValueError, EOFError, RecursionError):
            self._selector.unregister(client.fileno())
            coming.close()
            self._forget(client)
            return
        if found is None:
            return
        self._selector.unregister(client.fileno())
        try:
            self._start(client, *found)
        except Exception:
            self._forget(client)
            raise

    def _start(self, client: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        try:
            self._warm_profile(request["argv"])
            pid = os.fork()
        except Exception:
            for fd in fds:
                os.close(fd)
            raise
        if not pid:
            self.is_child = True
            self._abandon()
            raise _Child(request, fds)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (pid, client)
        self._wait_for(pidfd, lambda: self._ended(pidfd))
        self._tell(client, {"pid": pid})

    def _ended(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        pid, client = self._children.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        self._tell(client, {"status": os.waitstatus_to_exitcode(status)})
        self._forget(client)

    def _tell(self, client: socket.socket, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            client.sendall(json.dumps(message).encode() + b"\n")

    def _forget(self, client: socket.socket) -> None:
        self._clients.pop(client.fileno(), None)
        client.close()

    def _warm_profile(self, arguments: list[str]) -> None:
        """Read the profile that a child will ask for, once."""
        profile = self._profile_of(arguments)
        if profile is None or profile in self._warmed:
            return
        self._warmed.add(profile)
        touch(profile)
        gc.collect()
        gc.freeze()

    def _abandon(self) -> None:
        """In the child: nothing of the server's is ours."""
        self._selector.close()
        self._listener.close()
        for client in self._clients.values():
            client.close()
        for pidfd in self._children:
            os.close(pidfd)


def become(request: dict[str, Any], fds: list[int], command: Command) -> None:
    """Be the process that `request` asks for. Does not return."""
    status = 1
    try:
        _take_over(request, fds)
        status = command(request["argv"])
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status & 0xFF)


def _take_over(request: dict[str, Any], fds: list[int]) -> None:
    targets: list[int] = request["fds"]
    # away from every target first: numbers may overlap
    import fcntl

    above = max([2, *targets, *fds]) + 1
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, target in zip(lifted, targets, strict=True):
        os.dup2(fd, target, inheritable=True)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["fakeqemu", *request["argv"]]


class Coming:
    """A message under way, with the descriptors beside its first bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._fds = array.array("i")

    def read(self, client: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
        """Read once: the message with its descriptors, or None if there is more to come.

        Raises OSError, EOFError, ValueError for what is no message.
        """
        size = _LENGTH.size
        if len(self._data) >= size:
            size += _LENGTH.unpack_from(self._data)[0]
        room = socket.CMSG_SPACE(_MOST_FDS * self._fds.itemsize)
        data, ancillary, _, _ = client.recvmsg(size - len(self._data), room)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._fds.frombytes(content[: len(content) - len(content) % self._fds.itemsize])
        if not data:
            raise EOFError
        self._data += data
        if len(self._data) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._data)
        if length > _LONGEST:
            raise ValueError(f"a request of {length} bytes")
        if len(self._data) < _LENGTH.size + length:
            return None
        request = json.loads(self._data[_LENGTH.size :])
        _check(request, len(self._fds))
        return request, list(self._fds)

    def close(self) -> None:
        """No message will come of it."""
        for fd in self._fds:
            os.close(fd)


def _check(request: Any, fds: int) -> None:
    """Raise ValueError for what asks for no child."""
    if not isinstance(request, dict):
        raise ValueError("not an object")
    argv, env, targets = request.get("argv"), request.get("env"), request.get("fds")
    if not isinstance(argv, list) or not all(isinstance(each, str) for each in argv):
        raise ValueError("argv is a list of strings")
    if not isinstance(env, dict) or not all(isinstance(each, str) for each in env.values()):
        raise ValueError("env is an object of strings")
    if not isinstance(request.get("cwd"), str):
        raise ValueError("cwd is a string")
    if not isinstance(targets, list) or len(targets) != fds:
        raise ValueError("fds are as many as descriptors that came along")
    if not all(isinstance(each, int) and 0 <= each < 1 << 16 for each in targets):
        raise ValueError("fds are numbers of descriptors")


def send(sock: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
    """The other side of `receive`."""
    body = json.dumps(request).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([_LENGTH.pack(len(body))], rights)
    sock.sendall(body)


def warm() -> None:
    """Import whatever a machine may need."""
    from importlib import import_module
    from pkgutil import walk_packages

    import fakeqemu
    from fakeqemu.commands import load_all

    rooms = ("qapi", "profile", "model", "migration", "boot", "commands", "qmp", "io")
    for module in walk_packages(fakeqemu.__path__, "fakeqemu."):
        if module.name.split(".")[1] in rooms:
            import_module(module.name)
    import_module("asyncio")
    import_module("fakeqemu.testing.runners.child")
    load_all()
    gc.collect()
    gc.freeze()


def touch(profile: Any) -> None:
    """Have a profile read what most machines ask of it."""
    for name in ("schema", "traits", "machines", "migration_defaults", "qom_types",
                 "cpu_definitions", "option_groups", "command_line_options"):
        getattr(profile, name, None)
