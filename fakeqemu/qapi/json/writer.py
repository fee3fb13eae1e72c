"""JSON in QEMU's exact output form.

Members in QEMU's order (see `qdict`), `", "` and `": "`, everything but printable ASCII
escaped in upper-case hexadecimal, doubles with 17 digits. Infinity comes out as a bare
`inf`, as it does there. The line end (CR LF) is the monitor's affair.

See qobject/json-writer.c: json_writer_str(); qobject/qjson.c: qobject_to_json().
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from json.encoder import encode_basestring_ascii
from typing import Any

from fakeqemu.qapi import qdict
from fakeqemu.qapi.json import utf8

_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
#: characters of which it is remembered how they are written
_REMEMBERED = 4096


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if 0x20 <= code < 0x7F:
        return char
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}"
    if 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code >= 0xFFFE:
        code = 0xFFFD
    return f"\\u{code:04X}"


class _Escapes(dict[int, str]):
    """How each character is written, as `str.translate` looks it up."""

    def __missing__(self, code: int) -> str:
        text = _escape(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = text
        return text


_ESCAPES = _Escapes()


def quote(text: str) -> str:
    """`text` as a JSON string."""
    # most strings need no escape, which the interpreter's own encoder knows faster
    plain = encode_basestring_ascii(text)
    if "\\" not in plain and "\x7f" not in plain:
        return plain
    return '"' + text.replace(utf8.NUL, "\0").translate(_ESCAPES) + '"'


def number(value: float) -> str:
    """A double as QEMU prints it: `1`, `0.10000000000000001`, `1e+100`, `inf`."""
    if math.isnan(value):
        return "-nan" if math.copysign(1, value) < 0 else "nan"
    return f"{value:.17g}"


class Fixed(list[Any]):
    """A long list that never changes: its text is made once."""

    def __init__(self, members: Iterable[Any]) -> None:
        super().__init__(members)
        #: as QEMU writes it, without line ends; empty until it has been written once
        self.text = ""
        #: type that it has been checked against and is of, as tests check each reply
        self.checked_as: object = None


class FixedReplies:
    """Lists that never change, by what was asked."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Fixed] = {}

    def __len__(self) -> int:
        return len(self._made)

    def once(self, make: Callable[[], Iterable[Any]], *asked: object) -> Fixed:
        """What `make` gives, the first time. `asked`: the command and what it depends on."""
        if asked not in self._made:
            self._made[asked] = Fixed(make())
        return self._made[asked]


class FixedObject(dict[str, Any]):
    """An object that never changes and occurs several times: its text is made once."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        super().__init__(members)
        #: see `Fixed`
        self.text = ""


class Written(dict[str, Any]):
    """An object of which only the text is there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


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

#: a container under way: its members left, what stands between two of them and after the last,
#: and where its text begins if that is kept
_Open = tuple[Iterator[tuple[str, Any]], str, str, int, Any]
#: what is written at a time: about as many values, characters in place of one value
_SLICE, _CHARACTERS = 2000, 64
#: pieces of text and characters of a string that are written in one go
_SHORT_VALUES, _SHORT_TEXT = 200, 1 << 10
#: members of a list that the interpreter's own encoder gets at a time, characters of a string
_RUN, _LONG = 2000, 1 << 12
#: kinds of values that it writes as QEMU does; of texts those that need no escape
_PLAIN_KINDS = frozenset({int, bool, type(None)})


def encode(value: Any, pretty: bool = False) -> str:
    r"""`value` as QEMU writes it; `pretty` indents by four, with `\n` between lines."""
    slices = encode_slices(value, pretty)
    out: list[str] = []
    while True:
        try:
            out.append(next(slices))
        except StopIteration as end:
            out.append(end.value)
            return "".join(out)


def encode_short(value: Any) -> str | None:
    """The same in one go; None for what is long, or is better left to `encode_slices`."""
    out: list[str] = []
    if not _write_short(value, out, ""):
        return None
    text = "".join(out)
    if value.__class__ is FixedObject:
        value.text = text
    return text


def _write_short(value: Any, out: list[str], before: str) -> bool:
    """Write `before` and `value`; false for what is long, or no JSON."""
    kind = value.__class__
    if kind is str:
        out.append(before + quote(value))
        return len(value) <= _SHORT_TEXT
    if kind is dict or (kind is FixedObject and not value.text):
        if len(out) + len(value) > _SHORT_VALUES:
            return False
        before += "{"
        for key, name in _order(tuple(value)):
            if not _write_short(value[key], out, before + name):
                return False
            before = ", "
        out.append("}" if value else before + "}")
        return True
    if kind is list:
        if len(out) + len(value) > _SHORT_VALUES:
            return False
        before += "["
        for each in value:
            if not _write_short(each, out, before):
                return False
            before = ", "
        out.append("]" if value else before + "]")
        return True
    if kind in _KEPT and value.text:
        out.append(before + value.text)
        return True
    if kind is bool or value is None or kind is int or kind is float:
        out.append(before + _scalar(value))
        return True
    return False


def encode_slices(value: Any, pretty: bool = False) -> Generator[str, None, str]:
    """The same bit by bit: what is yielded and, at last, returned.

    Nested as deep as the parser allows, hence no recursion.
    """
    out: list[str] = []
    left = _SLICE
    members: Iterator[tuple[str, Any]] = iter((("", value),))
    inner: Iterator[tuple[str, Any]]
    between, closing, separator = "", "", ""
    begins, kept = 0, None
    keeping = 0
    outer: list[_Open] = []
    while True:
        for name, item in members:
            left -= 1
            if left < 0 and not keeping:
                yield "".join(out)
                out.clear()
                left = _SLICE
            if not isinstance(item, _CONTAINERS):
                out.append(separator + name)
                separator = between
                if item.__class__ is str and len(item) > _LONG:
                    for text in _long_string(item):
                        out.append(text)
                        left -= len(text) // _CHARACTERS
                        if left < 0 and not keeping:
                            yield "".join(out)
                            out.clear()
                            left = _SLICE
                else:
                    out.append(_scalar(item))
                continue
            if isinstance(item, _KEPT) and item.text and not pretty:
                out.append(separator + name + item.text)
                left -= len(item.text) // _CHARACTERS
                separator = between
                continue
            outer.append((members, between, closing, begins, kept))
            first, then, last = _layout(len(outer) - 1, pretty)
            bracket, end = "{}" if isinstance(item, dict) else "[]"
            out.append(separator + name)
            if isinstance(item, dict) and len(item) > _RUN:
                buckets = _Buckets(item)
                while buckets.sort_some() and not keeping:
                    yield ""
                inner = buckets.members()
            else:
                inner = _members(item, pretty)
            begins, kept = len(out), None
            if isinstance(item, _KEPT) and not pretty:
                kept = item
                keeping += 1
            out.append(bracket)
            members, between = inner, then
            separator, closing = (first, last + end) if item else ("", last + end)
            break
        else:
            if not outer:
                return "".join(out)
            out.append(closing)
            if kept is not None:
                kept.text = "".join(out[begins:])
                out[begins:] = [kept.text]
                keeping -= 1
            members, between, closing, begins, kept = outer.pop()
            separator = between


def _long_string(text: str) -> Iterator[str]:
    """A string bit by bit."""
    yield '"'
    at = 0
    while at < len(text):
        end = at + _LONG
        # the two halves of a NUL stay together
        end += text[end - 1 : end] == utf8.NUL[0]
        yield quote(text[at:end])[1:-1]
        at = end
    yield '"'


class _Buckets:
    """The members of a very large object, put in order bit by bit (see `qdict.items`)."""

    def __init__(self, item: dict[str, Any]) -> None:
        self._left = iter(reversed(item.items()))
        self._sorted: list[list[tuple[str, Any]]] = [[] for _ in range(qdict.BUCKETS)]

    def sort_some(self) -> bool:
        """Whether there are more."""
        some = list(islice(self._left, _RUN))
        for name, value in some:
            self._sorted[qdict.bucket(name)].append((quote(name) + ": ", value))
        return bool(some)

    def members(self) -> Iterator[tuple[str, Any]]:
        """All of them."""
        while self.sort_some():
            pass
        return chain.from_iterable(self._sorted)


class _Run(Written):
    """Members of a list as text, which stands in the list for them."""


_KEPT = (Fixed, FixedObject, Written)


def _members(item: Any, pretty: bool) -> Iterator[tuple[str, Any]]:
    if not isinstance(item, dict):
        if len(item) > _RUN and not pretty:
            return _runs(item)
        return iter([("", each) for each in item])
    if len(item) > _MOST_KEYS:
        return iter([(quote(key) + ": ", each) for key, each in qdict.items(item)])
    return iter([(name, item[key]) for key, name in _order(tuple(item))])


def _runs(item: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The members of a long list, plain ones many at a time."""
    for at in range(0, len(item), _RUN):
        part = item[at : at + _RUN]
        kinds = set(map(type, part))
        if kinds <= _PLAIN_KINDS:
            yield "", _Run(json.dumps(part)[1:-1])
            continue
        if kinds == {str}:
            text = json.dumps(part)[1:-1]
            if "\\" not in text and "\x7f" not in text:
                yield "", _Run(text)
                continue
        for each in part:
            yield "", each


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
