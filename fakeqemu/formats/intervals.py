"""Sets of whole numbers that lie together: they cost as many numbers as they have ends."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator

_BEHIND_ALL = 1 << 63
_SOME = re.compile(rb"[^\0]")
_ODD = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


class Intervals:
    """A set of numbers >= 0 and below 2^63, as the ends of its intervals."""

    __slots__ = ("_ends",)

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        #: where the set begins (even places) and stops (odd places) to hold, ascending
        self._ends = array("q")
        for first, end in intervals:
            self.add(first, end)

    # -- what is in it -------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self._ends)

    def __contains__(self, number: int) -> bool:
        return bool(bisect_right(self._ends, number) & 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Intervals({list(self)})"

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """First number of each interval and the one behind it, ascending."""
        return zip(self._ends[::2], self._ends[1::2], strict=True)

    @property
    def pieces(self) -> int:
        """How many intervals there are."""
        return len(self._ends) // 2

    @property
    def total(self) -> int:
        """How many numbers there are."""
        return sum(self._ends[1::2]) - sum(self._ends[::2])

    def within(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The intervals' parts from `first` to below `end`."""
        at = bisect_right(self._ends, first) & ~1
        while at < len(self._ends) and self._ends[at] < end:
            yield max(self._ends[at], first), min(self._ends[at + 1], end)
            at += 2

    def units(self, size: int) -> Iterator[int]:
        """Numbers of the parts of `size` numbers that any of these are in, ascending."""
        behind = 0
        for first, end in self:
            yield from range(max(behind, first // size), -(-end // size))
            behind = -(-end // size)

    def copy(self) -> Intervals:
        """Another one of the same numbers."""
        other = Intervals()
        other._ends = self._ends[:]
        return other

    # -- changes -------------------------------------------------------------------------------

    def add(self, first: int, end: int) -> None:
        """Put numbers from `first` to below `end` in."""
        if first < end:
            low, high = bisect_left(self._ends, first), bisect_right(self._ends, end)
            self._ends[low:high] = array("q", [first][low & 1 :] + [end][high & 1 :])

    def remove(self, first: int, end: int) -> None:
        """Take numbers from `first` to below `end` out."""
        if first < end:
            low, high = bisect_left(self._ends, first), bisect_right(self._ends, end)
            self._ends[low:high] = array("q", [first][1 - (low & 1) :] + [end][1 - (high & 1) :])

    def clip(self, end: int) -> None:
        """Take out what is not below `end`."""
        if self._ends and self._ends[-1] > end:
            self.remove(end, self._ends[-1])

    def __or__(self, other: Intervals) -> Intervals:
        return _combined(self, other, lambda mine, its: mine | its)

    def __and__(self, other: Intervals) -> Intervals:
        return _combined(self, other, lambda mine, its: mine & its)

    def __sub__(self, other: Intervals) -> Intervals:
        return _combined(self, other, lambda mine, its: mine & ~its)

    # -- bits ----------------------------------------------------------------------------------

    def append_bits(self, first: int, data: bytes) -> None:
        """Put bits in, the lowest of each byte first; nothing lies behind `first` yet."""
        size = len(data)
        bits = int.from_bytes(data, "little")
        # a bit that differs from the one before it is an end
        changes = (bits ^ bits << 1).to_bytes(size + 1, "little")
        found = array("q")
        for match in _SOME.finditer(changes):
            at = first + match.start() * 8
            found.extend(at + bit for bit in _ODD[changes[match.start()]])
        if found and self._ends and found[0] == self._ends[-1]:
            del self._ends[-1], found[0]
        self._ends.extend(found)

    def to_bits(self, first: int, size: int) -> bytes:
        """`size` bytes of bits, the lowest of each byte being `first`."""
        found = bytearray(size)
        for begin, end in self.within(first, first + size * 8):
            low, high = begin - first, end - first
            head, tail = -(-low // 8), high // 8
            if head > tail:  # inside one byte
                found[tail] |= (1 << high % 8) - (1 << low % 8)
                continue
            if low % 8:
                found[head - 1] |= 0x100 - (1 << low % 8)
            if tail > head:
                found[head:tail] = b"\xff" * (tail - head)
            if high % 8:
                found[tail] |= (1 << high % 8) - 1
        return bytes(found)


def runs_of_bits(data: bytes) -> int:
    """How many stretches of set bits there are: what `append_bits` makes of them."""
    bits = int.from_bytes(data, "little")
    return (bits ^ bits << 1).bit_count() // 2


def _combined(one: Intervals, other: Intervals, keep: Callable[[int, int], int]) -> Intervals:
    """What `keep` says of being in `one` and in `other`, each 0 or 1; not of being in none."""
    result = Intervals()
    left, right = one._ends, other._ends
    at, to, held = 0, 0, 0
    while at < len(left) or to < len(right):
        mine = left[at] if at < len(left) else _BEHIND_ALL
        its = right[to] if to < len(right) else _BEHIND_ALL
        at += mine <= its
        to += its <= mine
        if keep(at & 1, to & 1) != held:
            held = 1 - held
            result._ends.append(min(mine, its))
    return result
