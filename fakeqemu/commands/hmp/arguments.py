"""Arguments of a human monitor line, by QEMU's type letters.

`s` word, `F` file name, `B` block device, `S` the rest of the line, `O` key=value options,
`i` 32-bit and `l` 64-bit expression, `M` megabytes, `o` size with suffix (MiB), `T` seconds,
`b` on/off, `-x` flag (`-xs`: with a word), `/` output format; `?` optional, `.` optional after
a dot.

See monitor/hmp.c: monitor_parse_arguments().
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fakeqemu.commands.hmp.expression import ExpressionError, Registers, evaluate
from fakeqemu.qapi.readers.scalars import (
    OutOfRangeError,
    SizeTraits,
    c_int,
    digits,
    strtod,
    strtosz,
)
from fakeqemu.traits import Traits

if TYPE_CHECKING:
    from fakeqemu.commands.hmp.registry import HmpMonitor

_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_FORMATS = "oduxic"
_SIZES = {"b": 1, "h": 2, "w": 4, "g": 8, "L": 8}
_MISSING = {"F": "filename expected", "B": "block device name expected"}
#: longest line or word that the parser keeps, without the terminator
_WORD_MAX = 1023


class HmpSyntaxError(Exception):
    """A line that does not parse, and what is printed for it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class _Parser:
    """One walk over the arguments of a line."""

    def __init__(
        self,
        monitor: HmpMonitor,
        name: str,
        line: str,
        at: int,
        traits: SizeTraits,
        *,
        registers: Registers = lambda _name: None,
    ) -> None:
        self.monitor = monitor
        self.registers = registers
        self.traits = traits
        self.name = name
        self.line = line
        self.at = at
        self.values: dict[str, Any] = {}

    # -- the line ------------------------------------------------------------------------

    @property
    def rest(self) -> str:
        return self.line[self.at :]

    def skip(self) -> None:
        while self.rest[:1].isspace():
            self.at += 1

    def fail(self, text: str) -> HmpSyntaxError:
        return HmpSyntaxError(text + "\n")

    def word(self) -> str | None:
        """A word, quoted or not; None if there is none or it is malformed."""
        self.skip()
        if not self.rest:
            return None
        if self.rest[0] != '"':
            start = self.at
            while self.rest and not self.rest[0].isspace():
                self.at += 1
            return self.line[start : self.at][:_WORD_MAX]
        self.at += 1
        out = ""
        while self.rest and self.rest[0] != '"':
            if self.rest[0] == "\\":
                escaped = _ESCAPES.get(self.rest[1:2])
                self.at = min(self.at + 2, len(self.line))
                if escaped is None:
                    return None
                out += escaped
            else:
                out += self.rest[0]
                self.at += 1
        if not self.rest:
            return None
        self.at += 1
        return out[:_WORD_MAX]

    # -- one letter each -------------------------------------------------------------------

    def text(self, key: str, letter: str, optional: bool) -> None:
        self.skip()
        if optional and not self.rest:
            return
        word = self.word()
        if word is None:
            raise self.fail(f"{self.name}: {_MISSING.get(letter, 'string expected')}")
        self.values[key] = word

    def remainder(self, key: str, optional: bool) -> None:
        self.skip()
        if not self.rest:
            if optional:
                return
            raise self.fail(f"{self.name}: string expected")
        self.values[key] = self.rest
        self.at = len(self.line)

    def options(self, key: str) -> None:
        self.skip()
        if not self.rest:
            return
        word = self.word()
        if word is None:
            raise HmpSyntaxError("")
        self.values[key] = word

    def integer(self, key: str, letter: str, optional: bool, dotted: bool) -> None:
        self.skip()
        if optional and not self.rest:
            return
        if dotted:
            if not self.rest.startswith("."):
                return
            self.at += 1
            self.skip()
        try:
            value, self.at = evaluate(self.line, self.at, self.registers)
        except ExpressionError as error:
            raise HmpSyntaxError(error.text + "\n") from None
        if letter == "i" and (value >> 32) & 0xFFFFFFFF:
            raise self.fail(f"'{self.name}' has failed: integer is for 32-bit values")
        if letter == "M":
            if value < 0:
                raise self.fail("enter a positive value")
            value = (value << 20) & 0xFFFFFFFFFFFFFFFF
            value -= (value >> 63) << 64
        self.values[key] = value

    def size(self, key: str, optional: bool) -> None:
        self.skip()
        if optional and not self.rest:
            return
        try:
            value, length = strtosz(self.rest, self.traits, "m")
        except ValueError:
            raise self.fail("invalid size") from None
        if value >= 1 << 63:
            raise self.fail("invalid size")
        self.values[key] = value
        self.at += length

    def seconds(self, key: str, optional: bool) -> None:
        self.skip()
        if optional and not self.rest:
            return
        try:
            value, length = strtod(self.rest)
        except OutOfRangeError:
            raise self.fail("Bad number") from None
        except ValueError:
            raise self.fail("Number expected") from None
        self.at += length
        factor = {"ms": 1e3, "us": 1e6, "ns": 1e9}.get(self.rest[:2])
        if factor is not None:
            value /= factor
            self.at += 2
        if self.rest and not self.rest[0].isspace():
            raise self.fail("Unknown unit suffix")
        self.values[key] = value

    def switch(self, key: str) -> None:
        self.skip()
        start = self.at
        while self.rest and self.rest[0].isprintable() and not self.rest[0].isspace():
            self.at += 1
        word = self.line[start : self.at]
        if word not in ("on", "off"):
            raise self.fail("Expected 'on' or 'off'")
        self.values[key] = word == "on"

    def flag(self, key: str, letter: str, following: str, has_value: bool) -> None:
        before = self.at
        self.skip()
        if not self.rest.startswith("-"):
            return
        self.at += 1
        typed = self.rest[:1]
        if typed != letter:
            if f"-{typed}" not in following:
                raise self.fail(f"{self.name}: unsupported option -{typed}")
            self.at = before
        elif has_value:
            self.at += 1
            word = self.word()
            if word is None:
                raise self.fail(f"{self.name}: value expected for -{typed}")
            self.values[key] = word
        else:
            self.at += 1
            self.values[key] = True

    def format(self) -> None:
        self.skip()
        monitor = self.monitor
        count, format_, size = 1, monitor.format, -1 if monitor.format == "i" else monitor.size
        if self.rest.startswith("/"):
            self.at += 1
            found = re.match(r"[0-9]*", self.rest)
            assert found is not None
            count = c_int(digits(found.group() or "1") or 0)
            self.at += found.end()
            given, size = "", -1
            while self.rest and (self.rest[0] in _FORMATS or self.rest[0] in _SIZES):
                if self.rest[0] in _FORMATS:
                    given = self.rest[0]
                else:
                    size = _SIZES[self.rest[0]]
                self.at += 1
            if self.rest and not self.rest[0].isspace():
                raise self.fail(f"invalid char in format: '{self.rest[0]}'")
            format_ = given or monitor.format
            if format_ != "i":
                size = monitor.size if size < 0 else size
                monitor.size = size
            monitor.format = format_
        self.values.update(count=count, format=format_, size=size)


def parse_arguments(
    monitor: HmpMonitor,
    name: str,
    letters: str,
    line: str,
    position: int,
    *,
    traits: SizeTraits,
    registers: Registers,
) -> dict[str, Any]:
    """The arguments of `line` from `position` on, by key. `registers`: see `evaluate`.

    Raises HmpSyntaxError with what QEMU prints before its `Try "help ..."`.
    """
    parser = _Parser(monitor, name, line, position, traits, registers=registers)
    items = letters.split(",") if letters else []
    for number, item in enumerate(items):
        key, _, kind = item.partition(":")
        letter, optional = kind[0], kind.endswith("?")
        if letter in "sFB":
            parser.text(key, letter, optional)
        elif letter == "S":
            parser.remainder(key, optional)
        elif letter == "O":
            parser.options(key)
        elif letter in "ilM":
            parser.integer(key, letter, optional, kind.endswith("."))
        elif letter == "o":
            parser.size(key, optional)
        elif letter == "T":
            parser.seconds(key, optional)
        elif letter == "b":
            parser.switch(key)
        elif letter == "-":
            parser.flag(key, kind[1], ",".join(items[number:])[len(key) + 3 :], kind[2:] == "s")
        elif letter == "/":
            parser.format()
        else:
            raise parser.fail(f"{name}: unknown type '{letter}'")
    parser.skip()
    if parser.rest:
        raise parser.fail(f"{name}: extraneous characters at the end of line")
    return parser.values


def split_words(text: str) -> list[str] | None:
    """The words of `text`, quoted or not; None if one is malformed."""
    from fakeqemu.commands.hmp.registry import HmpMonitor

    parser = _Parser(HmpMonitor(), "", text, 0, Traits())
    words: list[str] = []
    while True:
        parser.skip()
        if not parser.rest:
            return words
        word = parser.word()
        if word is None:
            return None
        words.append(word)
