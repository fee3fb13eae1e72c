r"""Bytes to JSON tokens, wherever the bytes are cut.

The lexical rules are a table: what a byte does in a state. Beside RFC 8259 there are
single-quoted strings and words of any lower-case letters; whether a word means something is the
parser's affair, as is what a string contains. A number or word ends with the byte after it,
which is looked at again. After a bad byte everything is skipped up to one of `[]{}:,`, a
control byte other than TAB, FE or FF: these clients may send to get the parser back to a known
state.

See qobject/json-lexer.c: json_lexer_feed() and json_lexer.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import cache

from fakeqemu.dataclass import dataclass

#: the longest token, and the most text of one message
MAX_TOKEN_SIZE = 64 << 20


class TokenType(Enum):
    """What a token is."""

    OPEN_OBJECT = auto()
    CLOSE_OBJECT = auto()
    OPEN_ARRAY = auto()
    CLOSE_ARRAY = auto()
    COLON = auto()
    COMMA = auto()
    STRING = auto()
    INTEGER = auto()
    FLOAT = auto()
    WORD = auto()
    #: bytes that start no token
    BAD = auto()
    #: a token beyond MAX_TOKEN_SIZE
    TOO_LONG = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """One token as it was written."""

    kind: TokenType
    #: its bytes, quotes included
    text: bytes
    #: line it starts on, from 1, counting LF since the lexer was made
    line: int
    #: byte it starts on, from 1; one more where a byte had to be looked at again
    column: int


class LexerState(Enum):
    """Where in a token the lexer is."""

    START = auto()
    RECOVERY = auto()
    DOUBLE = auto()
    DOUBLE_ESCAPE = auto()
    SINGLE = auto()
    SINGLE_ESCAPE = auto()
    SIGN = auto()
    ZERO = auto()
    DIGITS = auto()
    POINT = auto()
    FRACTION = auto()
    EXPONENT = auto()
    EXPONENT_SIGN = auto()
    EXPONENT_DIGITS = auto()
    WORD = auto()


_DIGIT = b"0123456789"
_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_IN_STRING = bytes(range(0x20, 0xFE))

#: state -> (bytes, next state or the token they complete) in order, later ones win
_RULES: dict[LexerState, list[tuple[bytes, LexerState | TokenType]]] = {
    LexerState.START: [
        (b" \t\r\n", LexerState.START),
        (b'"', LexerState.DOUBLE),
        (b"'", LexerState.SINGLE),
        (b"-", LexerState.SIGN),
        (b"0", LexerState.ZERO),
        (b"123456789", LexerState.DIGITS),
        (_LOWER, LexerState.WORD),
        (b"{", TokenType.OPEN_OBJECT),
        (b"}", TokenType.CLOSE_OBJECT),
        (b"[", TokenType.OPEN_ARRAY),
        (b"]", TokenType.CLOSE_ARRAY),
        (b":", TokenType.COLON),
        (b",", TokenType.COMMA),
    ],
    LexerState.DOUBLE: [
        (_IN_STRING, LexerState.DOUBLE),
        (b"\\", LexerState.DOUBLE_ESCAPE),
        (b'"', TokenType.STRING),
    ],
    LexerState.DOUBLE_ESCAPE: [(_IN_STRING, LexerState.DOUBLE)],
    LexerState.SINGLE: [
        (_IN_STRING, LexerState.SINGLE),
        (b"\\", LexerState.SINGLE_ESCAPE),
        (b"'", TokenType.STRING),
    ],
    LexerState.SINGLE_ESCAPE: [(_IN_STRING, LexerState.SINGLE)],
    LexerState.SIGN: [(b"0", LexerState.ZERO), (b"123456789", LexerState.DIGITS)],
    LexerState.ZERO: [(_DIGIT, TokenType.BAD), (b".", LexerState.POINT)],
    LexerState.DIGITS: [
        (_DIGIT, LexerState.DIGITS),
        (b".", LexerState.POINT),
        (b"eE", LexerState.EXPONENT),
    ],
    LexerState.POINT: [(_DIGIT, LexerState.FRACTION)],
    LexerState.FRACTION: [(_DIGIT, LexerState.FRACTION), (b"eE", LexerState.EXPONENT)],
    LexerState.EXPONENT: [(b"+-", LexerState.EXPONENT_SIGN), (_DIGIT, LexerState.EXPONENT_DIGITS)],
    LexerState.EXPONENT_SIGN: [(_DIGIT, LexerState.EXPONENT_DIGITS)],
    LexerState.EXPONENT_DIGITS: [(_DIGIT, LexerState.EXPONENT_DIGITS)],
    LexerState.WORD: [(_LOWER, LexerState.WORD)],
}

#: states that any other byte ends: the token is complete, the byte belongs to the next
_ENDS: dict[LexerState, TokenType] = {
    LexerState.ZERO: TokenType.INTEGER,
    LexerState.DIGITS: TokenType.INTEGER,
    LexerState.FRACTION: TokenType.FLOAT,
    LexerState.EXPONENT_DIGITS: TokenType.FLOAT,
    LexerState.WORD: TokenType.WORD,
}

_TABLE: dict[LexerState, list[LexerState | TokenType | None]] = {}
for _state, _rules in _RULES.items():
    _row: list[LexerState | TokenType | None] = [None if _state in _ENDS else TokenType.BAD] * 256
    for _bytes, _next in _rules:
        for _byte in _bytes:
            _row[_byte] = _next
    _TABLE[_state] = _row


@cache
def _runs() -> dict[LexerState, re.Pattern[bytes]]:
    """Long stretches that leave the state as it is, taken in one step."""
    return {
        LexerState.START: re.compile(rb"[ \t\r\n]+"),
        LexerState.RECOVERY: re.compile(rb"[^\x00-\x08\x0a-\x1f\[\]{}:,\xfe\xff]+"),
        LexerState.DOUBLE: re.compile(rb'(?:[^"\\\x00-\x1f\xfe\xff]++|\\[\x20-\xfd])++'),
        LexerState.SINGLE: re.compile(rb"(?:[^'\\\x00-\x1f\xfe\xff]++|\\[\x20-\xfd])++"),
    }


class Lexer:
    """Bytes in, tokens out, one at a time."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._state = LexerState.START
        self._text = bytearray()
        self._line = 1
        #: position in the whole input of the byte before the first column, minus `_offset`
        self._offset = 0
        self._line_start = 0
        self._start = (1, 1)
        self._again = False

    def feed(self, data: bytes) -> None:
        """Append input."""
        rest = self._data[self._at :]
        self._offset += self._at
        self._data = rest + data if rest else data
        self._at = 0

    def next(self) -> Token | None:
        """The next token, or None until more comes."""
        data = self._data
        size = len(data)
        runs = _runs() if self._at < size else {}
        while self._at < size:
            state = self._state
            run = runs.get(state)
            if run is not None and (match := run.match(data, self._at)) is not None:
                self._run(state, match)
                if len(self._text) > MAX_TOKEN_SIZE:
                    return self._emit(TokenType.TOO_LONG)
                continue
            if state is LexerState.RECOVERY:
                self._state = LexerState.START
                self._again = True
                continue
            if (token := self._step(state, data[self._at])) is not None:
                return token
        return None

    def rest(self) -> tuple[bytes, int] | None:
        """The input and where its next token begins; None in the middle of one, or at the end."""
        if self._state is not LexerState.START or self._at == len(self._data):
            return None
        return self._data, self._at

    def skip(self, end: int) -> None:
        """Go on from byte `end` of what `rest` gave: somebody else has read the tokens up to there.
        """
        self._count_lines(self._at, end)
        self._at = end
        self._again = False

    def finish(self) -> Token | None:
        """The input is over: the token under way, complete or bad, if there is one."""
        state = self._state
        if state in (LexerState.START, LexerState.RECOVERY):
            self._state = LexerState.START
            return None
        token = self._emit(_ENDS.get(state, TokenType.BAD))
        self._state = LexerState.START
        return token

    @property
    def position(self) -> tuple[int, int]:
        """Line and column of the byte that comes next."""
        return self._line, self._offset + self._at - self._line_start + 1

    def _run(self, state: LexerState, match: re.Match[bytes]) -> None:
        begin, end = match.span()
        if state is LexerState.START:
            self._again = False
            self._count_lines(begin, end)
        elif state is not LexerState.RECOVERY:
            self._text += match.group()
        self._at = end

    def _step(self, state: LexerState, byte: int) -> Token | None:
        following = _TABLE[state][byte]
        if following is None:
            token = self._emit(_ENDS[state])
            self._again = True
            return token
        if state is LexerState.START:
            line, column = self.position
            self._start = (line, column + 1 if self._again else column)
        self._text.append(byte)
        self._at += 1
        if byte == 0x0A:
            self._count_lines(self._at - 1, self._at)
        self._again = False
        if isinstance(following, LexerState):
            self._state = following
            return None
        return self._emit(following)

    def _emit(self, kind: TokenType) -> Token:
        token = Token(kind, bytes(self._text), *self._start)
        self._text.clear()
        self._state = LexerState.RECOVERY if kind is TokenType.BAD else LexerState.START
        return token

    def _count_lines(self, begin: int, end: int) -> None:
        lines = self._data.count(b"\n", begin, end)
        if lines:
            self._line += lines
            self._line_start = self._offset + self._data.rindex(b"\n", begin, end) + 1
