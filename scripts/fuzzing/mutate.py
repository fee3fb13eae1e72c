"""Changes of binary data, written down so that they can be left out one by one.

A change is [kind, offset, value]: "byte", "word" and "quad" overwrite with a big-endian number,
"insert" puts bytes (hexadecimal) in, "delete" takes `value` bytes out, "cut" ends the data there.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

Change = list[Any]

_WORDS = [0, 1, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 1 << 20, 4096, 4097, 511]
_QUADS = [0, 3, 1 << 63, 1 << 63 | 4096, 1 << 62, (1 << 64) - 1, 0x10000, 1 << 56]
_SIZES = {"byte": 1, "word": 4, "quad": 8}


def changes(rng: random.Random, size: int, starts: Sequence[tuple[int, int]]) -> list[Change]:
    """Some changes of data of that size; `starts`: stretches where they begin, one as likely as
    another."""
    found: list[Change] = []
    for _ in range(rng.randrange(1, 4)):
        first, last = rng.choice(starts)
        at = rng.randrange(first, max(first + 1, min(last, size)))
        kind = rng.randrange(8)
        if kind < 2:
            found.append(["byte", at, rng.randrange(256)])
        elif kind < 4:
            found.append(["word", at // 4 * 4, rng.choice(_WORDS)])
        elif kind < 6:
            found.append(["quad", at // 8 * 8, rng.choice([*_QUADS, size])])
        elif kind == 6:
            found.append(["insert", at, rng.randbytes(rng.randrange(1, 9)).hex()])
        else:
            found.append(rng.choice([["cut", at, 0], ["delete", at, rng.randrange(1, 9)]]))
    return found


def changed(data: bytes, given: Iterable[Change]) -> bytes:
    """The data with all changes made, in order; one behind the end changes nothing."""
    out = bytearray(data)
    for kind, at, value in given:
        if kind == "insert":
            out[at:at] = bytes.fromhex(value)
        elif kind == "delete":
            del out[at : at + value]
        elif kind == "cut":
            del out[at:]
        elif at + _SIZES[kind] <= len(out):
            out[at : at + _SIZES[kind]] = value.to_bytes(_SIZES[kind], "big")
    return bytes(out)
