"""What readers of the lesser channels share: bytes pushed in, what they out given back.

A reader says in a generator how its channel is made up; where the channel breaks the rules, the
generator raises `FormatError`, the reader says so in its own words and is done.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from fakeqemu.formats.migration_stream.byte_reader import ByteReader, Parser

Item = TypeVar("Item")


class FormatError(Exception):
    """The channel breaks the rules, in QEMU's words; never leaves the reader."""


class FeedReader(Generic[Item]):
    """One channel. `done` after its last word, good or bad."""

    def __init__(self) -> None:
        self.done = False
        self._pull = ByteReader()
        self._out: list[Item] = []
        self._parser = self._parse()

    def feed(self, data: bytes) -> list[Item]:
        """More bytes; what is complete with them."""
        if self.done:
            return []
        self._pull.feed(data)
        return self._go()

    def feed_eof(self) -> list[Item]:
        """The other end has closed; the parser knows whether it might."""
        if self.done:
            return []
        self._pull.ended = True
        return self._go()

    def _parse(self) -> Parser:
        raise NotImplementedError

    def _failed(self, text: str) -> Item:
        raise NotImplementedError

    def _go(self) -> list[Item]:
        try:
            next(self._parser)
        except StopIteration:
            self.done = True
        except FormatError as wrong:
            self.done = True
            self._out.append(self._failed(str(wrong)))
        out = self._out[:]
        self._out.clear()
        return out
