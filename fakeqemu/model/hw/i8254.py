"""The timer chip, which hangs on the guest's own time.

See hw/timer/i8254.c: pit_ioport_write() and pit_ioport_read(); hw/timer/i8254_common.c:
pit_get_out().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.clock import SECOND
from fakeqemu.model.hw.ioport import IoPortDevice

if TYPE_CHECKING:
    from fakeqemu.clock import Timer
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.qom.tree import QomObject

#: ticks a second
PIT_FREQUENCY = 1_193_182


class Pit(IoPortDevice):
    """The 8254: three counters. Only the first has an interrupt, on line 0."""

    def __init__(self, io: IoSpace, object: QomObject) -> None:
        super().__init__(io, object)
        self._timer: Timer | None = None
        self.reset()

    def handles(self, port: int, size: int) -> bool:
        """Ports 0x40 to 0x43."""
        return 0x40 <= port <= 0x43 and size == 1

    def reset(self) -> None:
        """Mode 3, the longest count, started now."""
        now = self.io.clock.now()
        self._counters = [_Counter(now) for _ in range(3)]
        self._arm()

    def read(self, port: int, size: int) -> int:  # noqa: ARG002
        """A counter's next byte."""
        if port == 0x43:
            return 0
        return self._counters[port - 0x40].read(self.io.clock.now())

    def write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """A counter's next byte, or a control word."""
        now = self.io.clock.now()
        if port != 0x43:
            if self._counters[port - 0x40].write(value, now) and port == 0x40:
                self._show()
            return
        number, access = value >> 6, value >> 4 & 3
        if number == 3:
            for index, counter in enumerate(self._counters):
                if value & 2 << index:
                    counter.latch(now, count=not value & 0x20, status=not value & 0x10)
        elif access == 0:
            self._counters[number].latch(now, count=True, status=False)
        else:
            self._counters[number].program(access, value >> 1 & 7)

    def _show(self) -> None:
        """Put the output on the interrupt line."""
        self.io.irq("ioapic", 0, self._counters[0].out(self.io.clock.now()))
        self._arm()

    def _arm(self) -> None:
        """Wait for the output's next change where the guest's clock is moved."""
        clock, counter = self.io.clock.stepped, self._counters[0]
        if self._timer is not None:
            self._timer.cancel()
        if clock is None:
            return
        now = clock.now()
        due = counter.next_change(now)
        if due is None:
            return
        self._timer = clock.call_later(due - now, self._show)


class _Counter:
    def __init__(self, now: int) -> None:
        self.mode = 3
        self.count = 0x10000
        self.loaded = now
        self._access = 3
        self._low: int | None = None
        self._latched: list[int] = []
        self._second = False

    def program(self, access: int, mode: int) -> None:
        self._access, self.mode = access, mode if mode < 6 else mode - 4
        self._low, self._latched, self._second = None, [], False

    def write(self, value: int, now: int) -> bool:
        """Whether the count is complete."""
        if self._access == 1:
            self.count = value
        elif self._access == 2:
            self.count = value << 8
        elif self._low is None:
            self._low = value
            return False
        else:
            self.count, self._low = value << 8 | self._low, None
        self.count = self.count or 0x10000
        self.loaded = now
        return True

    def latch(self, now: int, *, count: bool, status: bool) -> None:
        if self._latched:
            return
        if status:
            self._latched.append(self.out(now) << 7 | self._access << 4 | self.mode << 1)
        if count:
            self._latched += self._bytes(self._value(now))

    def read(self, now: int) -> int:
        if self._latched:
            return self._latched.pop(0)
        parts = self._bytes(self._value(now))
        if len(parts) == 1:
            return parts[0]
        self._second = not self._second
        return parts[0 if self._second else 1]

    def _bytes(self, value: int) -> list[int]:
        low, high = value & 0xFF, value >> 8 & 0xFF
        return {1: [low], 2: [high]}.get(self._access, [low, high])

    def _ticks(self, now: int) -> int:
        return (now - self.loaded) * PIT_FREQUENCY // SECOND

    def _value(self, now: int) -> int:
        ticks = self._ticks(now)
        if self.mode == 3:
            return self.count - 2 * ticks % self.count
        if self.mode == 2:
            return self.count - ticks % self.count
        return (self.count - ticks) & 0xFFFF

    def out(self, now: int) -> int:
        """The level of the output."""
        ticks = self._ticks(now)
        if self.mode == 3:
            return int(ticks % self.count < (self.count + 1) // 2)
        if self.mode == 2:
            return int(ticks % self.count == 0 and ticks != 0)
        if self.mode in (0, 1):
            return int((ticks >= self.count) == (self.mode == 0))
        return int(ticks == self.count)

    def next_change(self, now: int) -> int | None:
        """When to look at the output again; None: it will not change.

        Ticks and nanoseconds do not fall together: a look may come a moment too early, and the
        next one is then a nanosecond later.
        """
        ticks = self._ticks(now)
        turn = ticks // self.count * self.count
        if self.mode == 3:
            half = (self.count + 1) // 2
            at = turn + (half if ticks - turn < half else self.count)
        elif self.mode == 2:
            at = turn + self.count + (0 if ticks == turn and ticks else 1)
        elif ticks < self.count:
            at = self.count
        elif ticks == self.count and self.mode > 3:
            at = self.count + 1
        else:
            return None
        return max(now + 1, self.loaded + at * SECOND // PIT_FREQUENCY)
