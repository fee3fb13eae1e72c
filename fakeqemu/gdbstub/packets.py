"""Packets of gdb's remote serial protocol as bytes, and the parameters inside them.

A packet is `$DATA#CC` with a checksum of two hexadecimal digits; `}` escapes a byte, `*` repeats
the one before. See gdbstub/gdbstub.c: gdb_read_byte(), cmd_parse_params(), and the chapter
"Remote Protocol" of gdb's manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from fakeqemu.dataclass import dataclass

_ESCAPE = 0x20
_HEX = b"0123456789abcdefABCDEF"
#: what must not stand in a packet's data as it is
_SPECIAL = b"#$*}"
_NUMBER = re.compile(rb"[\t-\r ]*([+-]?)(?:0[xX](?=[0-9a-fA-F]))?([0-9a-fA-F]+)")
_WORD = (1 << 64) - 1


def frame(data: bytes) -> bytes:
    """A packet with that data, which is to be escaped already."""
    return b"$%b#%02x" % (data, sum(data) & 0xFF)


def escape(data: bytes) -> bytes:
    """Binary data as it stands in a packet."""
    return b"".join(
        bytes((0x7D, byte ^ _ESCAPE)) if byte in _SPECIAL else bytes((byte,)) for byte in data
    )


def from_hex(text: bytes, size: int) -> bytes:
    """`size` bytes from hexadecimal digits; what is no digit counts as 0, as in QEMU."""
    digits = bytes(char if char in _HEX else 0x30 for char in text[: 2 * size])
    return bytes.fromhex(digits.ljust(2 * size, b"0").decode())


class _State(Enum):
    IDLE = 1
    DATA = 2
    ESCAPED = 3
    REPEAT = 4
    SUM_HIGH = 5
    SUM_LOW = 6


class PacketReader:
    """Takes bytes one by one; a packet comes out with the byte that ends it."""

    def __init__(self, longest: int) -> None:
        #: the most bytes of data, less two for QEMU's own ends
        self._room = longest - 1
        self._state = _State.IDLE
        self._data = bytearray()
        self._sum = 0
        self._given = 0

    def feed(self, byte: int) -> bytes | None:
        """The data of the packet that `byte` ends; b"" is a whole packet without data.

        Raises ChecksumError if its checksum is wrong.
        """
        state = self._state
        if state is _State.IDLE:
            if byte == 0x24:
                self._data.clear()
                self._sum = 0
                self._state = _State.DATA
        elif state is _State.SUM_HIGH or state is _State.SUM_LOW:
            return self._checksum(byte)
        elif byte == 0x23 and state is not _State.REPEAT:
            self._state = _State.SUM_HIGH
        elif state is _State.DATA and byte in b"}*":
            self._sum += byte
            self._state = _State.ESCAPED if byte == 0x7D else _State.REPEAT
        elif state is _State.REPEAT:
            self._repeat(byte)
        elif len(self._data) >= self._room:
            self._state = _State.IDLE
        else:
            self._sum += byte
            self._data.append(byte ^ _ESCAPE if state is _State.ESCAPED else byte)
            self._state = _State.DATA
        return None

    def _repeat(self, byte: int) -> None:
        self._state = _State.DATA
        if not 0x20 <= byte <= 0x7E or byte in b"#$":
            return
        count = byte - 0x20 + 3
        if len(self._data) + count >= self._room:
            self._state = _State.IDLE
        elif self._data:
            self._data += self._data[-1:] * count
            self._sum += byte

    def _checksum(self, byte: int) -> bytes | None:
        if byte not in _HEX:
            self._state = _State.DATA
            return None
        digit = int(chr(byte), 16)
        if self._state is _State.SUM_HIGH:
            self._given = digit << 4
            self._state = _State.SUM_LOW
            return None
        self._state = _State.IDLE
        if self._given | digit != self._sum & 0xFF:
            raise ChecksumError
        # QEMU's packets are C strings
        return bytes(self._data).split(b"\0", 1)[0]


class ChecksumError(Exception):
    """The packet was damaged on its way; the other side is to send it again."""


# -- parameters ----------------------------------------------------------------------------------


class ParameterError(Exception):
    """The packet's parameters cannot be read: it counts as unknown."""


@dataclass(frozen=True, slots=True)
class ThreadId:
    """A thread as packets name it. 0 stands for any, None for all (-1)."""

    pid: int | None = 0
    tid: int | None = 0
    #: whether it could be read
    valid: bool = True


Parameter = int | bytes | ThreadId


def parse(data: bytes, form: str) -> list[Parameter]:
    """The parameters of a packet: as many as there are.

    `form` is pairs of letters: what stands there ("l" a hexadecimal number, "s" text, "o" one
    byte, "t" a thread, "?" something to be skipped) and what ends it ("0" the end of the packet,
    "." one byte whatever it is, "?" any of ",;:=", otherwise that byte).
    Raises ParameterError for what is no number.
    """
    found: list[Parameter] = []
    for kind, end in zip(form[::2], form[1::2], strict=True):
        if not data:
            break
        if kind == "l":
            value, data = number(data)
            found.append(value)
        elif kind == "s":
            found.append(data)
        elif kind == "o":
            found.append(data[0])
        elif kind == "t":
            thread, data = thread_id(data)
            found.append(thread)
        data = _after(data, end)
    return found


def _after(data: bytes, end: str) -> bytes:
    if end == "0":
        return b""
    if end == ".":
        return data[1:]
    match = re.search(b"[,;:=]" if end == "?" else re.escape(end.encode()), data)
    return data[match.end() :] if match is not None else b""


def number(data: bytes) -> tuple[int, bytes]:
    """A hexadecimal number at the start, and what follows it. Raises ParameterError."""
    match = _NUMBER.match(data)
    if match is None or len(match[2].lstrip(b"0")) > 16:
        raise ParameterError
    value = int(match[2], 16)
    return (-value if match[1] == b"-" else value) & _WORD, data[match.end() :]


def thread_id(data: bytes) -> tuple[ThreadId, bytes]:
    """A thread at the start, `TID` or `pPID.TID`, and what follows it."""
    pid, rest = 0, data
    try:
        if rest.startswith(b"p"):
            pid, rest = number(rest[1:])
            rest = rest[1:]
        tid, rest = number(rest)
    except ParameterError:
        return ThreadId(valid=False), b""
    if pid == _WORD:
        return ThreadId(None, None), rest
    return ThreadId(pid & 0xFFFFFFFF, None if tid == _WORD else tid & 0xFFFFFFFF), rest


def lines_of(text: str) -> Iterator[str]:
    """The pieces that QEMU's monitor writes: one a line, CR LF at its end."""
    for line in text.splitlines(keepends=True) if text else ():
        yield line.removesuffix("\n") + "\r\n" if line.endswith("\n") else line
