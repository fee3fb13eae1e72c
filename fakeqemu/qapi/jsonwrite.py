"""JSON in QEMU's exact output form.

Members in QEMU's order (see `qdict`), `", "` and `": "`, everything but printable ASCII
escaped in upper-case hexadecimal, doubles with 17 digits. Infinity comes out as a bare
`inf`, as it does there. The line end (CR LF) is the monitor's affair.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from fakeqemu.qapi import qdict, utf8

_SPECIAL = re.compile(rf"{utf8.NUL}|[^ !#-\[\]-~]")
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SHORT[utf8.NUL] = "\\u0000"


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}"
    if 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code >= 0xFFFE:
        code = 0xFFFD
    return f"\\u{code:04X}"


def quote(text: str) -> str:
    """`text` as a JSON string."""
    # most strings need no escape, which the interpreter's own encoder knows faster
    plain = encode_basestring_ascii(text)
    if "\\" not in plain and "\x7f" not in plain:
        return plain
    return f'"{_SPECIAL.sub(_escape, text)}"'


def number(value: float) -> str:
    """A double as QEMU prints it: `1`, `0.10000000000000001`, `1e+100`, `inf`."""
    if math.isnan(value):
        return "-nan" if math.copysign(1, value) < 0 else "nan"
    return f"{value:.17g}"


class Fixed(list[Any]):
    """A long list that never changes: its text is made once."""

    def __init__(self, members: Iterable[Any]) -> None:
        super().__init__(members)
        self._text = ""

    @property
    def text(self) -> str:
        """The list as QEMU writes it, without line ends."""
        if not self._text:
            self._text = encode([*self])
        return self._text


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    raise TypeError(f"not a JSON value: {value!r}")


_CONTAINERS = (dict, list, tuple)
#: a container under way: its members left, what stands between two of them and after the last
_Open = tuple[Iterator[tuple[str, Any]], str, str]


def encode(value: Any, pretty: bool = False) -> str:
    r"""`value` as QEMU writes it; `pretty` indents by four, with `\n` between lines.

    Nested as deep as the parser allows, hence no recursion.
    """
    out: list[str] = []
    members: Iterator[tuple[str, Any]] = iter((("", value),))
    between, closing, separator = "", "", ""
    outer: list[_Open] = []
    while True:
        for name, item in members:
            if not isinstance(item, _CONTAINERS):
                out.append(separator + name + _scalar(item))
                separator = between
                continue
            if isinstance(item, Fixed) and not pretty:
                out.append(separator + name + item.text)
                separator = between
                continue
            outer.append((members, between, closing))
            first, then, last = _layout(len(outer) - 1, pretty)
            bracket, end = "{}" if isinstance(item, dict) else "[]"
            out.append(separator + name + bracket)
            members, between = _members(item), then
            separator, closing = (first, last + end) if item else ("", last + end)
            break
        else:
            if not outer:
                return "".join(out)
            out.append(closing)
            members, between, closing = outer.pop()
            separator = between


def _members(item: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(item, dict):
        return iter([("", each) for each in item])
    if len(item) > _MOST_KEYS:
        return iter([(quote(key) + ": ", each) for key, each in qdict.items(item)])
    return iter([(name, item[key]) for key, name in _order(tuple(item))])


#: objects with more members than that come from clients, and do not come again
_MOST_KEYS = 64


@lru_cache(maxsize=1024)
def _order(keys: tuple[str, ...]) -> list[tuple[str, str]]:
    """The keys of an object in QEMU's order, each with what is written before its value."""
    return [(key, quote(key) + ": ") for key, _ in qdict.items(dict.fromkeys(keys))]


def _layout(depth: int, pretty: bool) -> tuple[str, str, str]:
    """What stands before the first member, between two and after the last."""
    if not pretty:
        return "", ", ", ""
    inner = "\n" + "    " * (depth + 1)
    return inner, "," + inner, "\n" + "    " * depth
