"""Answers of the tester's own in place of the model's, or around them.

Two halves: `Stubs` is what a tester holds; `MachineStubs` stands in the machine's dispatcher,
perhaps in another process. What goes from one to the other are the arguments of the verb `stub`,
which `build_stub` checks; functions stay with the tester and are called back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any

from fakeqemu.commands.registry import Deferred
from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError, error_of_class
from fakeqemu.qapi.schema import CommandInfo, Schema
from fakeqemu.qapi.validate import SchemaViolation, check_reply
from fakeqemu.testing.names import check_name

if TYPE_CHECKING:
    from fakeqemu.journal import JournalEntry
    from fakeqemu.testing.machine.verification import Verifier

#: stub's number, arguments, the model's value (None if it was not asked) -> value or Deferred
CallTester = Callable[[int, dict[str, Any], Any], Any]


@dataclass(slots=True)
class Stub:
    """One answer, as plain data."""

    command: str
    #: "value", "error", "call" (the tester's function), "wrap" (the function gets our value)
    kind: str
    #: its number, for taking it back and for calling the tester; 0: the next free one
    number: int = 0
    value: Any = None
    #: class and text of the error
    error: tuple[str, str] = ("GenericError", "")
    #: how often it answers; None: for ever
    times: int | None = None
    #: whether what it says must match the schema
    schema: bool = True


def build_stub(schema: Schema, arguments: dict[str, Any]) -> Stub:
    """The stub that the arguments of the verb `stub` ask for.

    Raises UnknownNameError, ValueError, and SchemaViolation for a value the schema does not
    promise.
    """
    command, checked = arguments["command"], arguments.get("schema", True)
    if command not in schema.commands:
        from fakeqemu.model.guest.agent_commands import NAMES

        check_name("command", command, {*schema.commands, *NAMES})
        checked = False
    times = arguments.get("times")
    if times is not None and times < 1:
        raise ValueError(f"times is at least 1, got {times}")
    stub = Stub(command, "value", arguments.get("number", 0), times=times, schema=checked)
    if "desc" in arguments:
        stub.kind, stub.error = "error", (arguments.get("class", "GenericError"), arguments["desc"])
    elif "function" in arguments:
        stub.kind = check_name("function of a stub", arguments["function"], ("call", "wrap"))
    else:
        stub.value = arguments.get("return", {})
        if checked:
            check_reply(schema, command, stub.value)
    return stub


class MachineStubs:
    """The machine's half."""

    def __init__(
        self,
        schema: Schema,
        call: CallTester,
        complain: Callable[[SchemaViolation], None],
        note: Callable[..., object] = lambda *_, **__: None,
    ) -> None:
        self._schema = schema
        self._call = call
        self._complain = complain
        self._stubs: list[Stub] = []
        self._last = 0
        self._note = note
        #: replies to come that need not match the schema
        self._free: Counter[str] = Counter()

    def add(self, stub: Stub) -> int:
        """Answer with `stub` from now on: those with a count first, in order, then the newest."""
        stub.number = stub.number or self._last + 1
        self._last = max(self._last, stub.number)
        self._stubs.append(stub)
        return stub.number

    def remove(self, number: int) -> None:
        """Take a stub back; harmless if it is used up."""
        self._stubs = [stub for stub in self._stubs if stub.number != number]

    def excused(self, entry: JournalEntry) -> bool:
        """Whether this reply need not match the schema."""
        if entry.kind != "reply" or not self._free[entry.name]:
            return False
        self._free[entry.name] -= 1
        return True

    def intercept(
        self, info: CommandInfo, arguments: dict[str, Any], model: Callable[[], Any]
    ) -> Any:
        """Answer a QMP command, or let the model."""
        return self.intercept_named(info.name, arguments, model)

    def intercept_named(
        self, name: str, arguments: dict[str, Any], model: Callable[[], Any]
    ) -> Any:
        """Answer a command of QMP or of the guest agent, or let the model."""
        stub = self._next(name)
        if stub is None:
            return model()
        self._note("stub", stub.command, number=stub.number)
        if stub.kind == "error":
            raise error_of_class(*stub.error)
        if stub.kind == "value":
            return self._checked_value(stub, stub.value)
        if stub.kind == "call":
            return self._checked(stub, self._call(stub.number, arguments, None))
        value = model()
        if not isinstance(value, Deferred):
            value = {} if value is None else value
            return self._checked(stub, self._call(stub.number, arguments, value))
        outer = Deferred()

        def modelled(done: Deferred) -> None:
            if done.error is not None:
                outer.fail(done.error)
                return
            try:
                checked = self._checked(stub, self._call(stub.number, arguments, done.value))
            except QapiError as error:
                outer.fail(error)
                return
            outer.follow(checked)

        value.then(modelled)
        return outer

    def _next(self, command: str) -> Stub | None:
        mine = [stub for stub in self._stubs if stub.command == command]
        counted = [stub for stub in mine if stub.times is not None]
        if counted:
            stub = counted[0]
            assert stub.times is not None
            stub.times -= 1
            if stub.times <= 0:
                self.remove(stub.number)
            return stub
        return mine[-1] if mine else None

    def _checked(self, stub: Stub, value: Any) -> Any:
        if not isinstance(value, Deferred):
            return self._checked_value(stub, value)
        outer = Deferred()

        def checked(done: Deferred) -> None:
            if done.error is not None:
                outer.fail(done.error)
            else:
                outer.resolve(self._checked_value(stub, done.value))

        value.then(checked)
        return outer

    def _checked_value(self, stub: Stub, value: Any) -> Any:
        if stub.command not in self._schema.commands:
            return value  # the guest agent's, whose values no profile has
        if not stub.schema:
            self._free[stub.command] += 1
            return value
        try:
            check_reply(self._schema, stub.command, {} if value is None else value)
        except SchemaViolation as violation:
            self._complain(SchemaViolation(f"a stub's reply: {violation}"))
        return value


class Stubs:
    """The tester's half: `vm.stubs`."""

    def __init__(self, send: Callable[..., Any], verifier: Verifier) -> None:
        self._verifier = verifier
        #: hands a verb and its parameters to the machine
        self.send = send
        self._numbers = count(1)
        self._functions: dict[int, Callable[..., Any]] = {}
        self._added: list[int] = []

    def __repr__(self) -> str:
        return f"<Stubs added: {len(self._added)}>"

    def replace(
        self,
        command: str,
        answer: Any = None,
        *,
        error: str | tuple[str, str] | QapiError | None = None,
        times: int | None = None,
        schema: bool = True,
    ) -> int:
        """Answer `command` with `answer`; the stub's number, for `remove`.

        `answer` is a value, a QapiError, or a function that gets the checked arguments as
        keywords in one dict and returns a value or raises QapiError. With `times` it answers
        so often; stubs with a count answer in the order they were added, before those without.
        Raises UnknownNameError, and SchemaViolation for a value the schema does not promise;
        `schema=False` lets anything through.
        """
        if isinstance(answer, QapiError) and error is None:
            error = answer
        if error is not None:
            kind, desc = _error(error)
            return self._add(command, class_=kind, desc=desc, times=times, schema=schema)
        if callable(answer):
            return self._add(command, answer, function="call", times=times, schema=schema)
        value = {} if answer is None else answer
        return self._add(command, return_=value, times=times, schema=schema)

    def wrap(
        self,
        command: str,
        function: Callable[[dict[str, Any], Any], Any],
        *,
        times: int | None = None,
        schema: bool = True,
    ) -> int:
        """Let the model answer, and `function(arguments, value)` make the reply of it."""
        return self._add(command, function, function="wrap", times=times, schema=schema)

    def once(self, command: str, answer: Any = None, **settings: Any) -> int:
        """`replace` for the next time only."""
        return self.replace(command, answer, times=1, **settings)

    def in_order(self, command: str, answers: Iterable[Any], **settings: Any) -> list[int]:
        """One answer after the other; then the model again."""
        return [self.once(command, answer, **settings) for answer in answers]

    def remove(self, number: int) -> None:
        """Take a stub back."""
        self.send("remove-stub", number=number)
        self._verifier.disarm("stub", number)

    def clear(self) -> None:
        """Take all of them back."""
        while self._added:
            self.remove(self._added.pop())

    def answer(self, number: int, arguments: dict[str, Any], value: Any) -> Any:
        """The machine asks what a function says. Raises QapiError."""
        function = self._functions[number]
        return function(arguments) if value is None else function(arguments, value)

    def continue_from(self, other: Stubs) -> None:
        """The machine has the stubs of another one, which it is a copy of."""
        self._functions |= other._functions
        self._added += other._added
        self._numbers = count(max(self._added, default=0) + 1)

    def _add(self, command: str, answer: Callable[..., Any] | None = None, **given: Any) -> int:
        number = next(self._numbers)
        if answer is not None:
            self._functions[number] = answer
        self.send("stub", command=command, number=number, **given)
        self._added.append(number)
        self._verifier.arm("stub", number, command, given["times"] or 1)
        return number


def _error(error: str | tuple[str, str] | QapiError) -> tuple[str, str]:
    if isinstance(error, QapiError):
        return error.error_class, error.desc
    return ("GenericError", error) if isinstance(error, str) else error
