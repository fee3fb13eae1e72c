"""Option strings read as a schema type: the flat, forgiving way of `-object` and `-netdev`.

Unlike key=value input of the newer kind there are no nested keys: every member, of an inner
object too, is looked up by its own name among all keys. A repeated key is a list for a list
member and the last one for any other; lists of numbers take ranges (`0-3`). The texts are
this visitor's own. Of several keys that nobody asks for the one is reported that a walk of the
table of keys meets first. See qapi/opts-visitor.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fakeqemu.qapi import reads, texts
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.qdict import NameTable
from fakeqemu.qapi.readers.scalars import SizeTraits, parse_size, parse_switch, parse_uint64
from fakeqemu.qapi.schema import (
    INTEGER_RANGES,
    ArrayType,
    BuiltinType,
    EnumType,
    ObjectType,
    Type,
)
from fakeqemu.qapi.visitor import Path, check_range

_LARGEST_RANGE = 65536
_NUMBER = r"\s*[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+)"
_RANGE = rf"({_NUMBER})-({_NUMBER})\Z"


def visit_options(
    pairs: Iterable[tuple[str, str]],
    id: str | None,
    type: ObjectType,
    traits: SizeTraits,
    scope: str,
) -> dict[str, Any]:
    """The keys of one option, and its id, as a value of `type`. Raises QapiError.

    `scope`: what the members belong to, where reads of them are noted (`qapi.reads`).
    """
    values = _OptionsVisitor(pairs, id, traits).visit(type)
    if reads.log is not None:
        values = reads.log.typed(type, values, scope)
    return values


class _OptionsVisitor:
    def __init__(
        self, pairs: Iterable[tuple[str, str]], id: str | None, traits: SizeTraits
    ) -> None:
        self._traits = traits
        #: keys nobody has asked for yet -> their texts in order
        self._left: dict[str, list[str]] = {}
        for key, text in pairs:
            self._left.setdefault(key, []).append(text)
        if id is not None:
            self._left["id"] = [id]
        self._table = NameTable(self._left)

    def visit(self, type: ObjectType) -> dict[str, Any]:
        value = self._object(type)
        if self._left:
            raise QapiError(texts.invalid_parameter(self._table.first()))
        return value

    def _processed(self, name: str) -> None:
        del self._left[name]
        self._table.discard(name)

    def _object(self, type: ObjectType) -> dict[str, Any]:
        value: dict[str, Any] = {}
        self._members(type, value)
        return value

    def _members(self, type: ObjectType, value: dict[str, Any]) -> None:
        for member in type.members:
            if member.name in self._left:
                value[member.name] = self._member(member.name, member.type)
            elif not member.optional:
                if isinstance(member.type, ObjectType):
                    value[member.name] = self._object(member.type)
                else:
                    raise QapiError(texts.missing_parameter(member.name))
        if type.tag is not None and type.tag in value:
            variant = type.variant(value[type.tag])
            if variant is not None:
                self._members(variant, value)

    def _member(self, name: str, type: Type) -> Any:
        if isinstance(type, ArrayType):
            return self._list(name, type.element)
        if isinstance(type, ObjectType):
            # the key itself stays unread, and is reported at the end
            return self._object(type)
        value = self._scalar(name, type, self._left[name][-1], in_list=False)
        self._processed(name)
        return value

    def _list(self, name: str, element: Type) -> list[Any]:
        values: list[Any] = []
        for text in self._left[name]:
            if isinstance(element, ObjectType):
                values.append(self._wrapped(name, element, text))
                continue
            span = re.match(_RANGE, text)
            if span and isinstance(element, BuiltinType) and element.json_type == "int":
                values.extend(self._range(name, element, span))
            else:
                values.append(self._scalar(name, element, text, in_list=True))
        self._processed(name)
        return values

    def _wrapped(self, name: str, element: ObjectType, text: str) -> dict[str, Any]:
        """A list of objects with one scalar each, such as `[{"str": ...}]`."""
        member = element.members[0]
        return {member.name: self._scalar(name, member.type, text, in_list=True)}

    def _range(self, name: str, type: BuiltinType, span: re.Match[str]) -> range:
        first = self._integer(name, type, span[1], in_list=True)
        last = self._integer(name, type, span[2], in_list=True)
        if not first <= last < first + _LARGEST_RANGE:
            raise self._bad_integer(name, type, in_list=True)
        return range(first, last + 1)

    def _scalar(self, name: str, type: Type, text: str, *, in_list: bool) -> Any:
        if isinstance(type, EnumType):
            if text not in type.values:
                raise QapiError(texts.value_not_accepted(name, text))
            return text
        if not isinstance(type, BuiltinType):
            return text
        if type.json_type == "boolean":
            try:
                return parse_switch(text)
            except ValueError:
                raise QapiError(texts.parameter_expects(name, texts.BOOL_EXPECTED)) from None
        if type.name == "size":
            try:
                return parse_size(text, self._traits)
            except ValueError as exc:
                raise QapiError(texts.parameter_expects(name, "a size value")) from exc
        if type.json_type == "int":
            return self._integer(name, type, text, in_list=in_list)
        return text

    def _integer(self, name: str, type: BuiltinType, text: str, *, in_list: bool) -> int:
        try:
            value = parse_uint64(text)
        except ValueError as exc:
            raise self._bad_integer(name, type, in_list) from exc
        if INTEGER_RANGES[type.name][0] < 0:
            if text.lstrip().startswith("-"):
                value -= 1 << 64
            if not -(1 << 63) <= value < 1 << 63:
                raise self._bad_integer(name, type, in_list)
        elif text.lstrip().startswith("-") and not in_list:
            raise self._bad_integer(name, type, in_list)
        return check_range(type.name, value, Path(None, name))

    def _bad_integer(self, name: str, type: BuiltinType, in_list: bool) -> QapiError:
        what = "an int64 value" if INTEGER_RANGES[type.name][0] < 0 else "a uint64 value"
        return QapiError(texts.parameter_expects(name, what + (" or range" if in_list else "")))
