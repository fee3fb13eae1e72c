"""Values given as one bare string: `-global` properties and HMP's migrate_set_parameter.

QEMU reads both with its string visitor, whose rules differ from QMP's and from key=value's:
an integer that is no number "expects uint64" whatever its width, sizes come with a hint of
three lines, negative integers wrap before the width is checked. One table by type name says
how each is read. See qapi/string-input-visitor.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import (
    SIZE_HINT,
    OutOfRangeError,
    SizeTraits,
    parse_int64,
    parse_size,
    parse_switch,
    parse_uint64,
)

_SIGNED = frozenset({"int", "int8", "int16", "int32", "int64"})
#: bits of each unsigned type
WIDTHS = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}


def parse_string(
    type_name: str, text: str, name: str, traits: SizeTraits, values: Sequence[str] = ()
) -> Any:
    """`text` as a value of QOM or QAPI scalar type `type_name`; errors blame `name`.

    `values` are the enum's names when the type is an enum. Raises QapiError.
    """
    if type_name == "bool":
        try:
            return parse_switch(text)
        except ValueError:
            raise QapiError(texts.parameter_expects(name, texts.BOOL_EXPECTED)) from None
    if type_name == "size":
        try:
            return parse_size(text, traits)
        except ValueError as exc:
            raise size_error(name, text, exc) from None
    if type_name in WIDTHS:
        try:
            number = parse_uint64(text)
        except ValueError:
            raise QapiError(f"Parameter '{name}' expects uint64") from None
        if number >> WIDTHS[type_name]:
            raise QapiError(f"Parameter '{name}' expects {type_name}_t")
        return number
    if type_name in _SIGNED:
        try:
            return parse_int64(text)
        except ValueError:
            raise QapiError(f"Parameter '{name}' expects int64") from None
    if values:
        if text not in values:
            raise QapiError(f"Parameter '{name}' does not accept value '{text}'")
        return text
    return text


def size_error(name: str, text: str, error: ValueError) -> QapiError:
    """What is said of a size that `parse_size` refused.

    See util/qemu-option.c: parse_option_size().
    """
    if isinstance(error, OutOfRangeError):
        return QapiError(f"Value '{text}' is out of range for parameter '{name}'")
    what = texts.parameter_expects(name, "a non-negative number below 2^64")
    return QapiError(what, SIZE_HINT)
