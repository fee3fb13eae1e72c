"""The JSON grammar: tokens of one message to a value, or the first mistake.

A table of what may come where, without recursion: QEMU allows 1024 levels, Python does not.

See qobject/json-parser.c: json_parser_parse() and parse_value().
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.json import utf8
from fakeqemu.qapi.json.lexer import Token, TokenType

if TYPE_CHECKING:
    from fakeqemu.traits import Traits


@dataclass(frozen=True, slots=True)
class Failure:
    """The first mistake of a message."""

    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one flavour of the parser says and how strict it is about keys."""

    #: no string where a key has to be
    key: str
    #: no colon after a key
    colon: str
    #: neither comma nor the closing bracket
    in_object: str
    in_array: str
    #: the input ended in the middle
    premature_end: str
    #: a key is read as any value first, and only then has to be a string
    key_is_value: bool
    #: the most characters of a text; None: any
    limit: int | None

    @staticmethod
    def of(traits: Traits) -> Dialect:
        """The flavour a version has."""
        return _NEWER if traits.json_positions else _OLDER


_NEWER = Dialect(
    key="expecting key",
    colon="expecting ':'",
    in_object="expected ',' or '}'",
    in_array="expected ',' or ']'",
    premature_end="premature end of input",
    key_is_value=False,
    limit=None,
)
_OLDER = Dialect(
    key="key is not a string in object",
    colon="missing : in object pair",
    in_object="expected separator in dict",
    in_array="expected separator in list",
    premature_end="premature EOI",
    key_is_value=True,
    limit=1023,
)


class _Expect(Enum):
    VALUE = auto()
    #: a value, or the end of an empty array
    VALUE_OR_END = auto()
    KEY = auto()
    #: a key, or the end of an empty object
    KEY_OR_END = auto()
    COLON = auto()
    #: a comma or the end of what is open
    COMMA_OR_END = auto()
    NOTHING = auto()


class _MistakeError(Exception):
    """The text of the first mistake."""


_WORDS = {b"true": True, b"false": False, b"null": None}
_ESCAPES = {
    b'"': '"', b"'": "'", b"\\": "\\", b"/": "/",
    b"b": "\b", b"f": "\f", b"n": "\n", b"r": "\r", b"t": "\t",
}  # fmt: skip
_PLAIN = re.compile(rb"[^\\]+")


class Builder:
    """One message under way."""

    def __init__(self, words: Dialect) -> None:
        self._words = words
        self._expect = _Expect.VALUE
        #: containers that are open, the innermost last, each with the key it waits to fill
        self._open: list[dict[str, Any] | list[Any]] = []
        self._keys: list[str | None] = []
        #: depths at which a container stands where a key has to be (older flavour)
        self._as_key: list[int] = []
        self.done = False
        self.value: Any = None

    def take(self, token: Token) -> Failure | None:
        """The next token; the mistake if it does not fit. Nothing may come after one."""
        try:
            self._take(token)
        except _MistakeError as mistake:
            text = str(mistake)
            return Failure(text[: self._words.limit], token.line, token.column)
        return None

    def _take(self, token: Token) -> None:
        kind = token.kind
        expect = self._expect
        if expect is _Expect.COLON:
            if kind is not TokenType.COLON:
                raise _MistakeError(self._words.colon)
            self._expect = _Expect.VALUE
        elif expect is _Expect.COMMA_OR_END:
            self._comma_or_end(kind)
        elif expect in (_Expect.KEY, _Expect.KEY_OR_END):
            if expect is _Expect.KEY_OR_END and kind is TokenType.CLOSE_OBJECT:
                self._close()
            else:
                self._key(token)
        elif expect is _Expect.VALUE_OR_END and kind is TokenType.CLOSE_ARRAY:
            self._close()
        else:
            self._value(token)

    def _comma_or_end(self, kind: TokenType) -> None:
        in_object = isinstance(self._open[-1], dict)
        if kind is (TokenType.CLOSE_OBJECT if in_object else TokenType.CLOSE_ARRAY):
            self._close()
        elif kind is not TokenType.COMMA:
            raise _MistakeError(self._words.in_object if in_object else self._words.in_array)
        else:
            self._expect = _Expect.KEY if in_object else _Expect.VALUE

    def _key(self, token: Token) -> None:
        if token.kind is TokenType.STRING:
            self._keys[-1] = _string(token.text)
            self._expect = _Expect.COLON
            return
        if not self._words.key_is_value:
            raise _MistakeError(self._words.key)
        if token.kind in (TokenType.OPEN_OBJECT, TokenType.OPEN_ARRAY):
            self._as_key.append(len(self._open))
            self._value(token)
            return
        _literal(token)
        raise _MistakeError(self._words.key)

    def _value(self, token: Token) -> None:
        if token.kind is TokenType.OPEN_OBJECT:
            self._push({}, _Expect.KEY_OR_END)
        elif token.kind is TokenType.OPEN_ARRAY:
            self._push([], _Expect.VALUE_OR_END)
        else:
            self._put(_literal(token))

    def _push(self, container: dict[str, Any] | list[Any], expect: _Expect) -> None:
        self._open.append(container)
        self._keys.append(None)
        self._expect = expect

    def _close(self) -> None:
        container = self._open.pop()
        self._keys.pop()
        if self._as_key and self._as_key[-1] == len(self._open):
            raise _MistakeError(self._words.key)
        self._put(container)

    def _put(self, value: Any) -> None:
        if not self._open:
            self.value = value
            self.done = True
            self._expect = _Expect.NOTHING
            return
        self._expect = _Expect.COMMA_OR_END
        container = self._open[-1]
        if isinstance(container, list):
            container.append(value)
            return
        key = self._keys[-1]
        assert key is not None
        if key in container:
            raise _MistakeError("duplicate key")
        container[key] = value


def _literal(token: Token) -> Any:
    if token.kind is TokenType.STRING:
        return _string(token.text)
    if token.kind is TokenType.INTEGER:
        return _integer(token.text)
    if token.kind is TokenType.FLOAT:
        return float(token.text)
    if token.kind is TokenType.WORD:
        if token.text in _WORDS:
            return _WORDS[token.text]
        raise _MistakeError(f"invalid keyword '{token.text.decode()}'")
    raise _MistakeError("expecting value")


def _integer(text: bytes) -> int | float:
    """An integer as far as 64 bits go, signed or not; a double beyond."""
    if len(text) < 21:
        value = int(text)
        if -(1 << 63) <= value < 1 << 64:
            return value
    return float(text)


def _string(token: bytes) -> str:
    if b"\\" not in token:
        return _characters(token[1:-1])
    out: list[str] = []
    at, end = 1, len(token) - 1
    while at < end:
        if (plain := _PLAIN.match(token, at, end)) is not None:
            out.append(_characters(plain.group()))
            at = plain.end()
            continue
        char = token[at + 1 : at + 2]
        if char == b"u":
            text, at = _unicode(token, at)
            out.append(text)
        elif char in _ESCAPES:
            out.append(_ESCAPES[char])
            at += 2
        else:
            raise _MistakeError("invalid escape sequence in string")
    return "".join(out)


def _characters(data: bytes) -> str:
    text = utf8.decode(data)
    if text is None:
        raise _MistakeError("invalid UTF-8 sequence in string")
    return text


def _unicode(token: bytes, at: int) -> tuple[str, int]:
    r"""The character of the `\uXXXX` at `at`, or of a pair of them, and what comes after.

    The four digits are taken without regard for the end of the string; so does QEMU.
    """
    code = _hex(token[at + 2 : at + 6])
    after = at + 6
    if 0xD800 <= code <= 0xDBFF and token[after : after + 2] == b"\\u":
        low = _hex(token[after + 2 : after + 6])
        if 0xDC00 <= low <= 0xDFFF:
            code = 0x10000 + ((code & 0x3FF) << 10 | low & 0x3FF)
            after += 6
    if not utf8.valid_codepoint(code):
        shown = utf8.decode_lossy(token[at:after])
        raise _MistakeError(f"{shown} is not a valid Unicode character")
    return chr(code) if code else utf8.NUL, after


def _hex(digits: bytes) -> int:
    if len(digits) == 4 and all(byte in b"0123456789abcdefABCDEF" for byte in digits):
        return int(digits, 16)
    return -1
