"""Numbers as strings, read as the C library and QEMU's helpers read them.

All raise ValueError; what to say about it is the caller's affair.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_U64 = 1 << 64
_SPACE = r"[ \t\n\v\f\r]*"
_INTEGER = re.compile(_SPACE + r"([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)\Z")
_NUMBER = re.compile(_SPACE + r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_HEX_FLOAT = re.compile(
    _SPACE + r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?\Z"
)
_SIZE = re.compile(_SPACE + r"\+?([0-9]+)(?:\.([0-9]*))?([bBkKmMgGtTpPeE]?)\Z")
_BARE_FRACTION = re.compile(_SPACE + r"\.([0-9]+)([bBkKmMgGtTpPeE]?)\Z")
_HEX_SIZE = re.compile(_SPACE + r"\+?0[xX]([0-9a-fA-F]+)([bBkKmMgGtTpPeE]?)\Z")
_UNITS = "bkmgtpe"

#: what QEMU takes for a switch
BOOLEANS = {
    "on": True, "yes": True, "true": True, "y": True,
    "off": False, "no": False, "false": False, "n": False,
}  # fmt: skip


#: decimal digits that no integer type of C can hold, nor Python convert in passing
_TOO_MANY = 40


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


def _magnitude(digits: str) -> int:
    if digits[:2] in ("0x", "0X"):
        return int(digits, 16)
    if len(digits) > 1 and digits[0] == "0":
        return int(digits, 8)
    return int(digits) if len(digits) < _TOO_MANY else _U64


def parse_int(text: str) -> int:
    """A signed 64-bit number; 0x and 0 are prefixes of a base."""
    match = _INTEGER.match(text)
    if match is None:
        raise ValueError(text)
    value = _magnitude(match[2]) * (-1 if match[1] == "-" else 1)
    if not -(_U64 >> 1) <= value < _U64 >> 1:
        raise ValueError(text)
    return value


def parse_uint(text: str) -> int:
    """An unsigned 64-bit number; with a minus sign what is left to 2^64."""
    match = _INTEGER.match(text)
    if match is None:
        raise ValueError(text)
    value = _magnitude(match[2])
    if value >= _U64:
        raise ValueError(text)
    return -value % _U64 if match[1] == "-" else value


def parse_bool(text: str) -> bool:
    """on, yes, true, y or off, no, false, n."""
    try:
        return BOOLEANS[text]
    except KeyError:
        raise ValueError(text) from None


def parse_number(text: str) -> float:
    """A finite double."""
    if _NUMBER.match(text):
        value = float(text)
    elif _HEX_FLOAT.match(text):
        value = float.fromhex(text.strip(" \t\n\v\f\r"))
    else:
        raise ValueError(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def parse_size(text: str, *, hex_suffix: bool = False) -> int:
    """A number of bytes: 4096, 0x1000, 4k, 1.5G (powers of 1024).

    A fraction needs a unit above one byte. A hexadecimal number takes a unit only with
    `hex_suffix`; as its digits, b and e are taken for digits anyway.
    """
    if (match := _HEX_SIZE.match(text)) is not None:
        if match[2] and not hex_suffix:
            raise ValueError(text)
        value, unit = Fraction(int(match[1], 16)), match[2]
    elif (match := _SIZE.match(text)) is not None:
        fraction = match[2] or "0"
        value = int(match[1]) + Fraction(int(fraction), 10 ** len(fraction))
        unit = match[3]
    elif (match := _BARE_FRACTION.match(text)) is not None:
        value, unit = Fraction(int(match[1]), 10 ** len(match[1])), match[2]
    else:
        raise ValueError(text)
    scale = 1024 ** _UNITS.index(unit.lower()) if unit else 1
    if scale == 1 and value.denominator != 1:
        raise ValueError(text)
    size = math.floor(value * scale + Fraction(1, 2))
    if size >= _U64:
        raise ValueError(text)
    return size
