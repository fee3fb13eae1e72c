"""What happened, in order: boot steps, commands, replies, events, state changes.

One journal per machine; whoever owns a state writes its changes here, so that a tester can
ask afterwards. Entries are frozen and carry the machine's own time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.clock import Clock
from fakeqemu.dataclass import dataclass, field, replace

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One thing that happened."""

    #: nanoseconds of the machine's clock
    time: int
    #: "boot", "command", "reply", "event", "runstate", "migration", "not-modelled", ...
    kind: str
    #: the step, command, event or state it is about
    name: str
    #: what else there is to say; JSON values only
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CommandCall:
    """One command as it was sent, and how it ended."""

    #: nanoseconds of the machine's clock
    time: int
    name: str
    arguments: dict[str, Any]
    #: its `return` value; None while there is none
    value: Any = None
    #: `class` and `desc` of its error; None if it was not refused
    error: dict[str, str] | None = None


class Journal:
    """An append-only list of entries: of all, or of the last ones (see `keep_last`)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: texts to write for others when saved: a path of one run -> its name in every run
        self.aliases: dict[str, str] = {}
        #: how a machine's handle waits for an entry; None for a journal that is only read
        self.waiter: Callable[..., Any] | None = None
        self._entries: list[JournalEntry] = []
        #: how many are kept; None: all
        self._most: int | None = None
        #: how many entries there have been that are not kept any more
        self.dropped = 0
        self._listeners: list[Callable[[JournalEntry], None]] = []

    def note(self, kind: str, name: str, **data: Any) -> JournalEntry:
        """Write one entry, stamped with the clock's now."""
        entry = JournalEntry(self._clock.now(), kind, name, data)
        self.add(entry)
        return entry

    def keep_last(self, count: int) -> None:
        """Keep the last `count` entries from now on, and of them no large values.

        Listeners still get everything.
        """
        self._most = count
        self._entries = [_without_large(entry) for entry in self._entries]
        self._drop()

    def listen(self, listener: Callable[[JournalEntry], None]) -> None:
        """Call `listener` with each entry from now on."""
        self._listeners.append(listener)

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, kind: str, name: str | None = None) -> list[JournalEntry]:
        """The entries of one kind, and of one name if given."""
        return [e for e in self._entries if e.kind == kind and name in (None, e.name)]

    def wait_for(self, kind: str, name: str | None = None, **data: Any) -> Any:
        """Wait for the first entry of this kind, name and data, with its handle's deadline.

        Awaitable where the handle is asynchronous; the entry itself where it is not. Raises
        TimeoutError, and RuntimeError for a journal that no machine writes.
        """
        if self.waiter is None:
            raise RuntimeError("nothing is added to this journal: no machine writes it")
        return self.waiter(kind, name, **data)

    def add(self, entry: JournalEntry) -> None:
        """Take over an entry of another journal, with its own time."""
        if self._most is None:
            self._entries.append(entry)
        else:
            self._entries.append(_without_large(entry))
            self._drop()
        for listener in self._listeners:
            listener(entry)

    def commands(self, name: str | None = None) -> list[CommandCall]:
        """The commands sent, or those called `name`, each with its outcome."""
        calls: list[CommandCall] = []
        waiting: dict[str, list[int]] = {}
        for entry in self._entries:
            if entry.kind == "command" and name in (None, entry.name):
                waiting.setdefault(entry.name, []).append(len(calls))
                calls.append(CommandCall(entry.time, entry.name, entry.data["arguments"]))
            elif entry.kind in _OUTCOMES and waiting.get(entry.name):
                index = waiting[entry.name].pop(0)
                call, data = calls[index], entry.data
                error = {"class": data["error_class"], "desc": data["desc"]} if data.get(
                    "desc"
                ) is not None else None
                calls[index] = CommandCall(
                    call.time, call.name, call.arguments, data.get("value"), error
                )
        return calls

    def timeline(self, last: int | None = None) -> str:
        """What happened as text, a line for each entry; only the `last` ones if given.

        The first line says how many entries are not kept any more, if any.
        """
        entries = self._entries if last is None else self._entries[-last:]
        lines = [line_of(entry) for entry in entries]
        if self.dropped and last is None:
            lines.insert(0, f"({self.dropped} earlier entries are not kept)")
        return "\n".join(map(self._hide, lines))

    def to_lines(self) -> str:
        """The journal as JSON lines: one object for each entry, the same for the same run."""
        return "".join(
            self._hide(json.dumps([e.time, e.kind, e.name, e.data], ensure_ascii=False)) + "\n"
            for e in self._entries
        )

    def save(self, path: str | Path) -> None:
        """Write `to_lines` to a file."""
        from pathlib import Path

        Path(path).write_text(self.to_lines(), "utf-8", "backslashreplace")

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> Journal:
        """A journal as `to_lines` wrote it. Its own clock stands still at 0."""
        journal = cls(_FrozenClock())
        for line in lines:
            if line.strip():
                time, kind, name, data = json.loads(line)
                journal.add(JournalEntry(time, kind, name, data))
        return journal

    @classmethod
    def load(cls, path: str | Path) -> Journal:
        """The journal that `save` wrote to a file."""
        from pathlib import Path

        with Path(path).open() as file:
            return cls.from_lines(file)

    def _drop(self) -> None:
        assert self._most is not None
        surplus = max(0, len(self._entries) - self._most)
        self.dropped += surplus
        del self._entries[:surplus]

    def _hide(self, text: str) -> str:
        for volatile, name in self.aliases.items():
            text = text.replace(volatile, name)
        return text


#: values in one argument or reply from which on a journal of the last entries leaves it out;
#: 64 characters of text count as one
_LARGE = 64
_OMITTED = {"omitted": "too large for this journal"}


def _without_large(entry: JournalEntry) -> JournalEntry:
    large = {key: dict(_OMITTED) for key, value in entry.data.items() if _is_large(value)}
    return replace(entry, data={**entry.data, **large}) if large else entry


def _is_large(value: Any) -> bool:
    if value.__class__ is str and len(value) < 64 * _LARGE:
        return False
    weight = 0
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            weight += sum(len(str(key)) for key in item) // 64 if len(item) < _LARGE else _LARGE
            todo.extend(item.values() if len(item) < _LARGE else ())
        elif isinstance(item, list | tuple):
            weight += 0 if len(item) < _LARGE else _LARGE
            todo.extend(item if len(item) < _LARGE else ())
        elif isinstance(item, str):
            weight += len(item) // 64
        weight += 1
        if weight >= _LARGE:
            return True
    return False


#: kinds of entries that end a command
_OUTCOMES = ("reply", "error", "not-modelled")
#: longest text of one value in a timeline
_LONGEST = 160


def line_of(entry: JournalEntry) -> str:
    """One entry as a line for people: seconds, kind, name, what else there is."""
    details = ", ".join(f"{key}={_short(value)}" for key, value in entry.data.items())
    return f"{entry.time / 1e9:12.6f} {entry.kind:12} {entry.name}" + (
        f"  {details}" if details else ""
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


class _FrozenClock:
    """The clock of a journal that is only read."""

    def now(self) -> int:
        return 0

    def realtime(self) -> int:
        return 0

    def call_later(self, delay: int, call: Callable[[], None]) -> Any:  # noqa: ARG002
        raise RuntimeError("a loaded journal has no clock")
