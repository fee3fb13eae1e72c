"""The JSON grammar: tokens of one message to a value, or the first mistake.

A table of what may come where, without recursion: QEMU allows 1024 levels, Python does not.

See qobject/json-parser.c: json_parser_parse() and parse_value().
"""

from __future__ import annotations

import re
from enum import Enum, auto
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
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
#: bytes of a string that are read at a time
_PIECE = 1 << 14
#: bytes without a backslash after which no escape can be under way
_CLEAR = 16
_LOW_SURROGATE = re.compile(rb"\\u[dD][c-fC-F]")
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB]..", re.DOTALL)


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
        self._reader: StringReader | None = None
        self.done = False
        self.value: Any = None

    def take(self, token: Token, reader: StringReader | None = None) -> Failure | None:
        """The next token; the mistake if it does not fit. Nothing may come after one.

        `reader` has read the token's text, or a part of it, already.
        """
        self._reader = reader
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
            self._keys[-1] = self._string(token)
            self._expect = _Expect.COLON
            return
        if not self._words.key_is_value:
            raise _MistakeError(self._words.key)
        if token.kind in (TokenType.OPEN_OBJECT, TokenType.OPEN_ARRAY):
            self._as_key.append(len(self._open))
            self._value(token)
            return
        self._literal(token)
        raise _MistakeError(self._words.key)

    def _value(self, token: Token) -> None:
        if token.kind is TokenType.OPEN_OBJECT:
            self._push({}, _Expect.KEY_OR_END)
        elif token.kind is TokenType.OPEN_ARRAY:
            self._push([], _Expect.VALUE_OR_END)
        else:
            self._put(self._literal(token))

    def _literal(self, token: Token) -> Any:
        return self._string(token) if token.kind is TokenType.STRING else _literal(token)

    def _string(self, token: Token) -> str:
        return _string(token.text) if self._reader is None else self._reader.text()

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
    if token.kind is TokenType.INTEGER:
        return integer_of(token.text)
    if token.kind is TokenType.FLOAT:
        return float(token.text)
    if token.kind is TokenType.WORD:
        if token.text in _WORDS:
            return _WORDS[token.text]
        raise _MistakeError(f"invalid keyword '{token.text.decode()}'")
    raise _MistakeError("expecting value")


def integer_of(text: bytes | str) -> int | float:
    """An integer as far as 64 bits go, signed or not; a double beyond."""
    if len(text) < 21:
        value = int(text)
        if -(1 << 63) <= value < 1 << 64:
            return value
    return float(text)


class StringReader:
    """A string's token on its way to text, a piece at a time."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._at = 1
        self._pieces: list[str] = []
        self._mistake: _MistakeError | None = None

    def read_some(self) -> bool:
        """Read a piece; whether there is more."""
        token, end = self._token, len(self._token) - 1
        if self._at >= end or self._mistake is not None:
            return False
        stop = _boundary(token, self._at + _PIECE, end)
        text = _without_escapes(token[self._at : stop])
        if text is None:
            try:
                text, stop = _escape_by_escape(token, self._at, stop)
            except _MistakeError as mistake:
                self._mistake = mistake
                return False
        self._pieces.append(text)
        self._at = stop
        return True

    def text(self) -> str:
        """All of it. Raises the parser's error for a mistake."""
        while self.read_some():
            pass
        if self._mistake is not None:
            raise self._mistake
        return "".join(self._pieces)


def _string(token: bytes) -> str:
    return StringReader(token).text() if b"\\" in token else _characters(token[1:-1])


def _boundary(token: bytes, at: int, end: int) -> int:
    """A place soon after `at`, up to `end`, in no character, escape or pair of surrogates."""
    if at + 2 * _CLEAR >= end:
        return end
    escape = token.find(b"\\", at, at + 2 * _CLEAR)
    if escape < 0:
        at += _CLEAR
        while token[at] & 0xC0 == 0x80 and at < end:
            at += 1
        return at
    at = before = escape
    while token[before - 1] == 0x5C:
        before -= 1
    at += (at - before) % 2
    if _HIGH_SURROGATE.match(token, at - 6, at) and _LOW_SURROGATE.match(token, at):
        at += 6
    return min(at, end)


def _without_escapes(body: bytes) -> str | None:
    """A part of a string's text, by the interpreter's own decoder; None for what it may not know.

    That is each mistake, and what it takes for one.
    """
    parts = body.split(b"\\\\")
    if any(b"\\\xc0" in part for part in parts):
        return None
    if len(parts) == 1 and b"\\" not in body:
        return utf8.decode(body)
    # it knows no escaped single quote, no bare double one and no NUL in two bytes
    body = b"\\\\".join(
        part.replace(b"\\'", b"'")
        .replace(b'\\"', b'"')
        .replace(b'"', b'\\"')
        .replace(b"\xc0\x80", b"\\u0000")
        for part in parts
    )
    if (text := utf8.decode(body)) is None:
        return None
    try:
        found: str = scanstring(text + '"', 0, False)[0]
    except ValueError:
        return None
    return found.replace("\0", utf8.NUL) if utf8.valid_text(found) else None


def _escape_by_escape(token: bytes, at: int, end: int) -> tuple[str, int]:
    """The same by QEMU's rules, and where it ended: where it found the string's end, if later."""
    out: list[str] = []
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
    return "".join(out), at


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
