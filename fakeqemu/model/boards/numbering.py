"""The numbers of `/machine/unattached/device[N]`, which count devices in order of creation.

They are recorded for one CPU, QEMU's default ports or none, and the default display adapter or
none. Each CPU more, and each port or adapter more or less, shifts what is made after it.

See hw/core/qdev.c: qdev_get_unattached_container() and device_set_realized().
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.boards.onboard_ports import OnboardPlace

_DEVICE = re.compile(r"(/machine/unattached/)?device\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class DisplayPlace:
    """The display adapter of a board."""

    #: number of the recorded adapter, or of what comes where one would be
    number: int
    #: type of the recorded adapter; None if there is none
    recorded: str | None
    #: type of the one to be made; None for none
    wanted: str | None

    @property
    def removed(self) -> int | None:
        """The number of a recorded adapter that is not wanted."""
        return None if self.recorded in (None, self.wanted) else self.number

    @property
    def set_aside(self) -> str:
        """The name of a recorded adapter that is not wanted, until it is removed."""
        return f"display[{self.number}]"

    @property
    def more(self) -> int:
        """How many adapters there are more than recorded: 1, 0 or -1."""
        return (self.wanted is not None) - (self.recorded is not None)


@dataclass(frozen=True, slots=True)
class Numbering:
    """What recorded numbers become."""

    #: the number that the first CPU after the recorded one gets
    cpus_from: int
    #: CPUs that are made besides the recorded one
    more_cpus: int
    ports: OnboardPlace | None = None
    display: DisplayPlace | None = None

    @property
    def first_port(self) -> int:
        """The number of the first port."""
        assert self.ports is not None
        return self._after_cpus(self.ports.start) + self._more_displays(self.ports.start)

    @property
    def adapter(self) -> int:
        """The number of the display adapter that is made."""
        assert self.display is not None
        return self._after_cpus(self.display.number) + self._more_ports(self.display.number)

    def rename(self, text: str) -> str:
        """A name or path with the numbers in it as they become.

        Recorded ports are called `port[N]`, a recorded adapter that is not wanted `display[N]`.
        """
        return _DEVICE.sub(self._renamed, text)

    def _renamed(self, match: re.Match[str]) -> str:
        where, number = match[1] or "", int(match[2])
        ports, display = self.ports, self.display
        if ports is not None and ports.start <= number < ports.start + ports.recorded:
            return f"{where}port[{number}]"
        if display is not None and display.removed == number:
            return where + display.set_aside
        new = self._after_cpus(number) + self._more_ports(number) + self._more_displays(number)
        return f"{where}device[{new}]"

    def _after_cpus(self, number: int) -> int:
        return number + self.more_cpus if number >= self.cpus_from else number

    def _more_ports(self, number: int) -> int:
        if self.ports is None or number < self.ports.start:
            return 0
        return len(self.ports.wanted) - self.ports.recorded

    def _more_displays(self, number: int) -> int:
        if self.display is None or number < self.display.number:
            return 0
        return self.display.more
