"""JSON in QEMU's exact output form.

Members in QEMU's order (see `qdict`), `", "` and `": "`, everything but printable ASCII
escaped in upper-case hexadecimal, doubles with 17 digits. Infinity comes out as a bare
`inf`, as it does there. The line end (CR LF) is the monitor's affair.
"""

from __future__ import annotations

import math
import re
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
    return f'"{_SPECIAL.sub(_escape, text)}"'


def number(value: float) -> str:
    """A double as QEMU prints it: `1`, `0.10000000000000001`, `1e+100`, `inf`."""
    if math.isnan(value):
        return "-nan" if math.copysign(1, value) < 0 else "nan"
    return f"{value:.17g}"


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


def encode(value: Any, pretty: bool = False) -> str:
    r"""`value` as QEMU writes it; `pretty` indents by four, with `\n` between lines.

    Nested as deep as the parser allows, hence no recursion.
    """
    out: list[str] = []
    # what is still to be written, last first: text, whether a value follows, its depth, itself
    todo: list[tuple[str, bool, int, Any]] = [("", True, 0, value)]
    while todo:
        text, has_value, depth, item = todo.pop()
        out.append(text)
        if not has_value:
            continue
        if not isinstance(item, dict | list | tuple):
            out.append(_scalar(item))
            continue
        first, between, last = _layout(depth, pretty)
        if isinstance(item, dict):
            opening, closing = "{", "}"
            members = [(quote(key) + ": ", each) for key, each in qdict.items(item)]
        else:
            opening, closing = "[", "]"
            members = [("", each) for each in item]
        todo.append((last + closing, False, 0, None))
        for index in range(len(members) - 1, 0, -1):
            todo.append((between + members[index][0], True, depth + 1, members[index][1]))
        if members:
            todo.append((opening + first + members[0][0], True, depth + 1, members[0][1]))
        else:
            out.append(opening)
    return "".join(out)


def _layout(depth: int, pretty: bool) -> tuple[str, str, str]:
    """What stands before the first member, between two and after the last."""
    if not pretty:
        return "", ", ", ""
    inner = "\n" + "    " * (depth + 1)
    return inner, "," + inner, "\n" + "    " * depth
