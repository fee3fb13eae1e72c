"""The control socket: a tester's verbs over QMP, beside the QMP of the machine.

The same lexer and the same sessions as QEMU's monitor, with a dispatcher and a schema of our
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
from fakeqemu.commands.registry import Deferred
from fakeqemu.guard import Guard
from fakeqemu.io.host import LoopHost
from fakeqemu.io.link import Link, SocketEnd
from fakeqemu.io.loop import Loop
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import Version
from fakeqemu.qapi.errors import CommandNotFoundError, QapiError
from fakeqemu.qapi.json.streamer import Message, ParseError
from fakeqemu.qapi.texts import EXPECTING_CAPABILITIES
from fakeqemu.qmp.request import NO_ID, failure, id_of, parse_request, success
from fakeqemu.qmp.session import QmpSession
from fakeqemu.testing.control.commands import Control

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine


class _Side:
    """What a session asks of the machine it belongs to."""

    class _Host:
        def __init__(self, loop: Loop) -> None:
            self._loop = loop

        def yield_turn(self, call: Callable[[], None]) -> bool:
            self._loop.next_turn(call)
            return True

        def close_fd(self, fd: int) -> None:
            with contextlib.suppress(OSError):
                socket.close(fd)

    class _Profile:
        def __init__(self) -> None:
            self.traits = Profile.load(Profile.names()[-1]).traits
            major, minor, micro = (int(part) for part in __version__.split(".")[:3])
            self.version = Version(major, minor, micro, "fakeqemu control")

    def __init__(self, loop: Loop, guard: Guard) -> None:
        self.guard = guard
        self.host = self._Host(loop)
        self.profile = self._Profile()


class _Dispatcher:
    """Answers the sessions of a control socket, each request when it comes."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def add(self, session: QmpSession) -> None:
        """Nothing to remember."""

    def remove(self, session: QmpSession) -> None:
        """Nothing to forget."""

    def run_now(self, session: QmpSession, message: Message) -> None:
        """Out of band is not offered."""
        id = NO_ID if isinstance(message, ParseError) else id_of(message.value)
        session.send(failure(QapiError("no out-of-band here"), id))

    def answer(self, session: QmpSession, message: Message) -> None:
        """Carry out one request."""
        if isinstance(message, ParseError):
            self._answered(session, failure(QapiError(message.text), NO_ID))
            return
        id = id_of(message.value)
        value, error = self._control.guard.attempt(self._carry_out, session, message.value)
        if error is not None:
            self._answered(session, failure(error, id))
            return
        if not isinstance(value, Deferred):
            self._answered(session, success(value, id))
            return

        def finished(done: Deferred) -> None:
            reply = success(done.value, id) if done.error is None else failure(done.error, id)
            self._answered(session, reply)

        value.then(finished)

    def _carry_out(self, session: QmpSession, message: Any) -> Any:
        request = parse_request(message, False)
        if request.name == "qmp_capabilities":
            session.accept_capabilities(request.arguments.get("enable", ()))
            return {}
        if not session.negotiated:
            raise CommandNotFoundError(EXPECTING_CAPABILITIES)
        return self._control.execute(request.name, request.arguments)

    def _answered(self, session: QmpSession, reply: dict[str, Any]) -> None:
        session.send(reply)
        session.answered(False)


class _Client:
    """One connection; a dispatcher of its own, as requests do not wait for each other."""

    def __init__(self, server: ControlServer, loop: Loop, sock: socket.socket) -> None:
        self._server = server
        self._dispatcher = _Dispatcher(server.control)
        self._link = Link(loop, SocketEnd(sock), self._input, self._ended)
        self._session = QmpSession(
            server.side,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            self._link.write,
            offers_oob=False,
        )
        self._session.start()
        self._link.set_reading(True)

    def add(self, session: QmpSession) -> None:
        """See `Dispatcher`."""

    def remove(self, session: QmpSession) -> None:
        """See `Dispatcher`."""

    def run(self) -> None:
        """Answer what waits."""
        while (message := self._session.pop()) is not None:
            self._dispatcher.answer(self._session, message)

    def run_now(self, session: QmpSession, message: Message) -> None:
        """See `Dispatcher`."""
        self._dispatcher.run_now(session, message)

    def close(self) -> None:
        """Hang up."""
        self._session.close()
        self._link.close()

    def _input(self, data: bytes, fds: list[int]) -> None:
        self._session.receive(data, fds)

    def _ended(self, _error: str | None) -> None:
        self._session.close()
        self._server.forget(self)


class ControlServer:
    """Listens at a UNIX socket path until it is closed."""

    def __init__(self, loop: Loop, path: str, machines: Mapping[str, Machine]) -> None:
        self.control = Control(machines)
        self.side = _Side(loop, self.control.guard)
        self._loop = loop
        self._path = path
        self._clients: list[_Client] = []
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
        self._sock.bind(path)
        self._sock.listen(64)
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
    """What to do with a machine before it boots: serve a control socket for it."""
    path = control_path(address)

    def prepare(vm: Machine) -> None:
        assert isinstance(vm.host, LoopHost)
        server = ControlServer(vm.host.loop, path, {name: vm})
        vm.host.at_end(server.close)

    return prepare
