"""Numbers of the human monitor: expressions of C's operators in an order of its own; characters.

Sums bind loosest, then `& | ^`, then `* / %`; values wrap at 64 bits, signed.

See monitor/hmp.c: get_expr(), expr_sum(), expr_unary() and monitor_printc().
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fakeqemu.qapi.readers.scalars import parse_uint64

_MASK = (1 << 64) - 1
#: how tightly binary operators bind
_LEVELS = {**dict.fromkeys("+-", 1), **dict.fromkeys("&|^", 2), **dict.fromkeys("*/%", 3)}
#: a sign binds tighter than all of them; a parenthesis waits for its end
_SIGN, _OPEN = 4, 0

#: characters that are printed as C writes them
_ESCAPED = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\r": "\\r"}

Registers = Callable[[str], int | None]


class ExpressionError(Exception):
    """A text that is no expression; `text` says why."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _wrap(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


class _Reader:
    def __init__(self, text: str, position: int, registers: Registers) -> None:
        self.text = text
        self.at = position
        self.registers = registers

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self) -> None:
        while self.peek().isspace():
            self.at += 1

    def next(self) -> None:
        if self.peek():
            self.at += 1
            self.skip()

    def error(self, text: str) -> ExpressionError:
        return ExpressionError(text)

    def operand(self) -> int:
        char = self.peek()
        if char == "'":
            return self.character()
        if char == "$":
            return self.register()
        if not char:
            raise self.error("unexpected end of expression")
        return self.number()

    def character(self) -> int:
        self.at += 1
        char = self.peek()
        if not char:
            raise self.error("character constant expected")
        self.at += 1
        if self.peek() != "'":
            raise self.error("missing terminating ' character")
        self.next()
        return ord(char)

    def register(self) -> int:
        found = re.compile(r"\$([A-Za-z0-9_.]*)\s*").match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        value = self.registers(found[1])
        if value is None:
            raise self.error("unknown register")
        return value

    def number(self) -> int:
        found = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*").match(self.text, self.at)
        if found is None:
            raise self.error(f"invalid char '{self.peek()}' in expression")
        try:
            value = parse_uint64(found.group())
        except ValueError:
            raise self.error("number too large") from None
        self.at = found.end()
        self.skip()
        return _wrap(value)

    def apply(self, operator: str, left: int, right: int) -> int:
        if operator in "/%" and right == 0:
            raise self.error("division by zero")
        if operator in "/%":
            quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
            return _wrap(quotient if operator == "/" else left - quotient * right)
        return _wrap(
            {
                "*": left * right,
                "&": left & right,
                "|": left | right,
                "^": left ^ right,
                "+": left + right,
                "-": left - right,
            }[operator]
        )

    def value(self) -> int:
        """The expression, however deep its parentheses and signs are nested."""
        values: list[int] = []
        #: operators that wait for what is on their right, each with its level
        waiting: list[tuple[int, str]] = []
        while True:
            char = self.peek()
            if char and char in "+-~(":
                self.next()
                waiting.append((_OPEN if char == "(" else _SIGN, char))
                continue
            values.append(self.operand())
            while not self.operator(values, waiting):
                if not waiting:
                    return values.pop()
                if self.peek() != ")":
                    raise self.error("')' expected")
                self.next()
                waiting.pop()

    def operator(self, values: list[int], waiting: list[tuple[int, str]]) -> bool:
        """Work out what is complete; whether an operator follows, which waits then."""
        char = self.peek()
        level = _LEVELS.get(char, 0)
        while waiting and waiting[-1][0] >= max(level, 1):
            kind, operator = waiting.pop()
            right = values.pop()
            if kind == _SIGN:
                values.append(_wrap({"+": right, "-": -right, "~": ~right}[operator]))
            else:
                values.append(self.apply(operator, values.pop(), right))
        if not level:
            return False
        self.next()
        waiting.append((level, char))
        return True


def evaluate(
    text: str, position: int = 0, registers: Registers = lambda _name: None
) -> tuple[int, int]:
    """The value of the expression at `position` and where it ends. Raises ExpressionError.

    `registers`: what a register's name stands for, None for an unknown one.
    """
    reader = _Reader(text, position, registers)
    reader.skip()
    return reader.value(), reader.at


def character(number: int) -> str:
    """An int of C in quotes: what cannot be printed is escaped, with all of its digits."""
    code = number & 0xFFFFFFFF
    char = chr(code) if code <= 126 else ""
    shown = _ESCAPED.get(char) or (char if code >= 32 else "") or f"\\x{code:02x}"
    return f"'{shown}'"
