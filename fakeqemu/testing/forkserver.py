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
from typing import Any

#: most descriptors that one child is handed
_MOST_FDS = 250
_LENGTH = struct.Struct("!I")


#: arguments of the command -> exit status
Command = Callable[[list[str]], int]


def serve(address: str, command: Command, profile_of: Callable[[list[str]], Any]) -> int:
    """Serve on a UNIX socket: its path, or "fd:N" for one that listens already.

    Children run `command`; `profile_of` tells which profile its arguments ask for, or None.
    With "fd:N" the server leaves when its standard input ends.
    """
    if address.startswith("fd:"):
        listener = socket.socket(fileno=int(address[3:]))
    else:
        listener = socket.socket(socket.AF_UNIX)
        # whoever sees the file may connect
        listener.bind(f"{address}.new")
        listener.listen(128)
        os.rename(f"{address}.new", address)  # noqa: PTH104
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
        self._warmed: set[str] = set()
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._clients: dict[int, socket.socket] = {}
        #: pidfd -> (process id, its client)
        self._children: dict[int, tuple[int, socket.socket]] = {}
        self._status: int | None = None

    def run(self) -> int:
        """Serve until told to leave; in a child, be the child."""
        warm()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._listener.setblocking(False)
        self._wait_for(self._listener.fileno(), self._accept)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            while self._status is None:
                for key, _ in self._selector.select():
                    key.data()
        except _Child as child:
            job = child.request, child.fds
        else:
            return self._status or 0
        become(*job, self._command)
        raise AssertionError("a child came back")

    def leave_with_input(self) -> None:
        """Leave when standard input ends: whoever started the server is gone."""

        def readable() -> None:
            if not os.read(0, 4096):
                self._status = 0

        self._wait_for(0, readable)

    def _wait_for(self, fd: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = self._listener.accept()
            client.setblocking(True)
            self._clients[client.fileno()] = client
            self._wait_for(client.fileno(), lambda: self._readable(client))

    def _readable(self, client: socket.socket) -> None:
        self._selector.unregister(client.fileno())
        try:
            request, fds = receive(client)
        except (OSError, ValueError, EOFError):
            self._forget(client)
            return
        self._warm_profile(request["argv"])
        pid = os.fork()
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
        if profile is None or profile.name in self._warmed:
            return
        self._warmed.add(profile.name)
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


def receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """One message with its descriptors. Raises EOFError, ValueError."""
    fds = array.array("i")
    room = socket.CMSG_SPACE(_MOST_FDS * fds.itemsize)
    head, ancillary, _, _ = client.recvmsg(_LENGTH.size, room)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if len(head) < _LENGTH.size:
        raise EOFError
    (left,) = _LENGTH.unpack(head)
    body = bytearray()
    while len(body) < left:
        if not (more := client.recv(left - len(body))):
            raise EOFError
        body += more
    return json.loads(body), list(fds)


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
    import_module("fakeqemu.testing.agent")
    load_all()
    gc.collect()
    gc.freeze()


def touch(profile: Any) -> None:
    """Have a profile read what most machines ask of it."""
    for name in ("schema", "traits", "machines", "migration_defaults", "qom_types",
                 "cpu_definitions", "option_groups", "command_line_options"):
        getattr(profile, name, None)
