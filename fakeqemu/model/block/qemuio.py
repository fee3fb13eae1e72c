"""qemu-io's little language of reads and writes, as far as its effects outlast the command.

The human monitor runs one line of it on a backend. What qemu-io prints goes to standard output
in QEMU, with figures of time; only what went wrong is said here.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fakeqemu.model.block import driver as base
from fakeqemu.model.block import permissions as perms
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.backend import Backend
    from fakeqemu.model.block.room import Block

_FILLER = 0xCD
_IO_ERROR = "Input/output error"
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class _Verb:
    """One verb: what it does, and what it wants of the medium."""

    act: Callable[[_Line], None]
    perm: int = 0
    #: option letters, those with a value followed by a colon
    letters: str = ""


@dataclass(slots=True)
class _Line:
    """A line taken apart."""

    block: Block
    backend: Backend
    verb: str
    options: dict[str, str]
    values: list[str]

    def say(self, text: str) -> None:
        """Tell what went wrong."""
        self.block.vm.journal.note("qemu-io", text)
        self.block.vm.host.say(text)

    def range(self) -> tuple[int, int] | None:
        """Offset and length as typed; None if they cannot be."""
        if len(self.values) != 2:
            self.say(f"bad argument count {len(self.values) + 1} to {self.verb}")
            return None
        found = [_number(text) for text in self.values]
        for text, value in zip(self.values, found, strict=True):
            if value is None:
                self.say(f"non-numeric length argument -- {text}")
                return None
        return found[0] or 0, found[1] or 0

    def inside(self, offset: int, count: int) -> bool:
        """Whether the medium has the range."""
        node = self.backend.node
        return node is not None and offset + count <= base.length(node)


def _number(text: str) -> int | None:
    digits = text.rstrip("bBkKmMgGtT")
    unit = _UNITS.get(text[len(digits) :].lower())
    try:
        return int(digits, 0) * unit if unit is not None else None
    except ValueError:
        return None


def run(block: Block, backend: Backend, text: str) -> None:
    """Run one line. Raises QapiError where the medium's other users do not allow it."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    if not words:
        return
    verb = _VERBS.get(words[0])
    if verb is None and words[0] in _ELSEWHERE:
        raise NotModelledError(f"qemu-io {words[0]}")
    line = _Line(block, backend, words[0], {}, [])
    if verb is None:
        line.say(f'command "{words[0]}" not found')
        return
    if backend.node is None:
        line.say("no file open, try 'help open'")
        return
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-") or len(word) < 2:
            line.values.append(word)
            continue
        for letter in word[1:]:
            takes = f"{letter}:" in verb.letters
            if letter not in verb.letters:
                line.say(f"{words[0]}: invalid option -- '{letter}'")
                return
            line.options[letter] = next(rest, "") if takes else ""
    if verb.perm & ~backend.perm:
        backend.set_permissions(backend.perm | verb.perm, backend.shared)
    verb.act(line)


def _read(line: _Line) -> None:
    found = line.range()
    if found is None:
        return
    offset, count = found
    try:
        if not line.inside(offset, count):
            raise QapiError(_IO_ERROR)
        data = line.backend.read(offset, count, counted=line.verb.startswith("aio"))
    except NotModelledError:
        raise
    except QapiError as error:
        line.say(f"read failed: {error.desc}")
        return
    pattern = _number(line.options.get("P", ""))
    if pattern is not None and data != bytes([pattern & 0xFF]) * count:
        line.say(f"Pattern verification failed at offset {offset}, {count} bytes")


def _write(line: _Line) -> None:
    found = line.range()
    if found is None:
        return
    offset, count = found
    pattern = _number(line.options.get("P", ""))
    counted = line.verb.startswith("aio")
    try:
        if not line.inside(offset, count):
            raise QapiError(_IO_ERROR)
        if "z" in line.options:
            line.backend.zero(offset, count, counted=counted)
            return
        byte = _FILLER if pattern is None else pattern & 0xFF
        for at in range(offset, offset + count, base.CHUNK):
            step = min(base.CHUNK, offset + count - at)
            line.backend.write(
                at, bytes([byte]) * step, counted=counted, compress="c" in line.options
            )
    except NotModelledError:
        raise
    except QapiError as error:
        line.say(f"write failed: {error.desc}")


def _discard(line: _Line) -> None:
    found = line.range()
    if found is None:
        return
    offset, count = found
    if not line.inside(offset, count):
        line.say(f"discard failed: {_IO_ERROR}")
        return
    line.backend.discard(offset, count)


def _truncate(line: _Line) -> None:
    size = _number(line.values[0]) if line.values else None
    if size is None:
        line.say("non-numeric truncate argument -- " + " ".join(line.values))
        return
    node = line.backend.node
    assert node is not None
    base.truncate(node, size)


def _flush(line: _Line) -> None:
    node = line.backend.node
    assert node is not None
    try:
        node.driver.flush(node)
    except QapiError as error:
        line.say(f"flush: {error.desc}")


def _nothing(line: _Line) -> None:
    """What only prints, or what has no meaning where nothing is pending."""


_R, _W = "bCl:pP:qs:v", "bcCfnpP:qs:uz"
_VERBS = {
    **dict.fromkeys(("read", "r", "aio_read"), _Verb(_read, 0, _R)),
    **dict.fromkeys(("write", "w", "aio_write"), _Verb(_write, perms.WRITE, _W)),
    **dict.fromkeys(("discard", "d"), _Verb(_discard, perms.WRITE, "Cq")),
    **dict.fromkeys(("truncate", "t"), _Verb(_truncate, perms.WRITE | perms.RESIZE, "m:")),
    **dict.fromkeys(("flush", "f", "aio_flush"), _Verb(_flush)),
    **dict.fromkeys(
        ("length", "l", "info", "i", "map", "alloc", "help"),
        _Verb(_nothing),
    ),
}
#: verbs of qemu-io that are not among these
_ELSEWHERE = (
    "readv", "rv", "writev", "wv", "break", "remove_break", "resume", "wait_break", "sleep",
    "reopen", "sigraise", "abort", "zone_report", "zone_open", "zone_close", "zone_finish",
    "zone_reset", "zone_append",
)  # fmt: skip
