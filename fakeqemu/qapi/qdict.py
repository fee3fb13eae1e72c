"""The order in which QEMU walks a JSON object's members.

QEMU keeps objects in a hash table and walks it bucket by bucket, so the order of members in
replies, in `json:` file names and in which of two mistakes is reported first follows from the
names alone. Python keeps insertion order; these functions give QEMU's order.

See qobject/qdict.c: tdb_hash() and qdict_next_entry().
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

from fakeqemu.qapi.json.utf8 import c_bytes

V = TypeVar("V")

BUCKETS = 512
_WORD = 0xFFFFFFFF

#: sizes of the second table are powers of two; the start slot is taken modulo this prime
_PRIMES = (
    1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071,
    262139, 524287, 1048573, 2097143, 4194301, 8388593,
)  # fmt: skip
_SMALLEST = 3
#: names that are put in or moved before others have their turn
_SLICE = 2000
#: a slot whose name was taken out; never a member's name (compared by identity)
_GONE = "".join(("<", "gone", ">"))


@lru_cache(maxsize=4096)
def bucket(key: str) -> int:
    """The bucket of QEMU's object table that `key` falls into."""
    data = c_bytes(key)
    value = 0x238F13AF * len(data)
    for index, byte in enumerate(data):
        value += byte << (index * 5 % 24)
    return (1103515243 * (value & _WORD) + 12345 & _WORD) % BUCKETS


def items(members: Mapping[str, V]) -> list[tuple[str, V]]:
    """The members in QEMU's order; in one bucket the last put comes first."""
    newest_first = list(members.items())[::-1]
    if len(newest_first) < 2:
        return newest_first
    return sorted(newest_first, key=lambda item: bucket(item[0]))


def flattened(members: Mapping[str, Any]) -> dict[str, Any]:
    """Objects and arrays in objects as members `a.b` and `a.0`: qdict_flatten()."""
    flat: dict[str, Any] = {}
    waiting = deque([("", member) for member in members.items()])
    while waiting:
        prefix, (key, value) = waiting.popleft()
        if isinstance(value, Mapping) and value:
            waiting.extend((f"{prefix}{key}.", member) for member in value.items())
        elif isinstance(value, list) and value:
            waiting.extend((f"{prefix}{key}.", (str(i), each)) for i, each in enumerate(value))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nested(members: Mapping[str, Any]) -> dict[str, Any]:
    """Members `a.b` as objects in objects."""
    found: dict[str, Any] = {}
    for key, value in members.items():
        *path, last = key.split(".")
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place[last] = nested(value) if isinstance(value, dict) else value
    return found


def first_unvisited(
    members: Mapping[str, object], visited: Collection[str]
) -> Generator[None, None, str | None]:
    """Which of the members that no visitor asked for is reported as unexpected.

    QEMU puts the names into a second table, removes those it visits (`visited`, in that
    order) and reports the first that is left. Yields where a turn may end: a client chooses how
    many there are.
    """
    left = set(members).difference(visited)
    if not left:
        return None
    if len(left) == 1:
        return left.pop()
    yield
    buckets: list[list[str]] = [[] for _ in range(BUCKETS)]
    for number, name in enumerate(reversed(list(members)), 1):
        buckets[bucket(name)].append(name)
        if number % _SLICE == 0:
            yield
    table = NameTable()
    for number, name in enumerate(chain.from_iterable(buckets), 1):
        yield from table.insert(name)
        if number % _SLICE == 0:
            yield
    for name in visited:
        yield from table.remove(name)
    return table.first()


def in_name_table(names: Iterable[str]) -> list[str]:
    """Names put in one after the other, in the order in which a walk of the table meets them.

    QEMU keeps an object's properties in such a table.
    """
    return NameTable(names).walked()


@lru_cache(maxsize=4096)
def _name_hash(name: str) -> int:
    value = 5381
    for byte in c_bytes(name):
        value = value * 33 + (byte - 256 if byte > 127 else byte) & _WORD
    return max(value, 2)


class NameTable:
    """The table of names: open addressing, so that the slots tell the order.

    Modelled are where an insert lands, when the table grows or shrinks and how the names move
    then: each in turn goes to its new slot, and whom it finds there goes next.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.shift = _SMALLEST
        self.slots: list[str | None] = [None] * (1 << _SMALLEST)
        #: names in the table, and slots that are or were in use
        self.names = 0
        self.occupied = 0
        self._at: dict[str, int] = {}
        for name in names:
            self.add(name)

    def walked(self) -> list[str]:
        """The names in the order in which a walk meets them."""
        return [name for name in self.slots if name is not None and name is not _GONE]

    def add(self, name: str) -> None:
        """As `insert`, at once."""
        deque(self.insert(name), maxlen=0)

    def discard(self, name: str) -> None:
        """As `remove`, at once; nothing if the name is not there."""
        if name in self._at:
            deque(self.remove(name), maxlen=0)

    def insert(self, name: str) -> Iterable[None]:
        """Put in a name that is not there yet; go through what is returned."""
        slot = self._start(name)
        free: int | None = None
        step = 0
        while (found := self.slots[slot]) is not None:
            if found is _GONE and free is None:
                free = slot
            step += 1
            slot = slot + step & len(self.slots) - 1
        self.names += 1
        self.slots[slot if free is None else free] = name
        self._at[name] = slot if free is None else free
        if free is not None:
            return ()
        self.occupied += 1
        return self._fit()

    def remove(self, name: str) -> Iterable[None]:
        """Take a name out; its slot stays marked until the table is resized. See `insert`."""
        self.slots[self._at.pop(name)] = _GONE
        self.names -= 1
        return self._fit()

    def first(self) -> str:
        """The name that a walk meets first."""
        return next(name for name in self.slots if name is not None and name is not _GONE)

    def _start(self, name: str) -> int:
        return (_name_hash(name) * 11 & _WORD) % _PRIMES[self.shift]

    def _fit(self) -> Iterable[None]:
        size = len(self.slots)
        if (size > self.names * 4 and size > 1 << _SMALLEST) or (
            size <= self.occupied + self.occupied // 16
        ):
            return self._resize()
        return ()

    def _resize(self) -> Iterator[None]:
        old = self.slots
        self.shift = max(int(self.names * 1.333).bit_length(), _SMALLEST)
        size = 1 << self.shift
        slots = old + [None] * (size - len(old))
        moved: set[int] = set()
        for index, name in enumerate(old, 1):
            if index % _SLICE == 0:
                yield
            if index - 1 in moved:
                continue
            slots[index - 1] = None
            going = None if name is _GONE else name
            while going is not None:
                slot = self._start(going)
                step = 0
                while slot in moved:
                    step += 1
                    slot = slot + step & size - 1
                moved.add(slot)
                found, slots[slot] = slots[slot], going
                self._at[going] = slot
                going = None if found is _GONE else found
        self.slots = slots[:size]
        self.occupied = self.names
