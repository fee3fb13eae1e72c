"""Checks and converts input against the schema, with QEMU's texts in QEMU's order.

Members are visited in schema order, those of a base first, then the variant's; a member's own
trouble comes before the next member's, members nobody asked for come last. Two flavours share
this walk: JSON from the wire and strings from `key=value` (`keyval`). The path of a member shows
in most texts, in some only its last part: that is so in QEMU.

See qapi/qobject-input-visitor.c: qobject_input_visitor_new() and qobject_input_check_struct();
qapi/qapi-visit-core.c: visit_type_enum().
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import Any, Protocol

from fakeqemu.qapi import qdict, texts
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.policy import ACCEPT_ALL, CompatPolicy
from fakeqemu.qapi.schema import (
    INTEGER_RANGES,
    AlternateType,
    ArrayType,
    BuiltinType,
    EnumType,
    ObjectType,
    Schema,
    Type,
)

#: frames enough for the deepest input the parser lets through
_DEEP = 20_000

#: elements from which on a list is looked at as a whole first
_MANY = 1000

#: members and elements that are visited before others have their turn
_SLICE = 500

#: a walk that stops where a turn may end, and returns what it has checked
Walk = Generator[None, None, Any]

ANONYMOUS = "<anonymous>"


class Path:
    """Where in the input a value stands; only made into text when there is an error."""

    __slots__ = ("last", "parent")

    def __init__(self, parent: Path | None, last: str | int | None) -> None:
        self.parent = parent
        #: name of a member, index of an element, None at the root
        self.last = last

    def member(self, name: str) -> Path:
        """The path of a member."""
        return Path(self, name)

    def element(self, index: int) -> Path:
        """The path of an element."""
        return Path(self, index)

    def text(self, index_form: str = "[{}]") -> str:
        """`a.b[0].c`; `<anonymous>` for a root without a name."""
        parts: list[str] = []
        here: Path | None = self
        while here is not None and here.last is not None:
            if isinstance(here.last, int):
                parts.append(index_form.format(here.last))
            else:
                parts.append("." + here.last)
            here = here.parent
        if not parts:
            return ANONYMOUS
        return "".join(reversed(parts)).removeprefix(".")

    @property
    def short(self) -> str:
        """The last name alone; "null" for an element of a list."""
        return self.last if isinstance(self.last, str) else texts.NO_NAME


class Scalars(Protocol):
    """How a flavour of input spells scalars."""

    #: how an index shows in a path
    index_form: str

    def scalar(self, type: BuiltinType, value: Any, path: Path) -> Any:
        """`value` converted to `type`. Raises QapiError."""

    def string(self, value: Any, path: Path) -> str:
        """`value` as a string. Raises QapiError."""


class JsonScalars:
    """Scalars as JSON has them."""

    index_form = "[{}]"

    def scalar(self, type: BuiltinType, value: Any, path: Path) -> Any:
        """See `Scalars`."""
        if type.json_type == "int":
            return self._integer(type.name, value, path)
        if type.json_type == "value":
            return value
        if type.json_type == "string":
            return self.string(value, path)
        if type.json_type == "boolean":
            return self._of(value, isinstance(value, bool), path, "boolean")
        if type.json_type == "null":
            return self._of(value, value is None, path, "null")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return self._of(value, number, path, "number")

    def string(self, value: Any, path: Path) -> str:
        """See `Scalars`."""
        return str(self._of(value, isinstance(value, str), path, "string"))

    def _of(self, value: Any, good: bool, path: Path, expected: str) -> Any:
        if not good:
            raise QapiError(texts.invalid_parameter_type(path.text(), expected))
        return value

    def _integer(self, name: str, value: Any, path: Path) -> int:
        signed = not name.startswith("u") and name != "size"
        low, high = INTEGER_RANGES["int64"]
        if not signed:
            high = INTEGER_RANGES["uint64"][1]
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        if signed:
            if not good:
                raise QapiError(texts.invalid_parameter_type(path.text(), "integer"))
        elif not good:
            raise QapiError(texts.parameter_expects(path.text(), "uint64"))
        elif value < 0:
            value += 1 << 64
        return check_range(name, value, path)


def check_range(name: str, value: int, path: Path) -> int:
    """`value` if integer type `name` can hold it. Raises QapiError."""
    low, high = INTEGER_RANGES[name]
    if not low <= value <= high:
        raise QapiError(texts.parameter_expects(path.short, f"{name}_t"))
    return value


class Visitor:
    """One walk over one value."""

    def __init__(self, scalars: Scalars, policy: CompatPolicy = ACCEPT_ALL) -> None:
        self._scalars = scalars
        self._policy = policy
        #: what is still visited in this turn
        self._left = _SLICE

    def visit(self, type: Type, value: Any, path: Path) -> Any:
        """`value` checked and converted, in one piece. Raises QapiError."""
        return in_one_piece(self.walk(type, value, path))

    def walk(self, type: Type, value: Any, path: Path) -> Walk:
        """The same in pieces. Raises QapiError."""
        if isinstance(type, BuiltinType | EnumType):
            return self._scalar(type, value, path)
        if isinstance(type, ArrayType):
            return (yield from self._array(type, value, path))
        if isinstance(type, AlternateType):
            for each in type.members:
                if is_kind(each, value):
                    return (yield from self.walk(each, value, path))
            raise QapiError(texts.invalid_parameter_type(path.short, type.name))
        return (yield from self._object(type, value, path))

    def _scalar(self, type: BuiltinType | EnumType, value: Any, path: Path) -> Any:
        self._left -= 1
        if isinstance(type, BuiltinType):
            return self._scalars.scalar(type, value, path)
        text = self._scalars.string(value, path)
        if text not in type.values:
            raise QapiError(texts.value_not_accepted(path.short, text))
        if text in type.features:
            self._policy.check_input(type.features[text], "value", text)
        return text

    def _array(self, type: ArrayType, value: Any, path: Path) -> Walk:
        if not isinstance(value, list):
            raise QapiError(texts.invalid_parameter_type(self._text(path), "array"))
        if len(value) > _MANY and self._all_good(type.element, value):
            return [*value]
        checked = []
        for index, each in enumerate(value):
            if self._left <= 0:
                self._left = _SLICE
                yield
            if isinstance(type.element, BuiltinType | EnumType):
                checked.append(self._scalar(type.element, each, path.element(index)))
            else:
                checked.append((yield from self.walk(type.element, each, path.element(index))))
        return checked

    def _all_good(self, element: Type, value: list[Any]) -> bool:
        """Whether elements are what is wanted as they are, seen without a look at each alone."""
        if not isinstance(self._scalars, JsonScalars):
            return False
        kinds = set(map(type, value))
        if isinstance(element, EnumType):
            return kinds == {str} and not element.features and set(value) <= set(element.values)
        if not isinstance(element, BuiltinType):
            return False
        if element.json_type == "string":
            return kinds == {str}
        if element.json_type != "int" or kinds != {int}:
            return False
        low, high = INTEGER_RANGES[element.name]
        return bool(max(low, 0) <= min(value) and max(value) <= high)

    def _object(self, type: ObjectType, value: Any, path: Path) -> Walk:
        if not isinstance(value, dict):
            raise QapiError(texts.invalid_parameter_type(self._text(path), "object"))
        self._left -= 1
        checked: dict[str, Any] = {}
        part: ObjectType | None = type
        while part is not None:
            for member in part.members:
                here = path.member(member.name)
                if member.name in value:
                    self._policy.check_input(member.feature, "parameter", member.name)
                    kind, inner = member.type, value[member.name]
                    if isinstance(kind, BuiltinType | EnumType):
                        checked[member.name] = self._scalar(kind, inner, here)
                    else:
                        checked[member.name] = yield from self.walk(kind, inner, here)
                elif not member.optional:
                    self._policy.check_input(member.feature, "parameter", member.name)
                    raise QapiError(texts.missing_parameter(self._text(here)))
            tag = checked.get(part.tag) if part.tag is not None else None
            part = part.variant(tag) if tag is not None else None
        if len(checked) != len(value):
            left = yield from qdict.first_unvisited(value, checked)
            assert left is not None
            raise QapiError(texts.unexpected_parameter(self._text(path.member(left))))
        return checked

    def _text(self, path: Path) -> str:
        return path.text(self._scalars.index_form)


def is_kind(type: Type, value: Any) -> bool:
    """Whether an alternate takes this branch for `value`."""
    if isinstance(type, ObjectType):
        return isinstance(value, dict)
    if isinstance(type, ArrayType):
        return isinstance(value, list)
    if isinstance(type, EnumType):
        return isinstance(value, str)
    if not isinstance(type, BuiltinType):
        return False
    kinds: dict[str, Callable[[Any], bool]] = {
        "string": lambda each: isinstance(each, str),
        "boolean": lambda each: isinstance(each, bool),
        "null": lambda each: each is None,
        "value": lambda _: True,
    }
    if type.json_type in kinds:
        return kinds[type.json_type](value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_value(
    schema: Schema,  # noqa: ARG001
    type: Type,
    value: Any,
    name: str = "",
    policy: CompatPolicy = ACCEPT_ALL,
) -> Any:
    """`value` checked against `type` and converted; `name` starts the path in texts.

    Raises QapiError.
    """
    path = Path(None, name or None)
    return in_one_piece(_deep(Visitor(JsonScalars(), policy), type, value, path))


def check_arguments(
    schema: Schema,
    command: str,
    arguments: dict[str, Any],
    policy: CompatPolicy = ACCEPT_ALL,
) -> dict[str, Any]:
    """The arguments of `command`, checked and converted; a copy. Raises QapiError.

    Commands whose arguments QEMU does not check get them as they are.
    """
    checked: dict[str, Any] = in_one_piece(walk_arguments(schema, command, arguments, policy))
    return checked


def walk_arguments(
    schema: Schema,
    command: str,
    arguments: dict[str, Any],
    policy: CompatPolicy = ACCEPT_ALL,
) -> Walk:
    """`check_arguments` in pieces."""
    info = schema.commands[command]
    if not info.checked:
        return dict(arguments)
    visitor = Visitor(JsonScalars(), policy)
    return (yield from _deep(visitor, info.arg_type, arguments, Path(None, None)))


def in_one_piece(walk: Walk) -> Any:
    """What a walk returns."""
    while True:
        try:
            next(walk)
        except StopIteration as end:
            return end.value


def _deep(visitor: Visitor, type: Type, value: Any, path: Path) -> Walk:
    """Visit, with room for input nested as deep as the parser allows if it needs it."""
    try:
        return (yield from visitor.walk(type, value, path))
    except RecursionError:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _DEEP))
        try:
            return visitor.visit(type, value, path)
        finally:
            sys.setrecursionlimit(limit)
