"""What a machine must never do: the findings of all campaigns, and how they are seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fuzzing.machine import DEADLINE, Gone, Late, Machine, strings

#: processor time that one input may take before others are held up, in seconds
HOLD = 2.0
#: bytes that a machine may grow by between its start and the end of a session
GROWTH = 256 << 20

#: what Python says and QEMU does not
_PYTHON = re.compile(
    r"internal error of fakeqemu|fakeqemu failed|Traceback"
    r"|\b(Key|Index|Type|Value|Attribute|Overflow|Unicode|Recursion|Assertion|Memory)Error\b"
    r"|list index out of|object has no attribute|NoneType|not subscriptable|invalid literal for"
    r"|codec can't|positional argument|unhashable|not iterable|must be str|\[Errno"
    r"|object is not|unexpected keyword|<class '|<fakeqemu|unsupported operand"
    r"|not supported between|cannot unpack|not enough values|embedded null|surrogates not"
    r"|bytes-like|\bNone\b|\bTrue\b|\bFalse\b"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must not happen. Two are the same fault if `kind` and `what` are."""

    #: "traceback", "python-text", "death", "hold", "no-answer", "growth", "left-behind"
    kind: str
    #: short, without what differs from run to run
    what: str
    #: all there is to say
    detail: str = ""


def python_text(reply: Any, said: Any = None) -> Finding | None:
    """Python's words in a reply, but for those that the request itself has (`said`)."""
    texts = list(strings(reply.get("error") or reply.get("return")))
    own = sorted((each for each in strings(said) if len(each) > 2), key=len, reverse=True)
    for text in texts:
        # `info vnc` prints just this
        probe = text if text.strip() != "None" else ""
        for each in own:
            probe = probe.replace(each, "")
        found = _PYTHON.search(probe)
        if found is not None:
            return Finding("python-text", found[0], text[:2000])
    return None


def stderr_text(machine: Machine, seen: int = 0) -> Finding | None:
    """A traceback or a bug that the machine has written to standard error behind `seen`."""
    text = machine.stderr[seen:]
    for line in reversed(text.splitlines()):
        if "internal error: " in line:
            return Finding("traceback", line.split("internal error: ", 1)[1], text[-3000:])
    if "Traceback" in text:
        last = text.strip().splitlines()[-1]
        return Finding("traceback", re.sub(r"0x[0-9a-f]+|\d+", "N", last)[:120], text[-3000:])
    return None


def lost(machine: Machine, error: Gone | Late, what: str) -> Finding:
    """A machine that has not answered: it has died, or it does something else for ever."""
    if isinstance(error, Gone):
        machine.process.wait(DEADLINE)
    if (found := stderr_text(machine)) is not None:
        return found
    tail = machine.stderr[-1500:]
    if machine.alive:
        return Finding("no-answer", what, f"{error}; standard error: {tail}")
    status = machine.process.returncode
    return Finding("death", f"{what}: exit status {status}", tail)
