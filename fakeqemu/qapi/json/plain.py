r"""Messages that the interpreter's own scanner reads, because QEMU's reader would read the same.

Most messages are plain JSON: an object, in ASCII, without `\u` and complete. The scanner, in C, is
stricter than QEMU's reader about nearly everything, and what it refuses is left to that one: single
quotes, control bytes in strings, what is incomplete or wrong. Where it takes more (NaN, a key
twice, `0e1`, deeper nesting) or reads another value (integers beyond 64 bits) it is made to refuse,
or to read as QEMU does. So there is no text of an error here.

See qobject/json-lexer.c: json_lexer and qobject/json-streamer.c: MAX_NESTING.
"""

from __future__ import annotations

import re
from json.scanner import make_scanner
from typing import Any

from fakeqemu.qapi.json.parser import integer_of

#: containers that may be open at once
MAX_NESTING = 1024
#: input in one piece beyond which a message is read in several turns; and what is looked at of
#: input that opens more containers than may be open at once
_MOST, _PART = 1 << 17, MAX_NESTING
_SPACE = re.compile("[ \t\r\n]*")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members


def _float(text: str) -> float:
    if text.startswith(("0e", "0E", "-0e", "-0E")):
        raise ValueError("two tokens")
    return float(text)


def _constant(_: str) -> None:
    raise ValueError("no token")


class _Context:
    """What the scanner asks for."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_object)
    parse_float = staticmethod(_float)
    parse_int = staticmethod(integer_of)
    parse_constant = staticmethod(_constant)
    memo: dict[str, str] = {}  # noqa: RUF012


_scan = make_scanner(_Context)  # type: ignore[arg-type]


class PlainText:
    """Some input, of which plain objects are taken from the front."""

    __slots__ = ("_many", "_text")

    def __init__(self, data: bytes) -> None:
        plain = len(data) <= _MOST and data.isascii()
        self._text = data.decode("ascii") if plain else ""
        self._many = self._text.count("{") + self._text.count("[") > MAX_NESTING

    def object_at(self, at: int) -> tuple[dict[str, Any], int] | None:
        """The object that comes next from byte `at` on, and where what is behind it begins.

        None if it is not plain.
        """
        text = self._text
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if not text.startswith("{", at):
            return None
        try:
            if self._many:
                value, end = _scan(text[at : at + _PART], 0)
                end += at
            else:
                value, end = _scan(text, at)
        except (ValueError, StopIteration, RecursionError):
            return None
        if text.find("\\u", at, end) >= 0:
            return None
        return value, _SPACE.match(text, end).end()  # type: ignore[union-attr]
