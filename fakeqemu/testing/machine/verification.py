"""What must not have happened: mistakes of the code under test, reported when the test ends.

Code that swallows an error reply goes on as if nothing were wrong, and so would its test.
Only what is wrong whatever the machine's state counts: unknown commands, arguments that the
schema refuses, broken protocol, commands the model has not, expectations nobody met, stubs
and faults of the tester's that nobody came across. A refusal by the model (a migration that
cannot start) is an answer like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from fakeqemu.dataclass import dataclass, replace
from fakeqemu.journal import CommandCall, Journal, JournalEntry
from fakeqemu.qapi.schema import Schema
from fakeqemu.testing.names import UnknownNameError, suggest_fix
from fakeqemu.testing.qapi_keywords import check_call, check_members

#: the kinds of mistakes, which `allow` may name
KINDS = (
    "unknown-command",
    "arguments",
    "phase",
    "not-modelled",
    "protocol",
    "expectation",
    "unused",
    "bug",
    "shared-tap",
)
#: a command, or one with arguments that are to be among its own
ExpectedStep = str | tuple[str, dict[str, Any]]
#: journal lines shown with a complaint
_LAST_LINES = 12


class StrictnessError(AssertionError):
    """The code under test made mistakes that it kept to itself."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that should not have been sent, or should have been."""

    #: one of KINDS
    kind: str
    #: the command, or what stands for it
    name: str
    #: what was answered
    desc: str
    #: the request; None if it was none
    sent: Any = None


@dataclass
class Expectation:
    """A command that has to come: `times` times, or at least once if None."""

    command: str
    arguments: dict[str, Any]
    times: int | None = None

    def fits(self, call: CommandCall) -> bool:
        """Whether it is this command, with these arguments among others."""
        return call.name == self.command and all(
            name in call.arguments and wanted == call.arguments[name]
            for name, wanted in self.arguments.items()
        )

    def complaint(self, journal: Journal) -> str | None:
        """Why it is not met; None if it is."""
        calls = journal.commands(self.command)
        count = sum(map(self.fits, calls))
        if count == self.times or (self.times is None and count):
            return None
        wanted = "at least once" if self.times is None else f"{self.times} times"
        others = [json.dumps(call.arguments) for call in calls]
        came = f"; it came with {', '.join(others)}" if self.arguments and others else ""
        return f"expected {wanted}{self._given}, came {count} times{came}"

    @property
    def _given(self) -> str:
        return f" with {json.dumps(self.arguments, default=repr)}" if self.arguments else ""

    def __str__(self) -> str:
        return self.command + self._given


@dataclass
class ExpectedOrder:
    """Commands that have to come one after the other; others may come between them."""

    steps: list[Expectation]

    @property
    def command(self) -> str:
        """What stands for them."""
        return self.steps[0].command

    def complaint(self, journal: Journal) -> str | None:
        """Why it is not met; None if it is."""
        calls, names = journal.commands(), {step.command for step in self.steps}
        left = iter(calls)
        for number, step in enumerate(self.steps):
            if not any(step.fits(call) for call in left):
                came = [
                    call.name + (f" {json.dumps(call.arguments)}" if call.arguments else "")
                    for call in calls
                    if call.name in names
                ]
                after = f" after {self.steps[number - 1]}" if number else ""
                return f"expected {step}{after}; these came: {', '.join(came) or 'none'}"
        return None


@dataclass
class Armed:
    """A stub or a fault, and how often it still has to be come across."""

    what: str
    name: str
    left: int

    @property
    def complaint(self) -> str:
        """For people."""
        times = "" if self.left == 1 else f" {self.left} more times"
        verb = "struck" if self.what == "fault" else "answered"
        return f"the {self.what} was added and never {verb}{times}"


class Verifier:
    """One machine's mistakes, gathered from its journal."""

    def __init__(self, schema: Schema, allow: Iterable[str] = ()) -> None:
        self.allow = list(allow)
        self.mistakes: list[Violation] = []
        self._schema = schema
        self._sent: dict[str, dict[str, Any]] = {}
        self._expected: list[Expectation | ExpectedOrder] = []
        self._armed: dict[tuple[str, int], Armed] = {}

    def watch(self, entry: JournalEntry) -> None:
        """Look at one entry of the journal."""
        data = entry.data
        if (waited := self._armed.get((entry.kind, data.get("number", 0)))) is not None:
            waited.left -= 1
        if entry.kind == "command":
            self._sent[entry.name] = data["arguments"]
        elif entry.kind == "protocol":
            self._add("protocol", entry.name, str(data["desc"]), data.get("sent"))
        elif entry.kind == "bug":
            said = str(data["trace"]).strip().rsplit("\n", 1)[-1]
            self._add("bug", entry.name, f"{said} at {data.get('place', 'an unknown place')}")
        elif entry.kind == "tap-shared":
            self._add("shared-tap", entry.name, f"interface {data['ifname']}: {data['what']}")
        elif entry.kind == "not-modelled":
            self._add("not-modelled", entry.name, data.get("desc", "in the human monitor"))
        elif entry.kind == "error" and "fault" in data:
            known = entry.name in self._schema.commands
            kind = data["fault"] if data["fault"] == "arguments" else "phase"
            self._add(kind if known else "unknown-command", entry.name, data["desc"])

    def expect(
        self, command: str, arguments: dict[str, Any] | None = None, times: int | None = None
    ) -> None:
        """`command` with these arguments among others has to come. Raises UnknownNameError."""
        self._expected.append(self._expectation(command, arguments or {}, times))

    def expect_in_order(self, steps: Iterable[ExpectedStep]) -> None:
        """These have to come one after the other. Raises UnknownNameError, ValueError."""
        order = []
        for step in steps:
            is_pair = isinstance(step, tuple) and len(step) == 2
            if not isinstance(step, str) and not is_pair:
                raise TypeError(
                    "each step stands for itself, a command or a pair of one and its arguments: "
                    f"expect_in_order('stop', ('cont', {{}})), not {step!r}"
                )
            command, arguments = (step, {}) if isinstance(step, str) else step
            order.append(self._expectation(command, arguments))
        if not order:
            raise ValueError("nothing is expected: name the commands in their order")
        self._expected.append(ExpectedOrder(order))

    def arm(self, what: str, number: int, name: str, times: int = 1) -> None:
        """A "stub" or "fault" with this number is there to be come across `times` times."""
        self._armed[what, number] = Armed(what, name, times)

    def disarm(self, what: str, number: int) -> None:
        """It was taken back."""
        self._armed.pop((what, number), None)

    def continue_from(self, other: Verifier) -> None:
        """The machine has come as far as another one, which it is a copy of."""
        self._sent |= other._sent
        self._expected += other._expected
        self._armed |= {number: replace(each) for number, each in other._armed.items()}

    def acknowledge(self, command: str, desc: str) -> None:
        """The tester saw this refusal: it is no mistake of the code under test."""
        for index in range(len(self.mistakes) - 1, -1, -1):
            mistake = self.mistakes[index]
            if (mistake.name, mistake.desc) == (command, desc):
                del self.mistakes[index]
                return

    def allowed(self, mistake: Violation) -> bool:
        """Whether `allow` names the kind, the command, or a pattern that fits either."""
        return any(
            fnmatchcase(mistake.kind, pattern) or fnmatchcase(mistake.name, pattern)
            for pattern in self.allow
        )

    def report(
        self,
        journal: Journal,
        seed: int | None = None,
        *,
        unmet: bool = True,
        bugs_only: bool = False,
    ) -> str | None:
        """Everything wrong, as text for people; None if nothing is.

        `unmet`: also what never came, which says little of a test that failed halfway.
        `bugs_only`: nothing but bugs of fakeqemu's own.
        """
        wrong = [*self.mistakes]
        for expectation in self._expected if unmet else ():
            if (complaint := expectation.complaint(journal)) is not None:
                wrong.append(Violation("expectation", expectation.command, complaint))
        for armed in self._armed.values() if unmet else ():
            if armed.left > 0:
                wrong.append(Violation("unused", armed.name, armed.complaint))
        wrong = [
            each
            for each in wrong
            if not self.allowed(each) and (each.kind == "bug" or not bugs_only)
        ]
        if not wrong:
            return None
        whose = "of fakeqemu" if bugs_only else "of the code under test"
        what = "bug" if bugs_only else "mistake"
        lines = [f"{len(wrong)} {what}{'s' if len(wrong) > 1 else ''} {whose}:"]
        for number, each in enumerate(wrong, 1):
            lines += self._describe(number, each)
        lines += ["last in the journal:", journal.timeline(_LAST_LINES, start=False)]
        names = ", ".join(repr(each.name) for each in wrong[:3])
        lines.append(f"meant so? @pytest.mark.fakeqemu(allow=[{names}]) or allow=[...]")
        if seed is not None:
            lines.append(f"seed: {seed}")
        return "\n".join(lines)

    def _expectation(
        self, command: str, arguments: dict[str, Any], times: int | None = None
    ) -> Expectation:
        check_call(command, arguments)
        if command not in self._schema.commands:
            raise UnknownNameError("command", command, self._schema.commands)
        wanted = self._schema.commands[command].arg_type
        check_members(f"argument of {command}", wanted, arguments)
        return Expectation(command, dict(arguments), times)

    def _describe(self, number: int, mistake: Violation) -> list[str]:
        lines = [f"{number}. {mistake.kind}: {mistake.name}: {mistake.desc}"]
        if mistake.sent is None:
            return lines
        lines.append(f"   - {json.dumps(mistake.sent)}")
        if mistake.kind in ("unknown-command", "arguments"):
            sent = mistake.sent
            right = suggest_fix(self._schema, sent["execute"], sent.get("arguments", {}))
            if right is not None and (better := _request(*right)) != sent:
                lines.append(f"   + {json.dumps(better)}")
        return lines

    def _add(self, kind: str, name: str, desc: str, sent: Any = None) -> None:
        if kind in ("unknown-command", "arguments", "phase", "not-modelled"):
            sent = _request(name, self._sent.get(name, {}))
        self.mistakes.append(Violation(kind, name, desc, sent))


def _request(command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"execute": command, **({"arguments": arguments} if arguments else {})}
