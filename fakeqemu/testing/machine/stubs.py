"""Answers of the tester's own in place of the model's, or around them.

Two halves: `Stubs` is what a tester holds and checks everything when it is added;
`MachineStubs` stands in the machine's dispatcher, perhaps in another process. What goes from
one to the other is plain data; functions stay with the tester and are called back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from fakeqemu.commands.registry import Deferred
from fakeqemu.qapi.errors import QapiError, error_of_class
from fakeqemu.qapi.schema import CommandInfo, Schema
from fakeqemu.qapi.validate import SchemaViolation, check_reply
from fakeqemu.testing.names import UnknownNameError

if TYPE_CHECKING:
    from fakeqemu.journal import Entry
    from fakeqemu.testing.machine.verification import Verifier

#: stub's number, arguments, the model's value (None if it was not asked) -> value or Deferred
CallTester = Callable[[int, dict[str, Any], Any], Any]


@dataclass(slots=True)
class Stub:
    """One answer, as plain data."""

    #: its number, for taking it back and for calling the tester
    id: int
    command: str
    #: "value", "error", "call" (the tester's function), "wrap" (the function gets our value)
    kind: str
    value: Any = None
    #: class and text of the error
    error: tuple[str, str] = ("GenericError", "")
    #: how often it answers; None: for ever
    times: int | None = None
    #: whether what it says must match the schema
    schema: bool = True


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
        self._note = note
        #: replies to come that need not match the schema
        self._free: Counter[str] = Counter()

    def add(self, stub: Stub) -> None:
        """Answer with `stub` from now on: those with a count first, in order, then the newest."""
        self._stubs.append(stub)

    def remove(self, id: int) -> None:
        """Take a stub back; harmless if it is used up."""
        self._stubs = [stub for stub in self._stubs if stub.id != id]

    def excused(self, entry: Entry) -> bool:
        """Whether this reply need not match the schema."""
        if entry.kind != "reply" or not self._free[entry.name]:
            return False
        self._free[entry.name] -= 1
        return True

    def intercept(
        self, info: CommandInfo, arguments: dict[str, Any], model: Callable[[], Any]
    ) -> Any:
        """Answer a command, or let the model."""
        stub = self._next(info.name)
        if stub is None:
            return model()
        self._note("stub", stub.command, number=stub.id)
        if stub.kind == "error":
            raise error_of_class(*stub.error)
        if stub.kind == "value":
            return self._said(stub, stub.value)
        if stub.kind == "call":
            return self._told(stub, self._call(stub.id, arguments, None))
        value = model()
        if not isinstance(value, Deferred):
            value = {} if value is None else value
            return self._told(stub, self._call(stub.id, arguments, value))
        outer = Deferred()

        def modelled(done: Deferred) -> None:
            if done.error is not None:
                outer.fail(done.error)
                return
            try:
                told = self._told(stub, self._call(stub.id, arguments, done.value))
            except QapiError as error:
                outer.fail(error)
                return
            _pass_on(told, outer)

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
                self.remove(stub.id)
            return stub
        return mine[-1] if mine else None

    def _told(self, stub: Stub, value: Any) -> Any:
        if not isinstance(value, Deferred):
            return self._said(stub, value)
        outer = Deferred()

        def told(done: Deferred) -> None:
            if done.error is not None:
                outer.fail(done.error)
            else:
                outer.resolve(self._said(stub, done.value))

        value.then(told)
        return outer

    def _said(self, stub: Stub, value: Any) -> Any:
        if not stub.schema:
            self._free[stub.command] += 1
            return value
        try:
            check_reply(self._schema, stub.command, {} if value is None else value)
        except SchemaViolation as violation:
            self._complain(SchemaViolation(f"a stub's reply: {violation}"))
        return value


def _pass_on(value: Any, outer: Deferred) -> None:
    if not isinstance(value, Deferred):
        outer.resolve(value)
        return

    def done(inner: Deferred) -> None:
        if inner.error is not None:
            outer.fail(inner.error)
        else:
            outer.resolve(inner.value)

    value.then(done)


class Stubs:
    """The tester's half: `vm.stubs`."""

    def __init__(
        self, schema: Schema, send: Callable[..., Any], verifier: Verifier | None = None
    ) -> None:
        self._verifier = verifier
        self._schema = schema
        #: hands a verb and its parameters to the machine
        self.send = send
        self._numbers = count(1)
        self._functions: dict[int, Callable[..., Any]] = {}
        self._added: list[int] = []

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
        self._check_name(command)
        if isinstance(answer, QapiError) and error is None:
            error = answer
        if error is not None:
            return self._add(command, "error", error=_error(error), times=times)
        if callable(answer):
            return self._add(command, "call", answer, times=times, schema=schema)
        value = {} if answer is None else answer
        if schema:
            check_reply(self._schema, command, value)
        return self._add(command, "value", value=value, times=times, schema=schema)

    def wrap(
        self,
        command: str,
        function: Callable[[dict[str, Any], Any], Any],
        *,
        times: int | None = None,
        schema: bool = True,
    ) -> int:
        """Let the model answer, and `function(arguments, value)` make the reply of it."""
        self._check_name(command)
        return self._add(command, "wrap", function, times=times, schema=schema)

    def once(self, command: str, answer: Any = None, **settings: Any) -> int:
        """`replace` for the next time only."""
        return self.replace(command, answer, times=1, **settings)

    def in_order(self, command: str, answers: Iterable[Any], **settings: Any) -> list[int]:
        """One answer after the other; then the model again."""
        return [self.once(command, answer, **settings) for answer in answers]

    def remove(self, number: int) -> None:
        """Take a stub back."""
        self.send("stub-remove", id=number)
        if self._verifier is not None:
            self._verifier.disarm("stub", number)

    def clear(self) -> None:
        """Take all of them back."""
        while self._added:
            self.remove(self._added.pop())

    def answer(self, number: int, arguments: dict[str, Any], value: Any) -> Any:
        """The machine asks what a function says. Raises QapiError."""
        function = self._functions[number]
        return function(arguments) if value is None else function(arguments, value)

    def _check_name(self, command: str) -> None:
        if command not in self._schema.commands:
            raise UnknownNameError("command", command, self._schema.commands)

    def _add(
        self,
        command: str,
        kind: str,
        function: Callable[..., Any] | None = None,
        **members: Any,
    ) -> int:
        times = members.get("times")
        if times is not None and times < 1:
            raise ValueError(f"times is at least 1, got {times}")
        number = next(self._numbers)
        if function is not None:
            self._functions[number] = function
        self._added.append(number)
        self.send("stub-add", id=number, command=command, kind=kind, **members)
        if self._verifier is not None:
            self._verifier.arm("stub", number, command, times or 1)
        return number


def _error(error: str | tuple[str, str] | QapiError) -> list[str]:
    if isinstance(error, QapiError):
        return [error.error_class, error.desc]
    if isinstance(error, str):
        return ["GenericError", error]
    return list(error)
