"""Which command-line options a binary knows, and which of them take an argument.

`-help` leaves some out, so candidates come also from the program file: options are looked
up in a table of records that begin with a pointer to the name, found by following the
relocations around one name that is certainly in it. Every candidate is then tried: only what
the program itself says decides.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from fakeqemu.recorder.qemu import Emulator, Qemu, output

#: fails while options are applied, after all of them were looked up: nothing ever starts
STOPPER = ("-msg", "no-such-key=on")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_RELATIVE = 8
#: what the name of no option begins with
_NOTHING = "no-such-option-"


def record_options(emulator: Emulator, also: Mapping[str, bool]) -> list[list[object]]:
    """`[name, takes an argument, works for this target]` by name.

    `also`: names that are worth trying, and whether they work for other targets.
    """
    with Qemu(emulator, "-machine", "none", "-nodefaults") as qemu:
        image = qemu.image()
    helped = {
        name
        for line in output(emulator, "-help")[1].splitlines()
        if line.startswith("-")
        for name in re.findall(r"(?:^| or )-{1,2}([A-Za-z0-9][\w.-]*)", line)
    }
    candidates = sorted(helped | set(also) | set(table_names(image, "no-user-config")))
    takes = _takes_argument(emulator, candidates)
    # help leaves out what does not work for this target, as a rule
    doubtful = [name for name in takes if name not in helped or not also.get(name, True)]
    with ThreadPoolExecutor(2) as pool:
        works = pool.map(lambda name: _works(emulator, name, takes[name]), doubtful)
        refused = {name for name, good in zip(doubtful, works, strict=True) if not good}
    return [[name, takes[name], name not in refused] for name in sorted(takes)]


def _takes_argument(emulator: Emulator, candidates: Iterable[str]) -> dict[str, bool]:
    """Whether each option that there is takes an argument.

    All names are looked up before anything is done, up to the first that is wrong. Behind each
    candidate stands a name that no option has: those that take an argument take it for that.
    """
    left, found = list(candidates), dict[str, bool]()
    while left:
        argv = [text for name in left for text in (f"-{name}", f"-{_NOTHING}{name}")]
        errors = output(emulator, *STOPPER, *argv)[2]
        match = re.search(rf"-({_NOTHING})?(\S+): invalid option", errors)
        if match is None or match[2] not in left:
            if match is not None or STOPPER[1].partition("=")[0] not in errors:
                raise RuntimeError(f"options are not looked up as expected: {errors.strip()[-80:]}")
            found.update(dict.fromkeys(left, True))
            break
        at = left.index(match[2])
        found.update(dict.fromkeys(left[:at], True))
        if match[1]:
            found[match[2]] = False
        left = left[at + 1 :]
    return found


def _works(emulator: Emulator, name: str, takes: bool) -> bool:
    """Whether an option is there for this target."""
    errors = output(emulator, f"-{name}", *(["/dev/null"] if takes else []), *STOPPER)[2]
    return "Option not supported for this target" not in errors


def table_names(image: bytes, known: str) -> list[str]:
    """The names in the table of records in which `known` stands; [] if it is not found."""
    if image[:6] != b"\x7fELF\x02\x01":
        return []
    segments = _segments(image)
    pointers = {
        offset: addend
        for kind, offset, addend in _relocations(image, segments)
        if kind == _RELATIVE
    }

    def text(address: int | None) -> str | None:
        if address is None:
            return None
        for virtual, size, start in segments:
            if virtual <= address < virtual + size:
                at = start + address - virtual
                end = image.find(b"\0", at, at + 64)
                name = image[at:end].decode("latin-1")
                return name if _NAME.fullmatch(name) else None
        return None

    best: list[str] = []
    for place in (p for p, target in pointers.items() if text(target) == known):
        for stride in (16, 24, 32):
            names = [known]
            for step in (stride, -stride):
                at = place + step
                while (name := text(pointers.get(at))) is not None:
                    names.append(name)
                    at += step
            best = max(best, names, key=len)
    return best


def _segments(image: bytes) -> list[tuple[int, int, int]]:
    """(virtual address, size in the file, file offset) of what is loaded."""
    (table,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    found = []
    for number in range(count):
        kind, _, offset, virtual, _, length = struct.unpack_from(
            "<IIQQQQ", image, table + number * size
        )
        if kind == 1:
            found.append((virtual, length, offset))
    return found


def _relocations(
    image: bytes, segments: list[tuple[int, int, int]]
) -> Iterable[tuple[int, int, int]]:
    """(type, offset, addend) of the RELA sections."""
    (table,) = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    for number in range(count):
        _, kind, _, _, offset, length = struct.unpack_from("<IIQQQQ", image, table + number * size)
        if kind == 4:
            for at in range(offset, offset + length, 24):
                where, info, addend = struct.unpack_from("<QQq", image, at)
                yield info & 0xFFFFFFFF, where, addend
        elif kind == 19:
            yield from _relr(image, segments, offset, length)


def _relr(
    image: bytes, segments: list[tuple[int, int, int]], offset: int, length: int
) -> Iterable[tuple[int, int, int]]:
    """The compact relocations: addresses and bitmaps, the addend stands in place."""

    def entry(where: int) -> tuple[int, int, int]:
        for virtual, size, start in segments:
            if virtual <= where < virtual + size:
                return _RELATIVE, where, struct.unpack_from("<Q", image, start + where - virtual)[0]
        return 0, where, 0

    where = 0
    for at in range(offset, offset + length, 8):
        (word,) = struct.unpack_from("<Q", image, at)
        if word & 1 == 0:
            yield entry(word)
            where = word + 8
        else:
            for bit in range(63):
                if word >> (bit + 1) & 1:
                    yield entry(where + 8 * bit)
            where += 63 * 8
