"""The control socket: a tester's verbs over QMP, beside the QMP of the machine.

The same lexer and the same sessions as QEMU's monitor, with a dispatcher and a schema of our
own, so `qmp-shell` drives it and the machine's own QMP stays clean. One socket serves one
machine or a fleet; any number of clients may be connected.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakeqemu import __version__
from fakeqemu.clock import SECOND, VirtualClock
from fakeqemu.commands.registry import Deferred
from fakeqemu.guard import Guard
from fakeqemu.io.host import LoopHost
from fakeqemu.io.link import Link, SocketEnd
from fakeqemu.io.loop import Loop
from fakeqemu.journal import Journal
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import Version
from fakeqemu.qapi.errors import CommandNotFoundError, FakeQemuError, QapiError
from fakeqemu.qapi.json.streamer import Message, ParseError
from fakeqemu.qapi.texts import EXPECTING_CAPABILITIES, command_not_found
from fakeqemu.qapi.validate import SchemaViolation, check_event, check_reply
from fakeqemu.qapi.visitor import check_arguments
from fakeqemu.qmp.request import NO_ID, failure, id_of, parse_request, success
from fakeqemu.qmp.session import QmpSession
from fakeqemu.testing.control.schema import COMMANDS, control_schema, entries
from fakeqemu.testing.faults.api import do, listed
from fakeqemu.testing.faults.injector import Faults
from fakeqemu.testing.machine.guest import guest_does
from fakeqemu.testing.names import check_name
from fakeqemu.testing.runners.controller import MachineController
from fakeqemu.testing.scenarios.catalog import SCENARIOS
from fakeqemu.testing.scenarios.stages import Stage, Stages

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


class Control:
    """Carries out the commands on `machines`, by name."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self.machines = machines
        self.schema = control_schema()
        self._engines: dict[str, MachineController] = {}
        self._stages: dict[str, Stages] = {}
        self._stubs = 0
        #: bugs of the commands here are in the journal of the machine, in a fleet in the first's
        self.guard = next(
            (vm.guard for vm in machines.values()),
            Guard(Journal(VirtualClock()), lambda _: None),
        )

    def execute(self, name: str, arguments: dict[str, Any]) -> Any:
        """One command; a value or a Deferred. Raises QapiError."""
        if name not in COMMANDS:
            raise CommandNotFoundError(command_not_found(name))
        checked = check_arguments(self.schema, name, _with_numbers(name, arguments))
        alone = getattr(self, "_" + name.replace("-", "_"), None)
        try:
            if "machine" not in COMMANDS[name][0]:
                assert alone is not None
                return alone(**checked)
            pattern = checked.pop("machine", None)
            verb: Callable[..., Any] = getattr(self, "_on_" + name.replace("-", "_"))
            chosen = self._chosen(pattern)
            if pattern is None or pattern in self.machines:
                return verb(chosen[0], **_keywords(checked))
            return {each: verb(each, **_keywords(checked)) for each in chosen}
        except (ValueError, LookupError, SchemaViolation, FakeQemuError) as error:
            if isinstance(error, QapiError):
                raise
            raise QapiError(str(error)) from None

    # -- about the socket --------------------------------------------------------------------

    def _query_version(self) -> Any:
        return {"version": __version__}

    def _query_commands(self) -> Any:
        return [{"name": name} for name in COMMANDS]

    def _query_qmp_schema(self) -> Any:
        return entries()

    def _help(self, command: str | None = None) -> Any:
        names = COMMANDS if command is None else [check_name("command", command, COMMANDS)]
        return [
            {"name": name, "arguments": COMMANDS[name][0], "help": COMMANDS[name][1]}
            for name in names
        ]

    def _query_machines(self) -> Any:
        return [
            {
                "name": name,
                "profile": vm.profile.name,
                "status": vm.runstate.current,
                "journal-dropped": vm.journal.dropped,
                "sockets": [
                    chardev.address["path"]
                    for chardev in vm.chardevs.values()
                    if chardev.address.get("type") == "unix"
                ],
                **({"exit-code": vm.exit_code} if vm.exit_code is not None else {}),
            }
            for name, vm in self.machines.items()
        ]

    def _query_scenarios(self) -> Any:
        return [{"name": name, "symptom": each.symptom} for name, each in SCENARIOS.items()]

    # -- on a machine ------------------------------------------------------------------------

    def _on_fault_add(self, machine: str, name: str, parameters: Any = None) -> Any:
        if not isinstance(parameters, dict | None):
            raise ValueError("parameters must be an object")
        added = self._faults(machine).add(name, **(parameters or {}))
        return [active.number for active in added]

    def _on_fault_remove(self, machine: str, number: int) -> Any:
        return do(self.machines[machine], "remove", number)

    def _on_fault_clear(self, machine: str) -> Any:
        self._faults(machine).clear()

    def _on_query_faults(self, machine: str) -> Any:
        return listed(self._faults(machine))

    def _on_stage_add(
        self, machine: str, when: Any, then: Any, skip: int = 0, times: int = 1
    ) -> Any:
        if not isinstance(when, dict):
            raise ValueError("when must be an object")
        actions = tuple(then) if isinstance(then, list) else (then,)
        if machine not in self._stages:
            self._stages[machine] = Stages(self._faults(machine))
        self._stages[machine].lay(Stage(when, actions, skip, times or None))

    def _on_process_stop(self, machine: str, seconds: float | None = None) -> Any:
        self._faults(machine).stop(seconds)

    def _on_process_continue(self, machine: str) -> Any:
        self._faults(machine).resume()

    def _on_channels_drop(self, machine: str) -> Any:
        return self._faults(machine).drop_channels()

    def _on_connections_drop(self, machine: str) -> Any:
        self._faults(machine).drop_connections()

    def _on_event_send(self, machine: str, name: str, data: Any = None) -> Any:
        vm = self.machines[machine]
        check_name("event", name, vm.profile.schema.events)
        check_event(vm.profile.schema, name, data)
        vm.events.emit(name, data)

    def _on_clock_now(self, machine: str) -> Any:
        return self.machines[machine].clock.now()

    def _on_clock_advance(self, machine: str, seconds: float) -> Any:
        return self._controller(machine).call("advance", {"delta": round(seconds * SECOND)})

    def _on_clock_jump(self, machine: str) -> Any:
        return self._controller(machine).call("jump", {})

    def _on_clock_run_until_idle(self, machine: str, limit: int = 100_000) -> Any:
        return self._controller(machine).call("run-until-idle", {"limit": limit})

    def _on_guest_do(self, machine: str, verb: str, parameters: Any = None) -> Any:
        if not isinstance(parameters, dict | None):
            raise ValueError("parameters must be an object")
        guest_does(self.machines[machine], verb, parameters or {})

    def _on_stub_add(self, machine: str, command: str, **answer: Any) -> Any:
        check_name("command", command, self.machines[machine].profile.schema.commands)
        self._stubs += 1
        stub: dict[str, Any] = {"id": self._stubs, "command": command}
        stub |= {key: answer[key] for key in ("times", "schema") if key in answer}
        if "desc" in answer:
            error = (answer.get("class_", "GenericError"), answer["desc"])
            stub |= {"kind": "error", "error": error}
        else:
            value = answer.get("return_", {})
            if answer.get("schema", True):
                check_reply(self.machines[machine].profile.schema, command, value)
            stub |= {"kind": "value", "value": value}
        self._controller(machine).call("stub-add", stub)
        return self._stubs

    def _on_stub_remove(self, machine: str, number: int) -> Any:
        self._controller(machine).call("stub-remove", {"id": number})

    def _on_query_journal(
        self,
        machine: str,
        kind: str | None = None,
        name: str | None = None,
        from_: int = 0,
        limit: int | None = None,
    ) -> Any:
        kept = self.machines[machine].journal
        journal = enumerate(kept, kept.dropped)
        found = [
            {"number": number, "time": e.time, "kind": e.kind, "name": e.name, "data": e.data}
            for number, e in journal
            if number >= from_ and kind in (None, e.kind) and name in (None, e.name)
        ]
        return found if limit is None else found[:limit]

    def _on_quit(self, machine: str, code: int = 0) -> Any:
        vm = self.machines[machine]
        self._faults(machine).soon(lambda: vm.exit(code))

    # -- inside ------------------------------------------------------------------------------

    def _chosen(self, pattern: str | None) -> list[str]:
        if pattern is None:
            if len(self.machines) != 1:
                raise ValueError(f"say which of {len(self.machines)} machines is meant")
            return list(self.machines)
        if pattern in self.machines:
            return [pattern]
        found = [name for name in self.machines if fnmatchcase(name, pattern)]
        if not found:
            check_name("machine", pattern, self.machines)
        return found

    def _faults(self, machine: str) -> Faults:
        return Faults.of(self.machines[machine])

    def _controller(self, machine: str) -> MachineController:
        if machine not in self._engines:
            vm = self.machines[machine]
            assert isinstance(vm.host, LoopHost)
            self._engines[machine] = MachineController(
                vm, vm.host.loop, call=_no_tester, complain=lambda _: None, check=False
            )
        return self._engines[machine]


def _with_numbers(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """qmp-shell knows whole numbers only and sends "1.5" as a string."""
    found = dict(arguments)
    for key, type in COMMANDS[name][0].items():
        if type.startswith("number") and isinstance(found.get(key), str):
            with contextlib.suppress(ValueError):
                found[key] = float(found[key])
    return found


def _no_tester(*_: Any) -> Any:
    raise QapiError("functions cannot be stubs over a control socket")


def _keywords(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key + "_" if key in _WORDS else key: value for key, value in arguments.items()}


_WORDS = ("return", "class", "from")


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
