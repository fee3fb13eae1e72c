r"""QEMU's UTF-8: strict about characters, with NUL as the two bytes C0 80.

A C string cannot hold a NUL, so QEMU's JSON reader makes these two bytes of it, and they are in
every file name, host name and id that comes of it; its writer makes `\u0000` of them again
(see util/unicode.c: mod_utf8_encode(), qobject/json-writer.c). Text here has them as
`surrogateescape` has bytes that are no UTF-8, so what the system gets is what QEMU gives it.

Refused: surrogates, noncharacters (FDD0..FDEF, any xxFFFE and xxFFFF), overlong forms, what
lies beyond 10FFFF. Python's own decoder knows all but the noncharacters and C0 80.
"""

from __future__ import annotations

import re

_NONCHARACTER = (
    "[\ufdd0-\ufdef"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
)
_INVALID = f"[\ud800-\udfff]|{_NONCHARACTER}"
#: bytes of which one is in every noncharacter; to look for them takes no time
_IN_NONCHARACTERS = (b"\xbf\xbe", b"\xbf\xbf", b"\xef\xb7")
REPLACEMENT = "\ufffd"
#: a NUL in text from a client: the bytes C0 80
NUL = "\udcc0\udc80"


def c_bytes(text: str) -> bytes:
    """`text` as QEMU keeps it, without a NUL, and as the system gets it."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte: not from a client
        data = text.encode("utf-8", "surrogatepass")
    return data.replace(b"\0", b"\xc0\x80") if 0 in data else data


def valid_codepoint(code: int) -> bool:
    """Whether a string may hold the character `code`."""
    return (
        0 <= code <= 0x10FFFF
        and not 0xD800 <= code <= 0xDFFF
        and not 0xFDD0 <= code <= 0xFDEF
        and code & 0xFFFE != 0xFFFE
    )


def valid_text(text: str) -> bool:
    """Whether a string may hold each character of `text`, in which NUL is one character."""
    return text.isascii() or re.search(_INVALID, text) is None


def decode(data: bytes) -> str | None:
    """`data` as text, or None if any of it is not valid."""
    try:
        if b"\xc0\x80" in data:
            text = NUL.join(part.decode() for part in data.split(b"\xc0\x80"))
        else:
            text = data.decode()
    except UnicodeDecodeError:
        return None
    if any(part in data for part in _IN_NONCHARACTERS) and re.search(_NONCHARACTER, text):
        return None
    return text


def decode_lossy(data: bytes) -> str:
    """`data` up to its first NUL, as it shows in an error text: bad sequences become U+FFFD."""
    data = data.split(b"\0", 1)[0]
    if (whole := decode(data)) is not None:
        return whole
    out = []
    start = 0
    while start < len(data):
        end = _sequence_end(data, start)
        out.append(decode(data[start:end]) or REPLACEMENT)
        start = end
    return "".join(out)


def _sequence_end(data: bytes, start: int) -> int:
    """Where the sequence at `start` ends: its lead byte says how many may follow."""
    lead = data[start]
    if lead < 0xC0 or lead >= 0xFE:
        return start + 1
    length = 2
    while lead & (0x80 >> length):
        length += 1
    end = start + 1
    while end < min(start + length, len(data)) and data[end] & 0xC0 == 0x80:
        end += 1
    return end
