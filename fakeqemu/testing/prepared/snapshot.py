"""A machine's model as bytes, of which copies are made that share nothing that can change.

`pickle` follows the references. What it cannot take by itself is rebuilt: functions inside
functions with what they close over, counters. What stays with the host or never changes (the
profile, the runner) is not copied but named, and each copy puts its own in its place. What can
be neither is refused with what it is.
"""

from __future__ import annotations

import copyreg
import itertools
import pickle
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from io import BytesIO
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from weakref import WeakKeyDictionary

from fakeqemu.dataclass import fields, is_frozen
from fakeqemu.journal import JournalEntry
from fakeqemu.model.events import Event
from fakeqemu.testing.prepared.compact import compact

_SIMPLE = (int, bytes, bool, float, type(None))
_ATOMS = (str, dict, list, *_SIMPLE)
_TABLES = (dict, list, set)
#: Py_TPFLAGS_HEAPTYPE
_WRITTEN_IN_PYTHON = 1 << 9
#: methods that say how an object is copied
_BY_PICKLE = ("__reduce_ex__", "__reduce__", "__getstate__")
#: what pickle writes as an instruction of its own
_NEW: Any = getattr(copyreg, "__newobj__")  # noqa: B009 - type checkers do not know it
#: entries of a table that are worth no more than piece by piece
_FEW = 2
#: what is written once; a journal's entries are JSON, which nobody changes
_CONSTANT_TYPES = (types.CodeType, IPv4Address, IPv6Address, JournalEntry, Event)
#: modules of which nothing changes once it is read
_CONSTANT = ("fakeqemu.profile.", "fakeqemu.qapi.schema", "fakeqemu.traits.")
#: module -> what an object of its is, for people
_HOSTS = (
    ("fakeqemu.io.migration", "a migration channel is open"),
    ("fakeqemu.migration.phases", "a migration is under way"),
    ("fakeqemu.io.files.output", "a file is written"),
    ("fakeqemu.io.net.sockets", "a network backend has a socket of the host"),
    ("fakeqemu.io.servers", "a server (VNC, NBD, gdb) listens"),
    ("fakeqemu.io.chardev", "a character device has a file or a socket of the host"),
    ("fakeqemu.io.link", "a connection is open"),
    ("fakeqemu.io", "something of the host is open"),
    ("socket", "a socket is open"),
    ("_io", "a file is open"),
    ("asyncio", "something waits for real time or the host"),
    ("_asyncio", "something waits for real time or the host"),
    ("_thread", "a thread is at work"),
    ("weakref", "something is only referred to"),
)


#: an object and how often each is referred to, by `id`, once that is known -> see `Snapshot.take`
Reduce = Callable[[Any, Mapping[int, int]], Any]


#: where a generator is -> what it is for, for people
_WORK = (
    ("migration/", "a migration"),
    ("model/block/jobs/", "a job"),
    ("model/dump/", "a dump"),
    ("boot/", "the boot"),
)


class NotCopyableError(RuntimeError):
    """A machine is in a state that copies would share, or that cannot be copied."""


class Snapshot:
    """What `take` saw. `restore` makes another such graph of objects each time."""

    def __init__(self, data: bytes, kept: list[tuple[str, Any]]) -> None:
        self._data = data
        self._kept = kept

    @classmethod
    def take(
        cls, root: Any, named: dict[int, Any], directory: str, reduce: Reduce
    ) -> Snapshot:
        """A snapshot of `root`.

        `named`: the `id` of an object that each copy has its own of -> its key. `directory`:
        a path that is another one in each copy. `reduce`: what stands for an object of the
        host, as `__reduce__` has it, or NotImplemented; it gets how often each object is
        referred to. Raises NotCopyableError.
        """
        references: Counter[int] = Counter()
        try:
            for count in (True, False):
                file = BytesIO()
                writer = _SnapshotWriter(file, named, directory, reduce)
                writer.references, writer.counts = references, count
                writer.dump((root, _Rest(writer)))
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise NotCopyableError(f"it cannot be copied: {error}") from error
        return cls(compact(file.getvalue()), writer.kept)

    def restore(self, own: dict[str, Any], path: Callable[[str], str]) -> Any:
        """Another graph like it, with what a copy has of its own by its keys.

        `path`: what a text becomes that has the directory in it.
        """
        reader = _SnapshotReader(BytesIO(self._data))
        reader.kept = [
            own[what] if kind == "own" else path(what) if kind == "path" else what
            for kind, what in self._kept
        ]
        root, rest = reader.load()
        for complete, late in rest:
            complete(*late)
        return root


class _SnapshotWriter(pickle.Pickler):
    references: Counter[int]
    counts: bool

    def __init__(
        self, file: BytesIO, named: dict[int, Any], directory: str, reduce: Reduce
    ) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._named = named
        self._directory = directory
        self._reduce = reduce
        #: what is not copied: "own", "path" or "constant", and its key, text or the thing itself
        self.kept: list[tuple[str, Any]] = []
        self._numbers: dict[tuple[str, Any], int] = {}
        #: what is put in once everything is there, for it may refer to all of it
        self.late: list[tuple[Any, tuple[Any, ...]]] = []

    def persistent_id(self, one: Any) -> Any:
        """What stands for an object that is not copied; None for one that is."""
        kind = type(one)
        if kind is str:
            return self._keep("path", one, one) if self._directory in one else None
        if self.counts:
            self.references[id(one)] += 1
        if kind in _ATOMS:
            return None
        if (key := self._named.get(id(one))) is not None:
            return self._keep("own", key, key)
        if kind is Constant:
            return self._keep("constant", one.value, id(one.value))
        if self._is_constant(one):
            return self._keep("constant", one, id(one))
        return None

    def reducer_override(self, one: Any) -> Any:
        """How to make an object again, where pickle does not know."""
        kind = type(one)
        if kind is types.FunctionType:
            late = (one, one.__defaults__, one.__kwdefaults__, one.__dict__)
            if any(late[1:]):
                self.late.append((_complete_function, late))
            names = Constant(one.__globals__)
            return _make_function, (one.__code__, names, one.__qualname__, one.__closure__)
        if kind is types.CellType:
            filled = True
            try:
                content = one.cell_contents
            except ValueError:
                content, filled = None, False
            if filled:
                self.late.append((_fill_cell, (one, content)))
            return _make_cell, ()
        if kind is itertools.count:
            words = repr(one).removeprefix("count(").removesuffix(")").split(",")
            return itertools.count, tuple(int(word) for word in words)
        if kind is WeakKeyDictionary:
            return _weak_keys, (list(one.items()),)
        if kind is types.GeneratorType:
            if one.gi_frame is None:
                return _ended, ()
            raise NotCopyableError(_middle(one))
        references = {} if self.counts else self.references
        if (made := self._reduce(one, references)) is not NotImplemented:
            return made
        for module, what in _HOSTS:
            if kind.__module__ == module or kind.__module__.startswith(f"{module}."):
                raise NotCopyableError(f"{what} ({kind.__qualname__})")
        if references and _is_simple(kind):
            return _NEW, (kind,), self._state(one, references)
        return NotImplemented

    def _state(self, one: Any, references: Mapping[int, int]) -> dict[str, Any]:
        """An object's attributes, with tables that nobody else has put to be copied at once."""
        return {
            name: self._table(value)
            if type(value) in _TABLES and len(value) > _FEW and references.get(id(value)) == 1
            else value
            for name, value in vars(one).items()
        }

    def _table(self, table: Any) -> Any:
        """Something that is copied as a whole but for what can change; the table if it all can."""
        if not all(self._is_constant(each) for each in table):
            return table
        if type(table) is not dict:
            return _Copied(table, None)
        rest = {name: value for name, value in table.items() if not self._is_constant(value)}
        if 2 * len(rest) > len(table):
            return table
        return _Copied({**table, **dict.fromkeys(rest)}, rest)

    def _is_constant(self, one: Any, depth: int = 8) -> bool:
        """Whether it never changes, and nothing that it refers to."""
        kind = type(one)
        if kind is str:
            return self._directory not in one
        if kind in _SIMPLE or kind in _CONSTANT_TYPES:
            return True
        if kind is tuple or kind is frozenset:
            return depth > 0 and all(self._is_constant(each, depth - 1) for each in one)
        if kind is types.FunctionType:
            return _found_by_name(one)
        if kind is types.BuiltinFunctionType:
            return isinstance(one.__self__, types.ModuleType)
        if isinstance(one, type | Enum) or f"{kind.__module__}.".startswith(_CONSTANT):
            return True
        return depth > 0 and is_frozen(kind) and all(
            self._is_constant(getattr(one, each.name), depth - 1) for each in fields(kind)
        )

    def _keep(self, kind: str, what: Any, key: Any) -> int:
        number = self._numbers.get((kind, key))
        if number is None:
            number = self._numbers[kind, key] = len(self.kept)
            self.kept.append((kind, what))
        return number


class _Rest:
    """Stands behind everything else, and is what was put off meanwhile."""

    def __init__(self, writer: _SnapshotWriter) -> None:
        self._writer = writer

    def __reduce__(self) -> Any:
        return list, (), None, self._items()

    def _items(self) -> Iterator[Any]:
        while self._writer.late:
            yield self._writer.late.pop(0)


class _SnapshotReader(pickle.Unpickler):
    kept: list[Any]

    def persistent_load(self, number: Any) -> Any:
        """What is not copied."""
        return self.kept[number]


class Constant:
    """Has pickle keep something that it would copy."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Copied:
    """A table of things that do not change but `rest`: to be copied at once."""

    def __init__(self, table: Any, rest: Any) -> None:
        self._table = table
        self._rest = rest

    def __reduce__(self) -> Any:
        if self._rest:
            # after the table is there: the rest may refer to its owner
            return _copied, (Constant(self._table),), None, None, iter(self._rest.items())
        return _copied, (Constant(self._table),)


def _ended() -> Any:
    """A generator that has come to its end."""
    none = (letter for letter in "")
    next(none, None)
    return none


def _copied(table: Any) -> Any:
    return table.copy()


def _is_simple(kind: Any) -> bool:
    """Whether pickle would copy an object's attributes and nothing else."""
    return (
        kind.__module__.startswith("fakeqemu.")
        and all(getattr(kind, name) is getattr(object, name) for name in _BY_PICKLE)
        and not hasattr(kind, "__setstate__")
        and not any(vars(base).get("__slots__") for base in kind.__mro__)
        and all(base.__flags__ & _WRITTEN_IN_PYTHON for base in kind.__mro__[:-1])
    )


def _found_by_name(one: types.FunctionType) -> bool:
    found: Any = sys.modules.get(one.__module__)
    for part in one.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is one


def _make_function(
    code: types.CodeType, names: dict[str, Any], name: str, closure: tuple[Any, ...] | None
) -> types.FunctionType:
    made = types.FunctionType(code, names, code.co_name, None, closure)
    made.__qualname__ = name
    return made


def _complete_function(
    one: Any, defaults: Any, keywords: dict[str, Any] | None, members: dict[str, Any]
) -> None:
    one.__defaults__, one.__kwdefaults__ = defaults, keywords
    one.__dict__.update(members)


def _make_cell() -> types.CellType:
    return types.CellType()


def _fill_cell(cell: types.CellType, content: Any) -> None:
    cell.cell_contents = content


def _weak_keys(items: list[tuple[Any, Any]]) -> Any:
    return WeakKeyDictionary(items)


def _middle(generator: types.GeneratorType[Any, Any, Any]) -> str:
    place = generator.gi_code.co_filename.replace("\\", "/").rpartition("/fakeqemu/")[2]
    what = next((what for start, what in _WORK if place.startswith(start)), "something")
    return f"{what} is under way ({generator.__qualname__} of {place})"
