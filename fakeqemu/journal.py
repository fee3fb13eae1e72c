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


#: how many entries a process keeps, if it is not told otherwise
DEFAULT_ENTRIES = 2000


#: data of entries that have none, which are most: one object for all
_NOTHING: dict[str, Any] = {}


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
        #: checks names of commands and kinds of entries where a tester gives one
        self.check: Callable[[str, str], None] | None = None
        self._entries: list[JournalEntry] = []
        #: how many are kept; None: all
        self._most: int | None = None
        #: how many entries there have been that are not kept any more
        self.dropped = 0
        self._listeners: list[Callable[[JournalEntry], None]] = []

    def note(self, kind: str, name: str, **data: Any) -> JournalEntry:
        """Write one entry, stamped with the clock's now."""
        entry = JournalEntry(self._clock.now(), kind, name, data or _NOTHING)
        self.add(entry)
        return entry

    def __repr__(self) -> str:
        last = f", the last: {line_of(self._entries[-1]).strip()}" if self._entries else ""
        return f"<Journal of {self.total} entries{last}>"

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

    def unlisten(self, listener: Callable[[JournalEntry], None]) -> None:
        """Call it no more."""
        self._listeners = [each for each in self._listeners if each != listener]

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def total(self) -> int:
        """How many entries there have been."""
        return self.dropped + len(self._entries)

    def of(self, kind: str, name: str | None = None) -> list[JournalEntry]:
        """The entries of one kind, and of one name if given. Raises ValueError for no kind."""
        if self.check is not None:
            self.check("kind", kind)
        return [e for e in self._entries if e.kind == kind and name in (None, e.name)]

    def since(self, number: int) -> Iterator[tuple[int, JournalEntry]]:
        """The entries from number `number` on, each with its number: the first one had 0."""
        start = max(0, number - self.dropped)
        return enumerate(self._entries[start:], self.dropped + start)

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
        """The commands sent, or those called `name`, each with its outcome.

        Raises ValueError for a name that was never sent and that this version has not.
        """
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
        if not calls and name is not None and self.check is not None:
            self.check("command", name)
        return calls

    def timeline(self, last: int | None = None, *, start: bool = True) -> str:
        """What happened as text, a line for each entry; only the `last` ones if given.

        The first line says how many entries are not kept any more, if any. Without `start` the
        steps of a start that went well are one line.
        """
        entries, steps = self._entries, 0
        if not start and any(entry.kind == "runstate" for entry in entries):
            entries = [entry for entry in entries if entry.kind not in _START]
            steps = len(self._entries) - len(entries)
        entries = entries if last is None else entries[-last:]
        lines = [line_of(entry) for entry in entries]
        if steps:
            lines.insert(0, f"({steps} steps of the start)")
        if self.dropped and last is None:
            lines.insert(0, f"({self.dropped} earlier entries are not kept)")
        return "\n".join(map(self._hide, lines))

    def to_lines(self) -> str:
        """The journal as JSON lines: one object for each entry, the same for the same run."""
        return "".join(
            self._hide(json_of(entry)) + "\n" for entry in self._entries
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
        surplus = len(self._entries) - self._most
        if surplus > 0:
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
_NUMBERS = frozenset({bool, int, type(None), float})


def _without_large(entry: JournalEntry) -> JournalEntry:
    for value in entry.data.values():
        if not _is_small(value) and _is_large(value):
            break
    else:
        return entry
    large = {key: dict(_OMITTED) for key, value in entry.data.items() if _is_large(value)}
    return replace(entry, data={**entry.data, **large})


def _is_small(value: Any) -> bool:
    """Whether a look at the value itself and its members shows that it is not large."""
    if value.__class__ is not dict:
        return value.__class__ in _NUMBERS or (
            value.__class__ is str and len(value) < 64 * _LARGE
        )
    if len(value) > 8:
        return False
    for key, each in value.items():
        if each.__class__ not in _NUMBERS and (each.__class__ is not str or len(each) > 192):
            return False
        if len(key) > 64:
            return False
    return True


def _is_large(value: Any) -> bool:
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


#: kinds of entries that a start is made of
_START = ("boot", "phase")
#: kinds of entries that end a command
_OUTCOMES = ("reply", "error", "not-modelled")
#: longest text of one value in a timeline
_LONGEST = 160


def json_of(entry: JournalEntry) -> str:
    """One entry as JSON, as `to_lines` and `from_lines` have it."""
    return json.dumps([entry.time, entry.kind, entry.name, entry.data], ensure_ascii=False)


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
