"""Which members of what a client gave the model ever reads: a debug mode, off by default.

What is accepted and has no effect is the worst fault of a test double, and the hardest to see.
`start()` makes the parsers name the members of checked input with `Name`, a string that notes
every lookup by it; such names go along when dicts are copied, so that a read is noted wherever
it happens. `FAKEQEMU_READS=FILE` does the same for a process, which adds its account to FILE.

A read is classed by who reads. Parsers and those who only store do not count; somebody called
`check_...` checks; what a query reads is shown; anything else is taken for an effect.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.schema import AlternateType, ArrayType, ObjectType, Type
from fakeqemu.qapi.visitor import is_kind

if TYPE_CHECKING:
    from pathlib import Path

#: how much was done with a member, least first
NONE, CHECKED, SHOWN, EFFECT = "none", "checked", "shown", "effect"
CLASSES = (NONE, CHECKED, SHOWN, EFFECT)

#: environment variable: the file to which a process adds its account
VARIABLE = "FAKEQEMU_READS"

#: modules that parse, convert, print or keep, whatever the member
_CARRIERS = (
    "fakeqemu.qapi.", "fakeqemu.qmp.", "fakeqemu.journal", "fakeqemu.boot.cmdline.option_groups",
    "fakeqemu.boot.cmdline.schema_values",
    "fakeqemu.model.qom.tree", "fakeqemu.model.qom.property_types", "fakeqemu.profile",
    "fakeqemu.testing.", "fakeqemu.commands.registry",
    "json", "enum", "functools", "fakeqemu.dataclass",
)  # fmt: skip

#: functions of other modules that only keep
_KEEPERS = frozenset(
    {
        ("fakeqemu.model.qom.user_creatable", "Objects.add"),
        ("fakeqemu.model.qom.user_creatable", "Objects._make"),
        ("fakeqemu.model.qom.user_creatable_checks", "set_all"),
        ("fakeqemu.model.qom.user_creatable_checks", "_change_freely"),
        ("fakeqemu.model.qdev.properties", "describe"),
        ("fakeqemu.model.qdev.properties", "owner"),
        ("fakeqemu.model.qdev.properties", "Properties.set"),
        ("fakeqemu.model.qdev.properties", "_store"),
        ("fakeqemu.commands.machine.qdev", "as_texts"),
        ("fakeqemu.model.block.backends.legacy_drive", "parse_option_tree"),
    }
)

#: modules that only judge and word what was given
_CHECKERS = frozenset(
    {
        "fakeqemu.model.qom.user_creatable_checks",
        "fakeqemu.model.net.check",
        "fakeqemu.model.qdev.realize_checks",
        "fakeqemu.boot.checks.backends",
        "fakeqemu.boot.checks.board",
    }
)
#: readers that act, although of a carrier or called a check
_ACTING = frozenset(
    {
        ("fakeqemu.boot.checks.machine_properties", "check_memory"),
        ("fakeqemu.qapi.policy", "CompatPolicy.from_members"),
    }
)

#: commands that only show
_QUERIES = ("query-", "x-query-", "qom-get", "qom-list", "info", "device-list-properties")


class Name(str):
    """A member's name that notes lookups: equal to the plain name, with the same hash."""

    __slots__ = ("log", "member")

    #: "chardev-add backend{socket}.data.wait"
    member: str
    log: Log

    def __eq__(self, other: object) -> bool:
        same = str.__eq__(self, other)
        if same is True and not isinstance(other, Name):
            self.log.note(self.member, sys._getframe(1))
        return same

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def replace(self, old: str, new: str, count: int = -1) -> Name:  # type: ignore[override]
        """As of a string; it is still the name of the same member."""
        made = Name(str.replace(self, old, new, count))
        made.log, made.member = self.log, self.member
        return made

    def __deepcopy__(self, _memo: dict[int, Any]) -> Name:
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class Watched(dict[str, Any]):
    """The properties of an object, of which some were given: notes when those are read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        #: property -> the name it was given under
        self.names: dict[str, Name] = {}

    def __getitem__(self, key: str) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        self._note(key)
        return super().get(key, default)

    def _note(self, key: str) -> None:
        name = self.names.get(str(key))
        if name is not None:
            name.log.note(name.member, sys._getframe(2))


class Log:
    """What was accepted, and what was read and how."""

    def __init__(self) -> None:
        #: members of input that was accepted
        self.accepted: set[str] = set()
        #: member -> class -> "module:function" of the readers
        self.readers: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        #: the command under way
        self.command = ""
        self._pending: set[str] = set()

    # -- naming ------------------------------------------------------------------------------

    def name(self, name: str, scope: str) -> Name:
        """`name` as one that notes lookups; the member of `scope` counts as given."""
        made = Name(name)
        made.log, made.member = self, scope + name
        self._pending.add(made.member)
        return made

    def flat(self, values: Mapping[str, Any], scope: str) -> dict[str, Any]:
        """`values` under names that note; `scope` is put before each."""
        return {
            key if isinstance(key, Name) else self.name(key, f"{scope} "): value
            for key, value in values.items()
        }

    def typed(self, type: Type, value: Any, scope: str) -> Any:
        """`value`, checked against `type`, under names that note, at every depth."""
        return self._walk(type, value, f"{scope} ", {})

    def _walk(self, type: Type, value: Any, path: str, above: dict[str, str]) -> Any:
        if isinstance(type, ArrayType) and isinstance(value, list):
            return [self._walk(type.element, each, path, above) for each in value]
        if isinstance(type, AlternateType):
            for each in type.members:
                if is_kind(each, value):
                    return self._walk(each, value, path, above)
        if isinstance(type, ObjectType) and isinstance(value, dict):
            # one inside another of its kind is the same member again
            path = above.get(type.name, path)
            named: dict[str, Any] = {}
            self._members(type, value, named, path, {**above, type.name: path})
            return named
        return value

    def _members(
        self,
        type: ObjectType,
        value: dict[str, Any],
        named: dict[str, Any],
        path: str,
        above: dict[str, str],
    ) -> None:
        for member in type.members:
            if member.name in value:
                inner = value[member.name]
                below = f"{path}{member.name}."
                named[self.name(member.name, path)] = self._walk(member.type, inner, below, above)
        tag = value.get(type.tag) if type.tag is not None else None
        variant = type.variant(tag) if isinstance(tag, str) else None
        if variant is not None:
            self._members(variant, value, named, f"{path.removesuffix('.')}{{{tag}}}.", above)

    def passed(self, function: Callable[..., Any], keywords: Mapping[str, Any]) -> None:
        """`function` is called with these keywords: what it never loads it does not read."""
        import dis
        import inspect

        function = inspect.unwrap(function)
        code = function.__code__
        parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        loaded = {
            each.argval for each in dis.get_instructions(code) if each.opname.startswith("LOAD_")
        } | set(code.co_cellvars)
        reader = f"{function.__module__}:{code.co_qualname}"
        for name in keywords:
            if isinstance(name, Name) and str(name) in parameters and str(name) in loaded:
                self.readers[name.member][EFFECT].add(reader)

    def watch(self, values: dict[str, Any], name: str) -> dict[str, Any]:
        """`values` of an object to which `name` was given, as a dict that notes reads."""
        if not isinstance(name, Name):
            return values
        watched = values if isinstance(values, Watched) else Watched(values)
        watched.names[str(name)] = name
        self.readers[name.member][SHOWN].add("qom-get")
        return watched

    def used(self, name: str, reader: Callable[..., Any], kind: str = EFFECT) -> None:
        """`reader` does with the member's value what its name does not show."""
        if isinstance(name, Name):
            self.readers[name.member][kind].add(f"{reader.__module__}:{reader.__qualname__}")

    # -- accepting and reading ---------------------------------------------------------------

    def take(self) -> set[str]:
        """What was given since the last time; whether it is accepted shows later."""
        given, self._pending = self._pending, set()
        return given

    def accept(self, given: set[str] | None = None) -> None:
        """`given`, or all that was given since the last time, was accepted."""
        self.accepted |= self.take() if given is None else given

    def refuse(self) -> None:
        """What was given since the last time was refused."""
        self._pending.clear()

    @contextmanager
    def during(self, command: str) -> Iterator[None]:
        """`command` is under way."""
        before, self.command = self.command, command
        try:
            yield
        finally:
            self.command = before

    def note(self, member: str, frame: FrameType | None) -> None:
        """`frame` has looked `member` up."""
        if frame is None:
            return
        module = frame.f_globals.get("__name__", "")
        function = frame.f_code.co_qualname.split(".<locals>")[0]
        acts = (module, function) in _ACTING
        if not acts and (module.startswith(_CARRIERS) or (module, function) in _KEEPERS):
            return
        kind = EFFECT
        own = member.startswith(f"{self.command} ")
        if self.command.startswith(_QUERIES) and not own:
            kind = SHOWN
        elif not acts and _only_checks(module, function):
            kind = CHECKED
        self.readers[member][kind].add(f"{module}:{function}")

    # -- the account -------------------------------------------------------------------------

    def classes(self) -> dict[str, str]:
        """Every accepted member with the most that was done with it."""
        return {
            member: max(self.readers.get(member, {NONE: set()}), key=CLASSES.index)
            for member in sorted(self.accepted)
        }

    def add_to(self, path: Path) -> None:
        """Add the account to a file, one JSON object a line. Raises OSError."""
        with path.open("a", encoding="utf-8") as file:
            for member, kind in self.classes().items():
                file.write(json.dumps({"member": member, "class": kind}) + "\n")


def _only_checks(module: str, function: str) -> bool:
    """Whether a function judges only; those that complete or change an object act."""
    if module in _CHECKERS:
        return not function.startswith(("_complete", "_change"))
    return "check" in function


#: the account under way; None: nothing is noted
log: Log | None = None


def start() -> Log:
    """Begin to note; the account."""
    global log  # noqa: PLW0603 - one switch for the whole process
    log = Log()
    return log


def stop() -> None:
    """Note no more."""
    global log  # noqa: PLW0603
    log = None
