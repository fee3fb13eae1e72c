"""Recorded conversations: JSON lines that people can read, and exchanges made of them.

Each line says when, on which connection, who and what: {"time": microseconds, "connection": 1,
"from": "client" | "server", "message": {...}}; "text" in place of "message" for what is no
JSON, "opened" and "closed" for the connection. A file may hold several conversations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.testing.read_file import load_json, read_text


class RecordError(ValueError):
    """A file is no recording; the text has its name and line."""


@dataclass(slots=True)
class Exchange:
    """One request and what came of it."""

    request: Any
    #: events before the reply; the reply is None if none came
    before: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] | None = None
    #: events after it, before the next request
    after: list[dict[str, Any]] = field(default_factory=list)

    @property
    def command(self) -> str:
        """The command's name, or the request as text."""
        if isinstance(self.request, dict):
            name = self.request.get("execute", self.request.get("exec-oob"))
            if isinstance(name, str):
                return name
        return json.dumps(self.request)

    @property
    def key(self) -> str:
        """The request as text, whatever its id."""
        return json.dumps(without_id(self.request), sort_keys=True)

    def same_as(self, request: Any) -> bool:
        """Whether `request` asks for the same, whatever its id."""
        return bool(without_id(self.request) == without_id(request))


@dataclass(slots=True)
class Conversation:
    """One connection from greeting to end."""

    greeting: dict[str, Any] | None = None
    #: events before the first request
    early: list[dict[str, Any]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    def add(self, sender: str, message: Any) -> None:
        """The next message on the connection."""
        if sender == "client":
            self.exchanges.append(Exchange(message))
        elif isinstance(message, dict) and "QMP" in message:
            self.greeting = message
        elif isinstance(message, dict) and "event" in message:
            waiting = [each for each in self.exchanges if each.reply is None]
            if waiting:
                waiting[0].before.append(message)
            elif self.exchanges:
                self.exchanges[-1].after.append(message)
            else:
                self.early.append(message)
        else:
            self._reply(message)

    def _reply(self, message: Any) -> None:
        waiting = [each for each in self.exchanges if each.reply is None]
        named = [
            each
            for each in waiting
            if isinstance(each.request, dict)
            and "id" in message
            and each.request.get("id") == message["id"]
        ]
        for exchange in (named or waiting)[:1]:
            exchange.reply = message


def without_id(message: Any) -> Any:
    """A message without its id and with arguments even if there are none."""
    if not isinstance(message, dict):
        return message
    plain = {key: value for key, value in message.items() if key != "id"}
    return {"arguments": {}, **plain} if "execute" in plain else plain


def load(path: str | Path) -> list[Conversation]:
    """The conversations of a file, in the order in which they began. Raises RecordError."""
    try:
        lines = read_text(path).splitlines()
    except ValueError as error:
        raise RecordError(str(error)) from None
    return parse(lines, str(path))


def _add(found: dict[Any, Conversation], entry: Any) -> None:
    """Put one line's value where it belongs. Raises ValueError."""
    if not isinstance(entry, dict) or not isinstance(entry.get("connection"), int | str):
        raise ValueError("it names no connection")
    connection = found.setdefault(entry["connection"], Conversation())
    if "message" in entry:
        if entry.get("from") not in ("client", "server"):
            raise ValueError("a message is from client or server")
        connection.add(entry["from"], entry["message"])


def parse(lines: Iterable[str], path: str = "recording") -> list[Conversation]:
    """The conversations in `lines`. Raises RecordError."""
    found: dict[Any, Conversation] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _add(found, load_json(line))
        except ValueError as error:
            raise RecordError(f"{path}:{number}: not a line of a recording: {error}") from None
    return list(found.values())
