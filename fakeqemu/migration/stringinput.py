"""Values given as one bare string: `-global` properties and HMP's migrate_set_parameter.

QEMU reads both with its string visitor, whose rules differ from QMP's and from key=value's:
an integer that is no number "expects uint64" whatever its width, sizes come with a hint of
three lines, negative integers wrap before the width is checked. One table by type name says
how each is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from fakeqemu.qapi.errors import QapiError
from fakeqemu.traits import Traits

U64 = 1 << 64

#: bits of each unsigned type
WIDTHS = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}

_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)\Z")
_SIZE = re.compile(r"([0-9]*)(\.[0-9]*)?([bBkKmMgGtTpPeE]?)\Z")
_HEX_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+)([bBkKmMgGtTpPeE]?)\Z")
_SUFFIXES = "bkmgtpe"

SIZE_HINT = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively."
)


class SizeFormatError(ValueError):
    """Not a size at all."""


class SizeRangeError(ValueError):
    """A size that does not fit in 64 bits, or below zero."""


def parse_integer(text: str) -> int:
    """`text` as strtoull reads it: base prefix, a sign wraps modulo 2^64. Raises ValueError."""
    match = _INTEGER.match(text)
    if match is None:
        raise ValueError(text)
    sign, digits = match.groups()
    if digits[:2].lower() == "0x":
        value = int(digits, 16)
    elif digits[0] == "0" and len(digits) > 1:
        value = int(digits, 8)
    else:
        value = int(digits)
    if value >= U64:
        raise ValueError(text)
    return (U64 - value) % U64 if sign == "-" else value


def parse_size_text(text: str, traits: Traits, default_unit: int = 1) -> int:
    """`text` as a number of bytes: 0x1000, 10, 1.5M, 4k.

    A number without suffix is in units of `default_unit` bytes. A fraction needs a unit above
    one byte. Raises SizeFormatError or SizeRangeError.
    """
    stripped = text.lstrip(" \t\n\v\f\r")
    if stripped[:1] == "-" and stripped[1:2].isdigit():
        if traits.negative_size_out_of_range:
            raise SizeRangeError(text)
        raise SizeFormatError(text)
    stripped = stripped.removeprefix("+")
    match = _HEX_SIZE.match(stripped)
    if match is not None:
        digits, suffix = match.groups()
        if suffix.lower() not in ("", "b", "e") and not traits.hex_size_suffix:
            raise SizeFormatError(text)
        number = Fraction(int(digits, 16))
    else:
        match = _SIZE.match(stripped)
        if match is None:
            raise SizeFormatError(text)
        whole, fraction, suffix = match.groups()
        if not whole and not (traits.size_bare_fraction and fraction and len(fraction) > 1):
            raise SizeFormatError(text)
        number = Fraction(int(whole or "0"))
        if fraction and len(fraction) > 1:
            number += Fraction(int(fraction[1:]), 10 ** (len(fraction) - 1))
    unit = 1024 ** _SUFFIXES.index(suffix.lower()) if suffix else default_unit
    if unit == 1 and number.denominator != 1:
        raise SizeFormatError(text)
    value = int(number * unit)
    if value >= U64:
        raise SizeRangeError(text)
    return value


def parse_switch(text: str) -> bool | None:
    """on/yes/true/y and off/no/false/n, in lower case only; None for anything else."""
    if text in ("on", "yes", "true", "y"):
        return True
    if text in ("off", "no", "false", "n"):
        return False
    return None


def parse_string(
    type_name: str, text: str, name: str, traits: Traits, values: Sequence[str] = ()
) -> Any:
    """`text` as a value of QOM or QAPI scalar type `type_name`; errors blame `name`.

    `values` are the enum's names when the type is an enum. Raises QapiError.
    """
    if type_name == "bool":
        switch = parse_switch(text)
        if switch is None:
            raise QapiError(f"Parameter '{name}' expects 'on' or 'off'")
        return switch
    if type_name == "size":
        try:
            return parse_size_text(text, traits)
        except SizeRangeError:
            raise QapiError(f"Value '{text}' is out of range for parameter '{name}'") from None
        except SizeFormatError:
            what = f"Parameter '{name}' expects a non-negative number below 2^64"
            raise QapiError(what, SIZE_HINT) from None
    if type_name in WIDTHS:
        try:
            number = parse_integer(text)
        except ValueError:
            raise QapiError(f"Parameter '{name}' expects uint64") from None
        if number >> WIDTHS[type_name]:
            raise QapiError(f"Parameter '{name}' expects {type_name}_t")
        return number
    if values:
        if text not in values:
            raise QapiError(f"Parameter '{name}' does not accept value '{text}'")
        return text
    return text
