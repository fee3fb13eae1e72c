"""Integers, sizes, floating-point numbers, switches and identifiers as QEMU reads them.

A function named after a C one returns the value and how many characters it took, for callers that
go on behind it; the `parse_` functions take the whole text or refuse it. See util/cutils.c,
qapi/qapi-util.c: qapi_bool_parse(), util/id.c: id_wellformed().
"""

from __future__ import annotations

import math
import re
from typing import Protocol, TypeVar

T = TypeVar("T")

_U64 = 1 << 64
_I64_MAX = (1 << 63) - 1
#: digits that no integer type of C can hold, nor Python convert in passing
_TOO_MANY = 70
_SPACE = r"[ \t\n\v\f\r]*"
#: what strtoull() takes by base: 0x and 0 are prefixes with base 0 (and 0x with 16)
_DIGITS = {
    0: re.compile(_SPACE + r"([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)"),
    10: re.compile(_SPACE + r"([+-]?)([0-9]+)"),
    16: re.compile(_SPACE + r"([+-]?)((?:0[xX])?[0-9a-fA-F]+)"),
}
_FLOAT = (
    r"(?i)" + _SPACE + r"[+-]?"
    r"(?:0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?"
    r"|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
    r"|inf(?:inity)?|nan(?:\(\w*\))?)"
)
_FRACTION = r"[+-]?[0-9]*\.[0-9]+"
_UNITS = "bkmgtpe"
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")

#: what QEMU takes for a switch
_SWITCHES = {
    "on": True, "yes": True, "true": True, "y": True,
    "off": False, "no": False, "false": False, "n": False,
}  # fmt: skip

SIZE_HINT = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively."
)
IDENTIFIER_HINT = (
    "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."
)


class MalformedError(ValueError):
    """Not such a value, or something stands behind it (-EINVAL)."""


class OutOfRangeError(ValueError):
    """A value that does not fit (-ERANGE)."""


class SizeTraits(Protocol):
    """How a version reads sizes; see `Traits`."""

    @property
    def hex_size_suffix(self) -> bool:
        """0x10k is taken, with a warning."""

    @property
    def negative_size_out_of_range(self) -> bool:
        """-1 does not fit; else it is malformed."""

    @property
    def size_bare_fraction(self) -> bool:
        """A size may begin with its dot: .5k."""


def strtou64(text: str, base: int = 0) -> tuple[int, int]:
    """An unsigned number, a minus sign counting back from 2^64; base 0, 10 or 16.

    Raises MalformedError or OutOfRangeError. See util/cutils.c: qemu_strtou64().
    """
    negative, value, end = _digits(text, base)
    if value >= _U64:
        raise OutOfRangeError(text)
    return (-value % _U64 if negative else value), end


def strtoi64(text: str, base: int = 0) -> tuple[int, int]:
    """A signed number; base 0, 10 or 16.

    Raises MalformedError or OutOfRangeError. See util/cutils.c: qemu_strtoi64().
    """
    negative, value, end = _digits(text, base)
    value = -value if negative else value
    if not -_I64_MAX - 1 <= value <= _I64_MAX:
        raise OutOfRangeError(text)
    return value, end


def strtod(text: str) -> tuple[float, int]:
    """A finite double. Raises MalformedError, OutOfRangeError for one that is not finite.

    See util/cutils.c: qemu_strtod_finite().
    """
    match = re.match(_FLOAT, text)
    if match is None:
        raise MalformedError(text)
    found = match.group().strip(" \t\n\v\f\r")
    hexadecimal = found.lstrip("+-")[:2].lower() == "0x"
    value = float.fromhex(found) if hexadecimal else float(found.partition("(")[0])
    if not math.isfinite(value):
        raise OutOfRangeError(text)
    return value, match.end()


def strtosz(text: str, traits: SizeTraits, default_unit: str = "b") -> tuple[int, int]:
    """A number of bytes: 4096, 0x1000, 4k, 1.5G (powers of 1024), .5 rounded up.

    A number without unit is in `default_unit`s. A fraction needs a unit above one byte. Raises
    MalformedError or OutOfRangeError. See util/cutils.c: do_strtosz().
    """
    whole, fraction, end = _mantissa(text, traits)
    unit = text[end : end + 1].lower()
    if unit and unit in _UNITS:
        end += 1
    else:
        unit = default_unit
    scale = 1024 ** _UNITS.index(unit)
    if scale == 1 and fraction:
        raise MalformedError(text)
    # 64 bits before and 64 bits behind the point, as QEMU computes it
    value = ((whole << 64 | fraction) * scale + (1 << 63 if scale > 1 else 0)) >> 64
    if value >= _U64:
        raise OutOfRangeError(text)
    return value, end


def parse_uint64(text: str) -> int:
    """All of `text` as an unsigned number. Raises MalformedError or OutOfRangeError."""
    return _whole(text, strtou64(text))


def parse_int64(text: str) -> int:
    """All of `text` as a signed number. Raises MalformedError or OutOfRangeError."""
    return _whole(text, strtoi64(text))


def parse_double(text: str) -> float:
    """All of `text` as a finite double. Raises MalformedError or OutOfRangeError."""
    return _whole(text, strtod(text))


def parse_size(text: str, traits: SizeTraits, default_unit: str = "b") -> int:
    """All of `text` as a number of bytes. Raises MalformedError or OutOfRangeError."""
    return _whole(text, strtosz(text, traits, default_unit))


def hex_suffix_warning(text: str, traits: SizeTraits) -> str | None:
    """What is said of a size in hexadecimal with a unit, where the version takes one.

    See util/cutils.c: do_strtosz() (7.2).
    """
    if not (traits.hex_size_suffix and re.match(r"\s*\+?0[xX][0-9a-fA-F]+[^0-9a-fA-F]\Z", text)):
        return None
    return f"Using a multiplier suffix on hex numbers is deprecated: {text}"


def parse_switch(text: str) -> bool:
    """on, yes, true, y or off, no, false, n, in lower case only. Raises MalformedError."""
    try:
        return _SWITCHES[text]
    except KeyError:
        raise MalformedError(text) from None


def is_identifier(text: str) -> bool:
    """Whether `text` may be an id that a user gives."""
    return _IDENTIFIER.match(text) is not None


def digits(text: str) -> int | None:
    """What ASCII digits alone stand for, None for any other text.

    Beyond 64 bits the number is some number beyond 64 bits: whatever it is for has no more.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    plain = text.lstrip("0") or "0"
    return int(plain) if len(plain) < _TOO_MANY else 1 << 128


def c_int(value: int) -> int:
    """`value` as it is once C has passed it on as an int: its low 32 bits, with their sign."""
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value


def _digits(text: str, base: int) -> tuple[bool, int, int]:
    match = _DIGITS[base].match(text)
    if match is None:
        raise MalformedError(text)
    sign, digits = match.groups()
    if base == 0:
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    plain = digits.lower().removeprefix("0x").lstrip("0") or "0"
    value = int(plain, base) if len(plain) < _TOO_MANY else _U64
    return sign == "-", value, match.end()


def _mantissa(text: str, traits: SizeTraits) -> tuple[int, int, int]:
    """What stands before the unit: whole part, fraction in 2^-64, and where the unit begins."""
    whole, end, digits = 0, 0, True
    try:
        negative, whole, end = _digits(text, 10)
    except MalformedError:
        if not traits.size_bare_fraction or "." not in text:
            raise
        negative, digits = False, False
    if whole >= _U64:
        raise OutOfRangeError(text)
    if negative:
        raise OutOfRangeError(text) if traits.negative_size_out_of_range else MalformedError(text)
    if digits and whole == 0 and text[end : end + 1] in ("x", "X"):
        whole, end = strtou64(text, 16)
        rest = text[end : end + 1].lower()
        if rest == "." or (rest and rest in _UNITS and not traits.hex_size_suffix):
            raise MalformedError(text)
        return whole, 0, end
    if digits and text[end : end + 1] != ".":
        return whole, 0, end
    if digits and not text[end + 1 : end + 2].isdigit():
        return whole, 0, end + 1
    found = re.match(_FRACTION, text[end:].lstrip(" \t\n\v\f\r") if not digits else text[end:])
    if found is None or (not digits and found.group().lstrip("+-")[0] != "."):
        raise MalformedError(text)
    if found.group()[0] == "-":
        raise OutOfRangeError(text)
    at = text.index(found.group(), end) + found.end()
    if not traits.size_bare_fraction and re.match(r"[eE][+-]?[0-9]", text[at:]):
        raise MalformedError(text)
    value = float(found.group())
    # a fraction that rounds to 1 carries; one too small for a bit behind the point still counts
    carry = value == 1.0
    behind = 0 if carry else max(int(value * 2.0**64), 1 if value > 0 else 0)
    return whole + carry, behind, at


def _whole(text: str, found: tuple[T, int]) -> T:
    value, end = found
    if end != len(text):
        raise MalformedError(text)
    return value
