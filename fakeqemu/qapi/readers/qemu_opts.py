"""Option strings of the older kind: `value,key=value,flag`, taken apart, and their typed values.

The first value may stand for an implied key, a key without value is a flag (deprecated, and `no`
before it means off), a doubled comma is a comma, `id` names the whole string. See
util/qemu-option.c: get_opt_name_value(), opt_validate() and the parse_option_*().
"""

from __future__ import annotations

from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers import scalars
from fakeqemu.qapi.readers.scalars import IDENTIFIER_HINT, OutOfRangeError, SizeTraits
from fakeqemu.qapi.readers.string_input import size_error


def split_first(text: str, implied: str | None) -> tuple[str, str, str, bool]:
    """The first key and value of `text`, the rest, and whether it was a flag."""
    end = next((i for i, c in enumerate(text) if c in "=,"), len(text))
    if end < len(text) and text[end] == "=":
        value, rest = _value(text[end + 1 :])
        return text[:end], value, rest, False
    if implied is not None:
        value, rest = _value(text)
        return implied, value, rest, False
    key, rest = text[:end], text[end + 1 :]
    if key.startswith("no"):
        return key[2:], "off", rest, True
    return key, "on", rest, True


def _value(text: str) -> tuple[str, str]:
    """A value up to the first single comma, and what comes after that."""
    value: list[str] = []
    position = 0
    while position < len(text):
        if text[position] == ",":
            if text[position + 1 : position + 2] != ",":
                return "".join(value), text[position + 1 :]
            position += 1
        value.append(text[position])
        position += 1
    return "".join(value), ""


def pairs_of(text: str, implied: str | None) -> list[tuple[str, str]]:
    """All keys and values of `text`, unjudged."""
    pairs = []
    while text:
        key, value, text, _ = split_first(text, implied)
        implied = None
        pairs.append((key, value))
    return pairs


def find_id(text: str) -> str | None:
    """The value of the first `id` in an option string."""
    return next((value for key, value in pairs_of(text, None) if key == "id"), None)


def check_identifier(id: str) -> None:
    """Raise QapiError unless `id` is well formed."""
    if not scalars.is_identifier(id):
        raise QapiError(texts.parameter_expects("id", "an identifier"), IDENTIFIER_HINT)


def parse_bool(key: str, value: str) -> bool:
    """`value` as on or off. Raises QapiError."""
    try:
        return scalars.parse_switch(value)
    except ValueError:
        raise QapiError(texts.parameter_expects(key, texts.BOOL_EXPECTED)) from None


def parse_number(key: str, value: str) -> int:
    """`value` as an unsigned 64-bit number. Raises QapiError."""
    try:
        return scalars.parse_uint64(value)
    except OutOfRangeError as exc:
        raise QapiError(f"Value '{value}' is too large for parameter '{key}'") from exc
    except ValueError as exc:
        raise QapiError(texts.parameter_expects(key, "a number")) from exc


def parse_size(key: str, value: str, traits: SizeTraits) -> int:
    """`value` as a number of bytes. Raises QapiError."""
    try:
        return scalars.parse_size(value, traits)
    except ValueError as exc:
        raise size_error(key, value, exc) from exc


def check_typed(key: str, kind: str, value: str, traits: SizeTraits) -> None:
    """Raise QapiError unless `value` is of the option type `kind`."""
    if kind == "boolean":
        parse_bool(key, value)
    elif kind == "number":
        parse_number(key, value)
    elif kind == "size":
        parse_size(key, value, traits)
