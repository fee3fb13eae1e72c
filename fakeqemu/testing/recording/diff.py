"""Asks a profile what a recorded QEMU was asked, and tells where the answers differ.

Differences of shape (a member that is missing, another type, an error in place of a value)
matter to a client's code; differences of value often are the machine's own (paths, times).
Both are told, apart from each other.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from fakeqemu.dataclass import dataclass
from fakeqemu.profile import Profile
from fakeqemu.testing.machine.fake import FakeQemu
from fakeqemu.testing.recording.format import Conversation, Exchange

#: seconds that a reply may take
_PATIENCE = 5.0
#: seconds in which events may follow the last reply
_SETTLE = 0.02


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two answers differ."""

    #: "shape" or "value"
    kind: str
    #: which request of which conversation, from 1
    conversation: int
    number: int
    command: str
    #: members and indices down to the place; "event" for events
    path: str
    recorded: Any
    got: Any

    def __str__(self) -> str:
        recorded, got = (json.dumps(each) for each in (self.recorded, self.got))
        where = f"{self.conversation}.{self.number} {self.command}"
        return f"{self.kind}: {where}: {self.path}: recorded {_short(recorded)}, got {_short(got)}"


async def compare(
    conversations: Sequence[Conversation], profile: str | Profile, options: Sequence[str]
) -> list[Difference]:
    """Play each conversation's client side against a fresh machine. Raises StartupError."""
    found: list[Difference] = []
    for number, conversation in enumerate(conversations, 1):
        async with FakeQemu(
            *options, profile=profile, client=False, check_replies=False
        ) as machine:
            found += await _play(machine, conversation, number)
    return found


async def _play(machine: FakeQemu, told: Conversation, which: int) -> list[Difference]:
    reader, writer = await asyncio.open_unix_connection(machine.socket_path, limit=1 << 24)
    found: list[Difference] = []
    events: list[str] = []
    try:
        greeting = await _read(reader)
        if told.greeting is not None:
            found += differences(told.greeting, greeting, which, 0, "greeting")
        for number, exchange in enumerate(told.exchanges, 1):
            request = exchange.request
            writer.write(json.dumps(request).encode() + b"\n")
            if exchange.reply is None:
                continue
            reply: Any = await _read(reader)
            while isinstance(reply, dict) and "event" in reply:
                events.append(reply["event"])
                reply = await _read(reader)
            found += differences(exchange.reply, reply, which, number, exchange.command)
            if reply is None:
                break
        events += await _settled(reader)
    finally:
        writer.close()
    return found + _events_apart([each["event"] for each in _events(told)], events, which)


async def _read(reader: asyncio.StreamReader) -> Any:
    try:
        async with asyncio.timeout(_PATIENCE):
            line = await reader.readline()
    except (TimeoutError, ConnectionError):
        return None
    return json.loads(line) if line else None


async def _settled(reader: asyncio.StreamReader) -> list[str]:
    events: list[str] = []
    try:
        async with asyncio.timeout(_SETTLE):
            while line := await reader.readline():
                events.append(json.loads(line).get("event", ""))
    except (TimeoutError, ConnectionError):
        pass
    return [event for event in events if event]


def differences(
    recorded: Any, got: Any, conversation: int, number: int, command: str
) -> list[Difference]:
    """Where two messages differ, ids and times apart."""
    return [
        Difference(kind, conversation, number, command, path or "reply", old, new)
        for kind, path, old, new in _walk(recorded, got, "")
    ]


def _walk(old: Any, new: Any, path: str) -> Iterator[tuple[str, str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if not path and key in ("id", "timestamp"):
                continue
            below = f"{path}.{key}" if path else key
            if key not in new or key not in old:
                yield "shape", below, old.get(key), new.get(key)
            else:
                yield from _walk(old[key], new[key], below)
    elif isinstance(old, list) and isinstance(new, list):
        by_name = _by_name(old), _by_name(new)
        if by_name[0] and by_name[1]:
            # a list of named things is the same whatever their order
            yield from _walk(*by_name, path)
            return
        if len(old) != len(new):
            yield "value", f"{path} (length)", len(old), len(new)
        for index, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from _walk(one, other, f"{path}[{index}]")
    elif _json_type(old) != _json_type(new):
        yield "shape", path, old, new
    elif old != new:
        yield "value", path, old, new


def _by_name(items: list[Any]) -> dict[str, Any] | None:
    """Members of a list by their `name`, if each has one of its own."""
    named = {
        str(item["name"]): item for item in items if isinstance(item, dict) and "name" in item
    }
    return named if len(named) == len(items) else None


def _json_type(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


def event_differences(old: Conversation, new: Conversation, which: int) -> list[Difference]:
    """Events that only one of two conversations has."""
    names = [[event["event"] for event in _events(each)] for each in (old, new)]
    return _events_apart(names[0], names[1], which)


def _events_apart(recorded: list[str], got: list[str], which: int) -> list[Difference]:
    missing, extra = Counter(recorded) - Counter(got), Counter(got) - Counter(recorded)
    return [
        *(Difference("shape", which, 0, "event", e, e, None) for e in missing.elements()),
        *(Difference("shape", which, 0, "event", e, None, e) for e in extra.elements()),
    ]


def _events(told: Conversation) -> Iterator[dict[str, Any]]:
    yield from told.early
    exchange: Exchange
    for exchange in told.exchanges:
        yield from exchange.before
        yield from exchange.after


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
