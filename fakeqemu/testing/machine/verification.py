"""What must not have happened: mistakes of the code under test, told when the test ends.

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

from fakeqemu.dataclass import dataclass
from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.qapi.schema import Schema
from fakeqemu.testing.names import UnknownNameError, suggest_fix

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
    times: int | None

    def complaint(self, journal: Journal) -> str | None:
        """Why it is not met; None if it is."""
        calls = journal.commands(self.command)
        count = sum(self.arguments.items() <= call.arguments.items() for call in calls)
        if count == self.times or (self.times is None and count):
            return None
        wanted = "at least once" if self.times is None else f"{self.times} times"
        given = f" with {json.dumps(self.arguments)}" if self.arguments else ""
        others = [json.dumps(call.arguments) for call in calls]
        came = f"; it came with {', '.join(others)}" if self.arguments and others else ""
        return f"expected {wanted}{given}, came {count} times{came}"


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
        self._expected: list[Expectation] = []
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
        if command not in self._schema.commands:
            raise UnknownNameError("command", command, self._schema.commands)
        self._expected.append(Expectation(command, arguments or {}, times))

    def arm(self, what: str, number: int, name: str, times: int = 1) -> None:
        """A "stub" or "fault" with this number is there to be come across `times` times."""
        self._armed[what, number] = Armed(what, name, times)

    def disarm(self, what: str, number: int) -> None:
        """It was taken back."""
        self._armed.pop((what, number), None)

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
        lines += ["last in the journal:", journal.timeline(_LAST_LINES)]
        names = ", ".join(repr(each.name) for each in wrong[:3])
        lines.append(f"meant so? @pytest.mark.fakeqemu(allow=[{names}]) or allow=[...]")
        if seed is not None:
            lines.append(f"seed: {seed}")
        return "\n".join(lines)

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
