"""Tokens to JSON values, in QEMU's two flavours.

Older versions collect the tokens of a message and parse them when its brackets balance; newer
ones (trait `json_positions`) parse as tokens come, say where the mistake is, report it at once
and skip to where the brackets balance. Braces and brackets are counted apart, and a message goes
on while one of the counts is positive and none is negative, however they are nested.

See qobject/json-streamer.c: json_message_process_token() and json_message_parser_feed().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.lexer import MAX_TOKEN_SIZE, Lexer, Token, TokenType
from fakeqemu.qapi.json.parser import Builder, Dialect, Failure, StringReader
from fakeqemu.qapi.json.plain import MAX_NESTING, PlainText
from fakeqemu.qapi.json.utf8 import decode_lossy

if TYPE_CHECKING:
    from fakeqemu.traits import Traits

MAX_TOKEN_COUNT = 2 << 20
#: bytes of a string from which on it is read over several turns, and the tokens that one of its
#: pieces costs
_LONG, _STEPS = 1 << 16, 8

_BRACES = {TokenType.OPEN_OBJECT: 1, TokenType.CLOSE_OBJECT: -1}
_BRACKETS = {TokenType.OPEN_ARRAY: 1, TokenType.CLOSE_ARRAY: -1}


@dataclass(frozen=True, slots=True)
class Value:
    """A message that was JSON."""

    #: plain Python: dict, list, str, int, float, bool, None
    value: Any


@dataclass(frozen=True, slots=True)
class ParseError:
    """A message that was not."""

    #: QEMU's text, position included where the version gives one
    text: str


Message = Value | ParseError


class JsonStream:
    """A connection's input as messages. The reader decides when it wants the next one."""

    def __init__(self, traits: Traits, *, plain: bool = True) -> None:
        """`plain`: the interpreter's own scanner may read what it reads as QEMU does."""
        self._positions = traits.json_positions
        self._words = Dialect.of(traits)
        self._lexer = Lexer()
        self._braces = 0
        self._brackets = 0
        self._size = 0
        self._count = 0
        #: the first mistake, not reported yet (older flavour)
        self._error: Failure | None = None
        #: the mistake is reported, the rest of the message is skipped (newer flavour)
        self._failed = False
        self._builder = Builder(self._words)
        #: the token that comes next, and what reads its text if that is a long one
        self._next: Token | None = None
        self._reader: StringReader | None = None
        #: what was pushed, for the interpreter's own scanner; None until it is asked
        self._plain: PlainText | None = None
        self._may_be_plain = plain
        #: whether there may be more in what was pushed than was looked at
        self.pending = False

    def feed(self, data: bytes) -> list[Message]:
        """Append input; every message that is complete now."""
        self.push(data)
        return list(iter(self.next_message, None))

    def feed_eof(self) -> list[Message]:
        """The input is over; what was under way, complete or not."""
        found: list[Message] = []
        if (token := self._lexer.finish()) is not None and (
            message := self._token(token)
        ) is not None:
            found.append(message)
        if self._count and not self._failed:
            if self._error is None:
                line, column = self._lexer.position
                # a token that only the end completes moves the end one on
                column += token is not None
                self._error = Failure(self._words.premature_end, line, column)
            found.append(self._failure(self._error))
        self._reset()
        return found

    def push(self, data: bytes) -> None:
        """Append input without looking at it."""
        self._lexer.feed(data)
        self._plain = None

    def next_message(self, most: int | None = None) -> Message | None:
        """The next message of what was pushed; None until there is a complete one.

        Also None after `most` tokens; `pending` is true then.
        """
        self.pending = True
        # at a message's beginning
        if not self._count and not self._failed and self._next is None and self._may_be_plain:
            plain = self._plain_message()
            if plain is not None:
                return plain
        count = 0
        while count != most and self._more():
            if self._reader is not None and most is not None and self._reader.read_some():
                count += min(most - count, _STEPS)
                continue
            token, self._next = self._next, None
            assert token is not None
            if (message := self._token(token)) is not None:
                return message
            count += 1
        self.pending = count == most
        return None

    def _plain_message(self) -> Value | None:
        rest = self._lexer.rest()
        if rest is None:
            return None
        data, at = rest
        if self._plain is None:
            self._plain = PlainText(data)
        found = self._plain.object_at(at)
        if found is None:
            return None
        value, end = found
        self._lexer.skip(end)
        self.pending = end < len(data)
        return Value(value)

    def _more(self) -> bool:
        """Whether there is a token to read, or to go on with."""
        if self._next is not None:
            return True
        self._next = token = self._lexer.next()
        if token is None:
            return False
        long = token.kind is TokenType.STRING and len(token.text) > _LONG
        self._reader = StringReader(token.text) if long else None
        return True

    def _reset(self) -> None:
        self._braces = 0
        self._brackets = 0
        self._size = 0
        self._count = 0
        self._error = None
        self._failed = False
        self._builder = Builder(self._words)

    def _token(self, token: Token) -> Message | None:
        if token.kind is TokenType.BAD:
            return self._bad(token)
        self._braces += _BRACES.get(token.kind, 0)
        self._brackets += _BRACKETS.get(token.kind, 0)
        if (limit := self._limit(token)) is not None and not self._failed:
            if not self._positions or self._complete():
                self._reset()
            else:
                self._failed = True
            return ParseError(limit)
        self._size += len(token.text)
        self._count += 1
        reported = None
        if self._error is None and not self._failed:
            self._error = self._builder.take(token, self._reader)
            if self._error is not None and self._positions:
                reported = self._failure(self._error)
                self._failed = True
        if not self._complete():
            return reported
        message: Message | None = reported
        if not self._failed:
            if self._error is not None:
                message = self._failure(self._error)
            elif not self._builder.done:
                message = self._failure(Failure(self._words.premature_end, *self._lexer.position))
            else:
                message = Value(self._builder.value)
        self._reset()
        return message

    def _bad(self, token: Token) -> Message | None:
        silent = self._failed
        self._reset()
        if silent:
            return None
        stray = f"stray '{decode_lossy(token.text)}'"
        return self._failure(Failure(stray, token.line, token.column))

    def _limit(self, token: Token) -> str | None:
        if token.kind is TokenType.TOO_LONG or self._size + len(token.text) + 1 > MAX_TOKEN_SIZE:
            return "JSON token size limit exceeded"
        if self._count + 1 > MAX_TOKEN_COUNT:
            return "JSON token count limit exceeded"
        if self._braces + self._brackets > MAX_NESTING:
            return "JSON nesting depth limit exceeded"
        return None

    def _complete(self) -> bool:
        return not (
            (self._braces > 0 or self._brackets > 0) and self._braces >= 0 and self._brackets >= 0
        )

    def _failure(self, failure: Failure) -> ParseError:
        text = f"JSON parse error, {failure.text}"
        if self._positions:
            text = f"{failure.line}:{failure.column}: {text}"
        return ParseError(text)


def parse_json(text: str, traits: Traits) -> Any:
    """One JSON value from the command line. Raises QapiError with QEMU's text."""
    stream = JsonStream(traits)
    messages = stream.feed(text.encode("utf-8", "surrogateescape"))
    messages += stream.feed_eof()
    if not messages:
        raise QapiError("Expecting a JSON value")
    if isinstance(messages[0], ParseError):
        raise QapiError(messages[0].text)
    if len(messages) > 1:
        raise QapiError("Expecting at most one JSON value")
    return messages[0].value
