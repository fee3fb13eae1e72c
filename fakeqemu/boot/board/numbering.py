"""The numbers of `/machine/unattached/device[N]`, which count devices in order of creation.

They are recorded for one CPU, and for the default devices of a board or none. Whatever a board
makes besides, and whatever it leaves out, shifts the numbers of what it makes later.

See hw/core/qdev.c: qdev_get_unattached_container() and device_set_realized().
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass, field

if TYPE_CHECKING:
    from fakeqemu.profile import TreeObject

#: makes or changes the board's device of that number
Maker = Callable[[int], None]

_DEVICE = re.compile(r"(/machine/unattached/)?device\[(\d+)\]")
_CHILD = "device["


@dataclass(eq=False, slots=True)
class _Entry:
    """One device in the order of creation."""

    #: its recorded number; None for one that was not recorded
    recorded: int | None
    makers: list[Maker] = field(default_factory=list)
    left_out: bool = False


def numbered(recorded: TreeObject) -> dict[int, TreeObject]:
    """The devices of a recorded container of unattached ones, by number."""
    return {
        int(name.removeprefix(_CHILD).removesuffix("]")): child
        for name, child in recorded.children.items()
        if name.startswith(_CHILD)
    }


class Numbering:
    """The devices of one board, in the order in which it makes them."""

    def __init__(self, recorded: TreeObject, usual: TreeObject) -> None:
        """Containers of unattached devices, recorded of such a machine.

        `recorded`: what this machine is made from; `usual`: the one with default devices.
        """
        #: number -> device, from what the machine is made from
        self.recorded = dict(sorted(numbered(recorded).items()))
        #: number -> device, with default devices
        self.usual = dict(sorted(numbered(usual).items()))
        self._entries = [_Entry(number) for number in self.recorded]
        self._by_number = dict(zip(self.recorded, self._entries, strict=True))

    def find(self, accepts: Callable[[TreeObject], bool]) -> list[int]:
        """The recorded numbers of such devices that are not left out."""
        return [
            number for entry in self._entries
            if (number := entry.recorded) is not None
            and not entry.left_out
            and accepts(self.recorded[number])
        ]  # fmt: skip

    def place_of(self, accepts: Callable[[TreeObject], bool]) -> int | None:
        """The recorded number after which such devices are made; None for a board without.

        It may be that of a device which is left out; -1: before all.
        """
        usual = next((n for n, obj in self.usual.items() if accepts(obj)), None)
        if usual is None:
            return None
        at = -1
        for number, obj in self.usual.items():
            following = self.recorded.get(at + 1)
            if number < usual and following is not None and following.type == obj.type:
                at += 1
        return at

    def leave_out(self, number: int) -> None:
        """Do not make the device of that recorded number."""
        self._by_number[number].left_out = True

    def keep(self, number: int, make: Maker) -> None:
        """Call `make` for the device of that recorded number when it is its turn."""
        self._by_number[number].makers.append(make)

    def add(self, after: int, make: Maker) -> None:
        """Have a device made after the one of a recorded number, and after what is added there."""
        at = 0
        if after >= 0:
            at = self._entries.index(self._by_number[after]) + 1
        while at < len(self._entries) and self._entries[at].recorded is None:
            at += 1
        self._entries.insert(at, _Entry(None, [make]))

    def makers(self) -> Iterator[tuple[int, Maker]]:
        """What is to be made or changed, with its number, in order of creation."""
        made = [entry for entry in self._entries if not entry.left_out]
        for number, entry in enumerate(made):
            for make in entry.makers:
                yield number, make

    def left_out(self) -> list[str]:
        """What `rename` calls the devices that are not made."""
        return [_set_aside(e.recorded) for e in self._entries if e.left_out]

    def rename(self, text: str) -> str:
        """A child's name, or a text with a path in it, with numbers as they become.

        A path of something that is left out becomes "".
        """
        if _CHILD not in text or (found := _DEVICE.search(text)) is None:
            return text
        if found[1] and self._is_left_out(int(found[2])):
            return ""
        return _DEVICE.sub(self._renamed, text)

    def _renamed(self, match: re.Match[str]) -> str:
        number = int(match[2])
        if self._is_left_out(number):
            return f"{match[1] or ''}{_set_aside(number)}"
        return f"{match[1] or ''}device[{self.number(number)}]"

    def number(self, recorded: int) -> int:
        """What a recorded number becomes."""
        here = self._by_number[recorded]
        return sum(not entry.left_out for entry in self._entries[: self._entries.index(here)])

    def _is_left_out(self, number: int) -> bool:
        return number in self.recorded and self._by_number[number].left_out


def _set_aside(number: int | None) -> str:
    return f"left-out[{number}]"
