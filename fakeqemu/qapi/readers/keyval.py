"""`key=value,...`: QEMU's structured option strings, and their strings as typed values.

Dots make objects, numbers make lists (`a.b=1,c.0=x,c.1=y`), a doubled comma is a comma, the last
of equal keys wins. There is no way to write null, an empty list or a number as such: what a
string means is decided by the type that it meets (`check_keyval`). See util/keyval.c:
keyval_parse() and qapi/qobject-input-visitor.c: qobject_input_visitor_new_keyval().
"""

from __future__ import annotations

import re
from typing import Any

from fakeqemu.qapi import qdict, texts
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.policy import ACCEPT_ALL, CompatPolicy
from fakeqemu.qapi.readers.scalars import (
    SizeTraits,
    digits,
    parse_double,
    parse_int64,
    parse_size,
    parse_switch,
    parse_uint64,
)
from fakeqemu.qapi.schema import BuiltinType, Type
from fakeqemu.qapi.visitor import Path, Visitor, check_range

_NAME = re.compile(r"(?:__[A-Za-z0-9.-]*_)?[A-Za-z][A-Za-z0-9_-]*")
_INDEX = re.compile(r"[0-9]+")
_VALUE = re.compile(r"(?:[^,]|,,)*")
_LONGEST_FRAGMENT = 127
_INT_MAX = (1 << 31) - 1
_HELP = ("help", "?")


def parse_keyval(text: str, implied_key: str | None = None) -> dict[str, Any]:
    """`text` as nested dicts and lists of strings.

    The first part may leave out `implied_key=`. Raises QapiError, also for a part that is
    `help` or `?`.
    """
    values, help_wanted = parse_keyval_help(text, implied_key)
    if help_wanted:
        raise QapiError(texts.HELP_NOT_AVAILABLE)
    return values


def parse_keyval_help(text: str, implied_key: str | None = None) -> tuple[dict[str, Any], bool]:
    """As `parse_keyval`, with whether help was asked for instead of an error."""
    values: dict[str, Any] = {}
    help_wanted = False
    at = 0
    while at < len(text):
        head = re.compile(r"[^=,]*").match(text, at)
        assert head is not None
        key, end = head.group(), head.end()
        if key and text[end : end + 1] != "=":
            if key in _HELP:
                help_wanted = True
                at = end + 1
                implied_key = None
                continue
            if implied_key is not None:
                _put(values, implied_key, key)
                at = end + 1
                implied_key = None
                continue
        implied_key = None
        path = _fragments(key)
        if text[end : end + 1] != "=":
            raise QapiError(f"Expected '=' after parameter '{key}'")
        value = _VALUE.match(text, end + 1)
        assert value is not None
        _put(values, key, value.group().replace(",,", ","), path)
        at = value.end() + 1
    listed = _with_lists(values, "")
    assert isinstance(listed, dict)
    return listed, help_wanted


def merge(
    into: dict[str, Any], other: dict[str, Any], prefix: str = "", *, parsed: bool = False
) -> None:
    """Lay `other` over `into`: objects member by member, lists one after the other.

    `parsed`: as if its text were read into `into`, which puts members in the order in which they
    are written. See util/keyval.c: keyval_merge() and keyval_parse_into().
    Raises QapiError where the two disagree about what a key is.
    """
    for key, value in other.items() if parsed else qdict.items(other):
        old = into.get(key)
        if old is None:
            into[key] = value
        elif type(old) is not type(value):
            raise QapiError(f"Parameter '{prefix}{key}' used inconsistently")
        elif isinstance(value, dict):
            merge(old, value, f"{prefix}{key}.", parsed=parsed)
        elif isinstance(value, list):
            old.extend(value)
        else:
            into[key] = value


def _fragments(key: str) -> list[str]:
    """`key` in its parts. Raises QapiError."""
    fragments: list[str] = []
    at = 0
    while True:
        match = _INDEX.match(key, at) if at else None
        match = match or _NAME.match(key, at)
        end = match.end() if match is not None else at
        if match is None or (end < len(key) and key[end] != "."):
            raise QapiError(texts.invalid_parameter(key))
        if end - at > _LONGEST_FRAGMENT:
            part = " fragment" if at or end < len(key) else ""
            raise QapiError(f"Parameter{part} '{match.group()}' is too long")
        fragments.append(match.group())
        if end == len(key):
            return fragments
        at = end + 1


def _put(values: dict[str, Any], key: str, value: str, fragments: list[str] | None = None) -> None:
    fragments = fragments if fragments is not None else [key]
    here = values
    shown = 0
    for fragment in fragments[:-1]:
        shown += len(fragment)
        inner = here.setdefault(fragment, {})
        if not isinstance(inner, dict):
            raise QapiError(f"Parameters '{key[:shown]}.*' used inconsistently")
        here = inner
        shown += 1
    if isinstance(here.get(fragments[-1]), dict):
        raise QapiError(f"Parameters '{key}.*' used inconsistently")
    here[fragments[-1]] = value


def _with_lists(values: dict[str, Any], prefix: str) -> dict[str, Any] | list[Any]:
    """Objects whose keys are all numbers become lists. Raises QapiError."""
    for key, value in qdict.items(values):
        if isinstance(value, dict):
            values[key] = _with_lists(value, f"{prefix}{key}.")
    indices = {key: number for key in values if (number := digits(key)) is not None}
    if not indices:
        return values
    if len(indices) != len(values):
        raise QapiError(f"Parameters '{prefix}*' used inconsistently")
    numbered = {min(number, _INT_MAX): values[key] for key, number in indices.items()}
    for index in range(len(values)):
        if index not in numbered:
            raise QapiError(f"Parameter '{prefix}{index}' missing")
    return [numbered[index] for index in range(len(values))]


class KeyvalScalars:
    """Scalars as strings."""

    index_form = ".{}"

    def __init__(self, traits: SizeTraits) -> None:
        self._traits = traits

    def scalar(self, type: BuiltinType, value: Any, path: Path) -> Any:
        """See `visitor.Scalars`."""
        if type.json_type == "value":
            return value
        if type.json_type == "null":
            if value is not None:
                raise QapiError(texts.invalid_parameter_type(self._text(path), "null"))
            return None
        text = self.string(value, path)
        if type.json_type == "string":
            return text
        if type.json_type == "int":
            return self._integer(type.name, text, path)
        try:
            if type.json_type == "boolean":
                return parse_switch(text)
            return parse_double(text)
        except ValueError:
            if type.json_type == "boolean":
                what = texts.BOOL_EXPECTED
                raise QapiError(texts.parameter_expects(self._text(path), what)) from None
            raise QapiError(texts.invalid_parameter_type(self._text(path), "number")) from None

    def string(self, value: Any, path: Path) -> str:
        """See `visitor.Scalars`."""
        if isinstance(value, str):
            return value
        if isinstance(value, dict | list):
            raise QapiError(f"Parameters '{self._text(path)}.*' are unexpected")
        raise QapiError(f"Internal error: parameter {self._text(path)} invalid")

    def _integer(self, name: str, text: str, path: Path) -> int:
        try:
            if name == "size":
                return parse_size(text, self._traits)
            value = parse_uint64(text) if name[0] == "u" else parse_int64(text)
        except ValueError:
            what = "size" if name == "size" else "integer"
            raise QapiError(texts.parameter_expects(self._text(path), what)) from None
        return check_range(name, value, path)

    def _text(self, path: Path) -> str:
        return path.text(self.index_form)


def check_keyval(
    type: Type,
    values: Any,
    traits: SizeTraits,
    name: str = "",
    policy: CompatPolicy = ACCEPT_ALL,
) -> Any:
    """What `parse_keyval` gave, checked against `type` and converted. Raises QapiError."""
    visitor = Visitor(KeyvalScalars(traits), policy)
    return visitor.visit(type, values, Path(None, name or None))
