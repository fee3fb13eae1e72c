"""The control socket: a tester's verbs over QMP, beside the QMP of the machine.

The same lexer, sessions and request loop as QEMU's monitor, with commands and a schema of our
own, so `qmp-shell` drives it and the machine's own QMP stays clean. One socket serves one
machine or a fleet; any number of clients may be connected.

Whoever may open a socket file may use it, as may whoever is on the host where it is TCP on the
loopback. At other addresses, or where there is one, clients show a token with `qmp_capabilities`.
"""

from __future__ import annotations

import contextlib
import hmac
import os
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
from fakeqemu.testing.addresses import Address, is_loopback, parse_address
from fakeqemu.testing.control.commands import Control

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: the variable that has the token of clients that come over a network
TOKEN = "FAKEQEMU_CONTROL_TOKEN"


class _LoopTurns:
    """The host, as far as a request loop needs it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def yield_turn(self, call: Callable[[], None]) -> bool:
        """Run `call` when all others have had their turn."""
        self._loop.next_turn(call)
        return True

    def close_fd(self, fd: int) -> None:
        """Close a descriptor, which no request of this protocol takes."""
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
        self._turns = loop
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
        session = connection.session
        if isinstance(message, ParseError):
            if self._server.token_needed and not session.negotiated:
                self._hang_up()
            raise QapiError(message.text)
        request = parse_request(message.value, session.oob_enabled)
        if request.name == "qmp_capabilities":
            self._check_token(request.arguments)
            session.accept_capabilities(request.arguments.get("enable", ()))
            return {}
        if not session.negotiated:
            raise CommandNotFoundError(EXPECTING_CAPABILITIES)
        return self._server.control.execute(request.name, request.arguments)

    def _check_token(self, arguments: dict[str, Any]) -> None:
        """Raise QapiError without the token, where there is one."""
        wanted, given = self._server.token_needed, arguments.get("token")
        if not wanted:
            return
        if not isinstance(given, str) or not hmac.compare_digest(
            given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace")
        ):
            self._hang_up()
            raise QapiError(
                "this control socket wants its token, as an argument of qmp_capabilities"
                if given is None
                else "that is not the token of this control socket"
            )

    def _hang_up(self) -> None:
        """Once the reply has gone out: who guesses has to connect again."""
        self._turns.next_turn(self._server.drop_client(self))

    def _input(self, data: bytes, fds: list[int]) -> None:
        self._loop.received(self._connection, data, fds)

    def _ended(self, _error: str | None) -> None:
        self._loop.hung_up(self._connection)
        self._server.forget(self)


class ControlServer:
    """Listens until it is closed."""

    def __init__(self, loop: Loop, address: Address, machines: Mapping[str, Machine]) -> None:
        """Raises OSError, and ValueError for an address that needs a token and has none."""
        self.control = Control(machines)
        major, minor, micro = (int(part) for part in __version__.split(".")[:3])
        self.version = Version(major, minor, micro, "fakeqemu control")
        self.traits = Profile.load(Profile.names()[-1]).traits
        #: what clients have to show; empty: nothing
        self.token_needed = token_of(address)
        self._loop = loop
        self._clients: list[_Client] = []
        self._sock, self._path = _listen(address)
        loop.add_reader(self._sock.fileno(), self._acceptable)

    @property
    def port(self) -> int:
        """Where it listens, if that is TCP."""
        return int(self._sock.getsockname()[1])

    def close(self) -> None:
        """Hang up on everybody and remove the socket file."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for client in tuple(self._clients):
            client.close()
        self._clients.clear()
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                Path(self._path).unlink()

    def forget(self, client: _Client) -> None:
        """That client has gone."""
        if client in self._clients:
            self._clients.remove(client)

    def drop_client(self, client: _Client) -> Callable[[], None]:
        """What hangs up on a client, if it is still there."""

        def drop() -> None:
            if client in self._clients:
                self._clients.remove(client)
                client.close()

        return drop

    def _acceptable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._sock.accept()
            self._clients.append(_Client(self, self._loop, sock))


def _listen(address: Address) -> tuple[socket.socket, str]:
    """A socket that listens, and the path of its file if it has one. Raises OSError."""
    kind, where = address
    bound: Any = where
    if kind == "unix":
        path, family = str(where), socket.AF_UNIX
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
    else:
        assert isinstance(where, tuple)
        found = socket.getaddrinfo(*where, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        path, family, bound = "", found[0][0], found[0][4]
    sock = socket.socket(family)
    try:
        if kind == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(bound)
        sock.listen(64)
    except OSError:
        sock.close()
        raise
    return sock, path


def control_address(text: str) -> Address:
    """Where a control socket is to be. Raises ValueError."""
    if not text.startswith(("unix:", "tcp:")):
        raise ValueError(f"a control socket is at unix:PATH or tcp:HOST:PORT, not at {text!r}")
    address = parse_address(text)
    token_of(address)
    return address


def token_of(address: Address) -> str:
    """What clients of this address have to show; empty: nothing.

    Raises ValueError where anybody could come and no token is there.
    """
    kind, where = address
    if kind == "unix":
        return ""
    token = os.environ.get(TOKEN, "")
    if not token and not is_loopback(str(where[0])):
        raise ValueError(
            f"a control socket at {where[0]} is open to others: put a token for its clients into "
            f"{TOKEN}, or listen at 127.0.0.1"
        )
    return token


def serve_control(address: str, name: str = "machine") -> Callable[[Machine], None]:
    """What to do with a machine before it boots: serve a control socket for it.

    Raises ValueError for an address of another form; the machine does not start where the socket
    cannot be had (StartupError). With port 0 it says on standard error where it listens.
    """
    where = control_address(address)

    def prepare(vm: Machine) -> None:
        assert isinstance(vm.host, OsHost)
        try:
            server = ControlServer(vm.host.loop, where, {name: vm})
        except OSError as error:
            text = error.strerror or str(error)
            place = address.removeprefix("unix:")
            raise StartupError(f"fakeqemu: no control socket at {place}: {text}") from None
        if where[0] == "tcp" and where[1][1] == 0:
            vm.host.warn(f"fakeqemu: control socket at tcp:{where[1][0]}:{server.port}")
        vm.host.at_end(server.close)

    return prepare
