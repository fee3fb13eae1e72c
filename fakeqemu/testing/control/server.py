"""The control socket: a tester's verbs over QMP, beside the QMP of the machine.

The same lexer, sessions and request loop as QEMU's monitor, with commands and a schema of our
own, so `qmp-shell` drives it and the machine's own QMP stays clean. One socket serves one
machine or a fleet; any number of clients may be connected.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakeqemu import __version__
from fakeqemu.io.host import OsHost
from fakeqemu.io.link import Link, SocketEnd
from fakeqemu.io.loop import Loop
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import Version
from fakeqemu.qapi.errors import CommandNotFoundError, QapiError, StartupError
from fakeqemu.qapi.json.streamer import Message, ParseError
from fakeqemu.qapi.texts import EXPECTING_CAPABILITIES
from fakeqemu.qmp.connection import QmpConnection
from fakeqemu.qmp.request import parse_request
from fakeqemu.qmp.request_loop import RequestLoop
from fakeqemu.qmp.session import QmpSession
from fakeqemu.testing.control.commands import Control

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


class _LoopTurns:
    """The host, as far as a request loop needs it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def yield_turn(self, call: Callable[[], None]) -> bool:
        """Run `call` when all others have had their turn."""
        self._loop.next_turn(call)
        return True

    def close_fd(self, fd: int) -> None:
        """Close a descriptor; nobody here asks for one."""
        with contextlib.suppress(OSError):
            socket.close(fd)


class _LinkTransport:
    """A link as the transport of a connection."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def unread(self) -> int:
        """Nobody counts."""
        return 0

    def write(self, data: bytes) -> None:
        """Send to the client."""
        self._link.write(data)

    def pause(self, paused: bool) -> None:
        """Take no input for now (or do again)."""
        self._link.set_reading(not paused)


class _Client:
    """One connection; a request loop of its own, as clients do not wait for each other."""

    def __init__(self, server: ControlServer, loop: Loop, sock: socket.socket) -> None:
        self._server = server
        self._loop = RequestLoop(server.control.guard, _LoopTurns(loop), self._carry_out)
        self._link = Link(loop, SocketEnd(sock), self._input, self._ended)
        session = QmpSession(server.version, server.traits, offers_oob=False)
        self._connection = QmpConnection(session, _LinkTransport(self._link))
        self._loop.add(self._connection)
        self._link.set_reading(True)

    def close(self) -> None:
        """Hang up."""
        self._loop.hung_up(self._connection)
        self._link.close()

    def _carry_out(self, connection: QmpConnection, message: Message) -> Any:
        if isinstance(message, ParseError):
            raise QapiError(message.text)
        session = connection.session
        request = parse_request(message.value, session.oob_enabled)
        if request.name == "qmp_capabilities":
            session.accept_capabilities(request.arguments.get("enable", ()))
            return {}
        if not session.negotiated:
            raise CommandNotFoundError(EXPECTING_CAPABILITIES)
        return self._server.control.execute(request.name, request.arguments)

    def _input(self, data: bytes, fds: list[int]) -> None:
        self._loop.received(self._connection, data, fds)

    def _ended(self, _error: str | None) -> None:
        self._loop.hung_up(self._connection)
        self._server.forget(self)


class ControlServer:
    """Listens at a UNIX socket path until it is closed."""

    def __init__(self, loop: Loop, path: str, machines: Mapping[str, Machine]) -> None:
        self.control = Control(machines)
        major, minor, micro = (int(part) for part in __version__.split(".")[:3])
        self.version = Version(major, minor, micro, "fakeqemu control")
        self.traits = Profile.load(Profile.names()[-1]).traits
        self._loop = loop
        self._path = path
        self._clients: list[_Client] = []
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.setblocking(False)
        try:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            self._sock.bind(path)
            self._sock.listen(64)
        except OSError:
            self._sock.close()
            raise
        loop.add_reader(self._sock.fileno(), self._acceptable)

    def close(self) -> None:
        """Hang up on everybody and remove the socket file."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for client in tuple(self._clients):
            client.close()
        self._clients.clear()
        with contextlib.suppress(FileNotFoundError):
            Path(self._path).unlink()

    def forget(self, client: _Client) -> None:
        """That client has gone."""
        if client in self._clients:
            self._clients.remove(client)

    def _acceptable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._sock.accept()
            self._clients.append(_Client(self, self._loop, sock))


def control_path(address: str) -> str:
    """The path of `unix:PATH`. Raises ValueError."""
    kind, colon, path = address.partition(":")
    if kind != "unix" or not colon or not path:
        raise ValueError(f"a control socket is at unix:PATH, not at {address!r}")
    return path


def serve_control(address: str, name: str = "machine") -> Callable[[Machine], None]:
    """What to do with a machine before it boots: serve a control socket for it.

    Raises ValueError for an address of another form; the machine does not start where the socket
    cannot be had (StartupError).
    """
    path = control_path(address)

    def prepare(vm: Machine) -> None:
        assert isinstance(vm.host, OsHost)
        try:
            server = ControlServer(vm.host.loop, path, {name: vm})
        except OSError as error:
            text = error.strerror or str(error)
            raise StartupError(f"fakeqemu: no control socket at {path}: {text}") from None
        vm.host.at_end(server.close)

    return prepare
