"""qemu-io's little language of reads and writes, as far as its effects outlast the command.

The human monitor runs one line of it on a backend. What qemu-io prints goes to standard output
in QEMU, with figures of time; only what went wrong is said here.

See qemu-io-cmds.c: read_cmd, qemuio_command() and parse_pattern().
"""

from __future__ import annotations

import contextlib
import getopt
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fakeqemu.formats import extents
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.scalars import (
    MalformedError,
    OutOfRangeError,
    parse_int64,
    parse_size,
)

if TYPE_CHECKING:
    from fakeqemu.model.block.backends.backend import Backend
    from fakeqemu.model.block.layer import BlockLayer

_FILLER = 0xCD
_IO_ERROR = "Input/output error"
_INT64_MAX = (1 << 63) - 1
_BYTE_MAX = 255


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

    block: BlockLayer
    backend: Backend
    verb: str
    options: dict[str, str]
    values: list[str]
    #: the byte to write, or to expect
    pattern: int | None = None

    def say(self, text: str) -> None:
        """Report the error of a request."""
        self.block.process.journal.note("qemu-io", text)
        self.block.process.host.say(text)

    def range(self) -> tuple[int, int] | None:
        """Offset and length as typed; None if they cannot be."""
        if len(self.values) != 2:
            self.say(f"bad argument count {len(self.values) + 1} to {self.verb}")
            return None
        found = [self.number(text) for text in self.values]
        offset, length = found
        return None if offset is None or length is None else (offset, length)

    def number(self, text: str) -> int | None:
        """A size as typed; None, and what is wrong is printed, if it cannot be.

        See qemu-io-cmds.c: cvtnum() and print_cvtnum_err().
        """
        try:
            value = parse_size(text, self.block.process.profile.traits)
            if value > _INT64_MAX:
                raise OutOfRangeError(text)
        except OutOfRangeError:
            self.say(f"Parsing error: argument too large -- {text}")
        except MalformedError:
            why = "non-numeric argument, or extraneous/unrecognized suffix"
            self.say(f"Parsing error: {why} -- {text}")
        else:
            return value
        return None

    def has_pattern(self) -> bool:
        """Take the byte that option -P names; False, which is printed, if it is none.

        See qemu-io-cmds.c: parse_pattern().
        """
        text = self.options.get("P")
        if text is None:
            return True
        with contextlib.suppress(ValueError):
            self.pattern = parse_int64(text)
        if self.pattern is None or not 0 <= self.pattern <= _BYTE_MAX:
            self.say(f"{text} is not a valid pattern byte")
            return False
        return True

    def inside(self, offset: int, count: int) -> bool:
        """Whether the medium has the range."""
        node = self.backend.node
        return node is not None and offset + count <= base.length(node)


def run(block: BlockLayer, backend: Backend, text: str) -> None:
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
    try:
        options, line.values = getopt.gnu_getopt(words[1:], verb.letters)
    except getopt.GetoptError as error:
        lacks = f"{error.opt}:" in verb.letters
        why = "option requires an argument" if lacks else "invalid option"
        line.say(f"{words[0]}: {why} -- '{error.opt}'")
        return
    line.options = {option[1:]: value for option, value in options}
    if not line.has_pattern():
        return
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
    if line.pattern is not None and data != bytes([line.pattern]) * count:
        line.say(f"Pattern verification failed at offset {offset}, {count} bytes")


def _write(line: _Line) -> None:
    found = line.range()
    if found is None:
        return
    offset, count = found
    counted = line.verb.startswith("aio")
    try:
        if not line.inside(offset, count):
            raise QapiError(_IO_ERROR)
        if "z" in line.options:
            line.backend.zero(offset, count, counted=counted)
            return
        byte = _FILLER if line.pattern is None else line.pattern
        for at in range(offset, offset + count, extents.CHUNK):
            step = min(extents.CHUNK, offset + count - at)
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
    if len(line.values) != 1:
        line.say(f"bad argument count {len(line.values) + 1} to {line.verb}")
        return
    size = line.number(line.values[0])
    if size is None:
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
