"""Makes a pickle that is read faster: equal texts once, and only what is referred to remembered."""

from __future__ import annotations

import struct
from pickletools import genops

_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE"})
_GETS = frozenset({"BINGET", "LONG_BINGET"})


def compact(data: bytes) -> bytes:
    """The same objects, from fewer bytes. `data` is what `pickle` writes, protocol 4 or newer."""
    found = list(genops(data))
    ends = [position for _, _, position in found[1:]] + [len(data)]
    pieces: list[tuple[str, bytes, int | None]] = []
    #: what is remembered -> the first that is equal
    same: dict[int, int] = {}
    texts: dict[str, int] = {}
    remembered = 0
    for (code, argument, start), end in zip(found, ends, strict=True):
        assert start is not None and end is not None
        piece = data[start:end]
        if code.name == "FRAME":
            continue
        if code.name == "MEMOIZE":
            before = pieces[-1]
            first = texts.setdefault(before[1].decode("latin-1"), remembered) if (
                before[0] in _TEXTS
            ) else remembered
            same[remembered] = first
            if first == remembered:
                pieces.append(("PUT", b"", first))
            else:
                pieces[-1] = ("GET", b"", first)
            remembered += 1
        elif code.name in _GETS:
            assert isinstance(argument, int)
            pieces.append(("GET", b"", same[argument]))
        else:
            pieces.append((code.name, piece, None))
    wanted = {number for name, _, number in pieces if name == "GET"}
    numbers: dict[int, int] = {}
    out = bytearray()
    for name, piece, number in pieces:
        if number is None:
            out += piece
        elif name == "GET":
            out += _numbered(b"h", b"j", numbers[number])
        elif number in wanted:
            numbers[number] = len(numbers)
            out += _numbered(b"q", b"r", numbers[number])
    return bytes(out)


def _numbered(short: bytes, long: bytes, number: int) -> bytes:
    return short + bytes([number]) if number < 256 else long + struct.pack("<I", number)
