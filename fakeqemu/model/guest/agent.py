"""The guest agent: what management tools ask the guest itself, over a virtio port.

Its protocol is QMP's older sister: one JSON object a line, no greeting, replies one after the
other, and a byte 0xFF by which both sides find the beginning of a message again.

See qga/main.c; qga/qapi-schema.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.model.guest.agent_commands import (
    COMMANDS,
    PROGRAMS,
    SCHEMA,
    AgentCommand,
    Program,
    Running,
)
from fakeqemu.model.qdev.backends import DeviceFrontend
from fakeqemu.qapi.errors import CommandNotFoundError, QapiError
from fakeqemu.qapi.json.streamer import JsonStream, ParseError
from fakeqemu.qapi.json.writer import encode
from fakeqemu.qapi.texts import command_not_found
from fakeqemu.qapi.visitor import check_arguments

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.guest.guest import Guest
    from fakeqemu.model.guest.ports import GuestPorts
    from fakeqemu.model.process import Process

#: the port it listens at
NAME = "org.qemu.guest_agent.0"
_SENTINEL = b"\xff"
Json = dict[str, Any]


class AgentHooks(Protocol):
    """Where a tester may stand between the agent and who asks it."""

    def agent_request(
        self, chardev: Chardev, name: str, arguments: Any, run: Callable[[], Any]
    ) -> Any:
        """A request; `run()` carries it out. A value or an AgentAnswer. Raises QapiError."""

    def agent_output(self, chardev: Chardev, data: bytes, name: str) -> None:
        """A reply to command `name`; send it with `chardev.write`."""


class AgentAnswer:
    """An answer that comes later."""

    def __init__(self) -> None:
        self._come: tuple[Any, QapiError | None] | None = None
        self._then: Callable[[Any, QapiError | None], None] | None = None

    def come(self, value: Any, error: QapiError | None) -> None:
        """This is it."""
        self._come = (value, error)
        if self._then is not None:
            self._then(value, error)

    def then(self, call: Callable[[Any, QapiError | None], None]) -> None:
        """Call with the value and the error when it has come."""
        self._then = call
        if self._come is not None:
            call(*self._come)


class GuestAgent:
    """The agent in one guest."""

    def __init__(
        self,
        process: Process,
        state: MachineState,
        cpus: Cpus,
        ports: GuestPorts,
        *,
        guest: Guest,
        hooks: Callable[[], AgentHooks | None],
    ) -> None:
        self.process = process
        self.state = state
        self.cpus = cpus
        self.guest = guest
        self._ports = ports
        self._hooks = hooks
        #: programs that guest-exec can run: path or name -> what becomes of them
        self.programs: dict[str, Program] = dict(PROGRAMS)
        #: what has been run: process id -> its program, and when it is over
        self.processes: dict[int, Running] = {}
        #: by character device, requests that wait for one that takes its time
        self._waiting: dict[str, list[Any]] = {}
        #: whether file systems are frozen
        self.frozen = False
        #: nanoseconds that its clock is ahead of the machine's
        self.clock_offset = 0
        self._streams: dict[str, JsonStream] = {}
        self._silent = False

    def switch(self, state: str, *, now: bool) -> None:
        """Start ("on"), start and say nothing ("silent"), or end ("off"); start only `now`."""
        self._silent = state == "silent"
        if state == "off":
            self.was_reset()
        elif now:
            self.look()

    def look(self) -> None:
        """Open the ports that are there."""
        for device, chardev in self._ports.named(NAME):
            if isinstance(chardev.frontend, DeviceFrontend):
                chardev.frontend.on_data = partial(self._received, chardev)
                self._ports.set_open(device, chardev, True)

    def was_reset(self) -> None:
        """It is gone, with what it was at."""
        self.frozen = False
        self._streams.clear()
        self._waiting.clear()
        self.processes.clear()
        for device, chardev in self._ports.named(NAME):
            self._ports.set_open(device, chardev, False)

    def _received(self, chardev: Chardev, data: bytes, _fds: Sequence[int]) -> None:
        if chardev.id not in self._streams:
            self._streams[chardev.id] = JsonStream(self.process.profile.traits)
        for message in self._streams[chardev.id].feed(data):
            if isinstance(message, ParseError):
                self._send(chardev, _failure(QapiError(message.text)), "")
            elif chardev.id in self._waiting:
                self._waiting[chardev.id].append(message.value)
            else:
                self._answer(chardev, message.value)

    def _answer(self, chardev: Chardev, message: Any) -> None:
        name = str(message.get("execute", "")) if isinstance(message, dict) else ""
        self.process.journal.note("guest-agent", name)
        carry_out: Callable[[], Any] = partial(self._carry_out, message)
        hooks = self._hooks()
        if hooks is not None and name:
            arguments = message.get("arguments", {})
            carry_out = partial(hooks.agent_request, chardev, name, arguments, carry_out)
        value, error = self.process.guard.attempt(carry_out)
        if not isinstance(value, AgentAnswer):
            self._reply(chardev, message, name, value, error)
            return
        # it does one thing after the other
        waiting = self._waiting[chardev.id] = []

        def come(value: Any, error: QapiError | None) -> None:
            if self._waiting.get(chardev.id) is not waiting:
                return  # it was reset
            self._reply(chardev, message, name, value, error)
            del self._waiting[chardev.id]
            while waiting and chardev.id not in self._waiting:
                self._answer(chardev, waiting.pop(0))
            if waiting:
                self._waiting[chardev.id] += waiting

        value.then(come)

    def _reply(
        self, chardev: Chardev, message: Any, name: str, value: Any, error: QapiError | None
    ) -> None:
        id = {"id": message["id"]} if isinstance(message, dict) and "id" in message else {}
        if error is not None:
            self._send(chardev, {**_failure(error), **id}, name)
        elif name not in COMMANDS or COMMANDS[name].replies:
            self._send(chardev, {"return": {} if value is None else value, **id}, name)

    def _carry_out(self, message: Any) -> Any:
        command, arguments = self._checked(message)
        return command.function(self, **arguments)

    def _checked(self, message: Any) -> tuple[AgentCommand, Json]:
        if not isinstance(message, dict):
            raise QapiError("QMP input must be a JSON object")
        for member in message:
            if member not in ("execute", "arguments", "id"):
                raise QapiError(f"QMP input member '{member}' is unexpected")
        name, arguments = message.get("execute"), message.get("arguments", {})
        if name is None:
            raise QapiError("QMP input lacks member 'execute'")
        if not isinstance(name, str):
            raise QapiError("QMP input member 'execute' must be a string")
        if not isinstance(arguments, dict):
            raise QapiError("QMP input member 'arguments' must be an object")
        if name not in COMMANDS:
            raise CommandNotFoundError(command_not_found(name))
        if not self.enabled(name):
            raise CommandNotFoundError(
                f"Command {name} has been disabled: the agent is in frozen state"
            )
        checked = check_arguments(SCHEMA, name, arguments)
        return COMMANDS[name], {key.replace("-", "_"): each for key, each in checked.items()}

    def enabled(self, name: str) -> bool:
        """Whether a command is taken; few are while file systems are frozen."""
        return not self.frozen or COMMANDS[name].when_frozen

    def _send(self, chardev: Chardev, reply: Json, name: str) -> None:
        if self._silent:
            return
        mark = _SENTINEL if name == "guest-sync-delimited" and "return" in reply else b""
        line = mark + encode(reply).encode() + b"\n"
        hooks = self._hooks()
        if hooks is None:
            chardev.write(line)
        else:
            hooks.agent_output(chardev, line, name)


def _failure(error: QapiError) -> Json:
    return {"error": {"class": error.error_class, "desc": error.desc}}
