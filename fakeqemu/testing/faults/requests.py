"""Faults of requests: of QMP commands, of lines of a human monitor, of commands of the guest agent.

A request is carried out, refused, held up or ignored in the same way wherever it comes from; what
differs is how it is named and how a refusal looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from fakeqemu.commands.registry import Deferred
from fakeqemu.qapi.errors import QapiError, error_of_class
from fakeqemu.testing.faults.model import (
    Delay,
    Error,
    ExitFault,
    Fault,
    Ignore,
    NeverAnswer,
    StopProcess,
)

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.guest.agent import AgentAnswer
    from fakeqemu.model.machine import Machine
    from fakeqemu.qmp.connection import QmpConnection
    from fakeqemu.qmp.request import Request
    from fakeqemu.testing.faults.held_commands import HeldCommands
    from fakeqemu.testing.faults.injector import Faults

HMP = "human-monitor-command"


class Asked(Protocol):
    """One request."""

    #: as the journal has it
    name: str
    #: id of the character device it came on
    connection: str | None
    #: whether only faults that name it or its character device concern it
    only_named: bool

    def is_named(self, command: str) -> bool:
        """Whether a fault with this command means it."""

    def refused(self, fault: Error) -> Any:
        """What is answered in its place, or raised: QapiError."""

    def ignored(self, fault: Ignore) -> Any:
        """What is answered to a request that nobody carries out."""


class QmpRequest:
    """A QMP command; `human-monitor-command` is also the line that it brings."""

    only_named = False

    def __init__(self, vm: Machine, connection: QmpConnection, request: Request) -> None:
        self.name = request.name
        self.connection = connection.name
        self._vm = vm
        self._request = request
        line = request.arguments.get("command-line") if request.name == HMP else None
        self._line = line if isinstance(line, str) else ""

    def is_named(self, command: str) -> bool:
        """Whether it is that command, or a line with it."""
        return command == self.name or self._is_line(command)

    def refused(self, fault: Error) -> Any:
        """An error; of a line, the text that the monitor would show."""
        self._sent()
        note = self._vm.journal.note
        if self._by_line(fault):
            text = _as_text(fault).replace("\n", "\r\n")
            note("reply", self.name, value=text)
            return text
        note("error", self.name, error_class=fault.error_class, desc=fault.desc)
        raise error_of_class(fault.error_class, fault.desc)

    def ignored(self, fault: Ignore) -> Any:
        """Nothing, or no text."""
        self._sent()
        return "" if self._by_line(fault) else {}

    def _is_line(self, command: str) -> bool:
        return bool(self._line) and is_line(self._vm, self._line, command)

    def _by_line(self, fault: Fault) -> bool:
        return fault.command not in (None, self.name)

    def _sent(self) -> None:
        """A command that the machine itself never sees was sent all the same."""
        request = self._request
        self._vm.journal.note(
            "command", request.name, arguments=request.arguments, oob=request.oob
        )


class HmpLine:
    """A line that was typed at a human monitor."""

    only_named = False

    def __init__(self, vm: Machine, chardev: Chardev, line: str) -> None:
        self.name = line
        self.connection: str | None = chardev.id
        self._vm = vm

    def is_named(self, command: str) -> bool:
        """Whether it is that command, with all words of it."""
        return is_line(self._vm, self.name, command)

    def refused(self, fault: Error) -> Any:
        """The monitor's text."""
        self._vm.journal.note("hmp", self.name)
        return _as_text(fault)

    def ignored(self, fault: Ignore) -> Any:  # noqa: ARG002
        """No text."""
        self._vm.journal.note("hmp", self.name)
        return ""


class AgentRequest:
    """A command of the guest agent."""

    only_named = True

    def __init__(self, chardev: Chardev, name: str) -> None:
        self.name = name
        self.connection: str | None = chardev.id

    def is_named(self, command: str) -> bool:
        """Whether it is that command."""
        return command == self.name

    def refused(self, fault: Error) -> Any:
        """An error."""
        raise error_of_class(fault.error_class, fault.desc)

    def ignored(self, fault: Ignore) -> Any:  # noqa: ARG002
        """Success and nothing else."""
        return {}


def answered(later: Deferred) -> AgentAnswer:
    """A reply of the guest agent that comes later."""
    from fakeqemu.model.guest.agent import AgentAnswer

    answer = AgentAnswer()
    later.then(lambda done: answer.come(done.value, done.error))
    return answer


def is_line(vm: Machine, line: str, command: str) -> bool:
    """Whether a line of a human monitor is `command`: "loadvm", "info status", or an alias."""
    from fakeqemu.commands.hmp.registry import command_of

    words = command.split()
    return line.split()[: len(words)] == words or command == command_of(vm, line)


def _as_text(fault: Error) -> str:
    from fakeqemu.commands.hmp.registry import error_text

    return error_text(QapiError(fault.desc))


class RequestFaults:
    """The faults of one machine's requests."""

    def __init__(self, faults: Faults, held: HeldCommands) -> None:
        self._faults = faults
        self._held = held

    def carry_out(self, asked: Asked, proceed: Callable[[], Any]) -> Any:
        """Let the faults have their way with a request; its value, or a Deferred.

        Raises QapiError.
        """
        faults = self._faults
        for active in faults:
            fault = active.fault
            if "command" not in fault.stages or not faults.in_state(fault):
                continue
            if not self._concerns(fault, asked) or not active.strikes():
                continue
            faults.struck(active, command=asked.name)
            match fault:
                case Error():
                    return asked.refused(fault)
                case Ignore():
                    return asked.ignored(fault)
                case NeverAnswer():
                    return self._held.hold(active, lambda: False, proceed)
                case Delay():
                    return self._held.delay(active, fault, proceed)
                case StopProcess(seconds=seconds):
                    faults.stop_process(seconds)
                case ExitFault():
                    faults.exit(fault)
                    return Deferred()
        return proceed()

    @staticmethod
    def _concerns(fault: Fault, asked: Asked) -> bool:
        if fault.channel or fault.greeting or fault.event is not None:
            return False
        if isinstance(fault, StopProcess | ExitFault) and fault.command is None:
            return False
        if asked.only_named and fault.command is None and fault.connection is None:
            return False
        if fault.connection not in (None, asked.connection):
            return False
        return fault.command is None or asked.is_named(fault.command)
