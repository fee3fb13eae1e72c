"""The real-time clock and its memory, in which boards tell firmware about the machine.

The time is the host's, or counts from what -rtc says; under `-accel qtest` it goes with the
guest's clock where -rtc asks for that. Alarms and periodic interrupts do not come.

See hw/rtc/mc146818rtc.c: cmos_ioport_write() and rtc_set_time(); hw/i386/pc.c: pc_cmos_init_late().
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fakeqemu.clock import SECOND
from fakeqemu.model.hw.ioport import IoPortDevice

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.guest_memory import GuestMemory
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.qom.tree import QomObject

_KIB, _MIB = 1 << 10, 1 << 20
_CENTURY_TOO = 0x37
_CENTURY, _REG_A, _REG_B, _REG_C, _REG_D = 0x32, 10, 11, 12, 13
_24_HOURS, _BINARY, _SET = 0x02, 0x04, 0x80
#: letter of -boot order -> the number firmware knows it by
BOOT_DEVICES = {"a": 1, "b": 1, "c": 2, "d": 3, "n": 4}


class Rtc(IoPortDevice):
    """An MC146818."""

    def __init__(
        self, io: IoSpace, object: QomObject, memory: GuestMemory, cpus: Cpus
    ) -> None:
        super().__init__(io, object)
        self._guest_memory = memory
        self._cpus = cpus
        self._index = 0
        #: nanoseconds that the guest has put its clock forward
        self._offset = 0
        self._held: datetime | None = None
        self._memory = bytearray(128)
        self._memory[_REG_A], self._memory[_REG_B] = 0x26, _24_HOURS
        self._memory[_REG_D] = 0x80
        self._board()
        io.state.on_boot_order.append(self._put_boot_order)

    def handles(self, port: int, size: int) -> bool:
        """Ports 0x70 and 0x71."""
        return port in (0x70, 0x71) and size == 1

    def read(self, port: int, size: int) -> int:  # noqa: ARG002
        """A byte of the memory; the index cannot be read back."""
        if port == 0x70:
            return 0xFF
        if self._index in _TIME:
            return self._time_register(self._index)
        value = self._memory[self._index]
        if self._index == _REG_C:
            self._memory[_REG_C] = 0
        return value

    def write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002
        """The index, or a byte."""
        if port == 0x70:
            self._index = value & 0x7F
        elif self._index in _TIME:
            self._set_time(self._index, value)
        elif self._index not in (_REG_C, _REG_D):
            if self._index == _REG_A:
                value &= 0x7F
            if self._index == _REG_B:
                self._hold(bool(value & _SET))
            self._memory[self._index] = value

    # -- time --------------------------------------------------------------------------------

    def _now(self) -> datetime:
        if self._held is not None:
            return self._held
        rtc = self.io.state.configuration.rtc
        clock = self.io.process.clock
        elapsed = self.io.clock.now() if rtc.get("clock") == "vm" else clock.now()
        base = rtc.get("base", "utc")
        if base in ("utc", "localtime"):
            now = clock.realtime()
            if rtc.get("clock") == "vm":
                now += elapsed - clock.now()
            start = datetime.fromtimestamp(now // SECOND, UTC)
            if base == "localtime":
                start = start.astimezone().replace(tzinfo=UTC)
        else:
            start = datetime.fromisoformat(base).replace(tzinfo=UTC)
            start += timedelta(seconds=elapsed // SECOND)
        return start + timedelta(seconds=self._offset // SECOND)

    def _hold(self, hold: bool) -> None:
        if hold and self._held is None:
            self._held = self._now()
        elif not hold and self._held is not None:
            wanted, self._held = self._held, None
            self._offset += int((wanted - self._now()).total_seconds()) * SECOND

    def _time_register(self, index: int) -> int:
        value = _TIME[index][0](self._now())
        if index == 4 and not self._memory[_REG_B] & _24_HOURS:
            hour = value % 12 or 12
            return self._code(hour) | (0x80 if value >= 12 else 0)
        return self._code(value)

    def _set_time(self, index: int, value: int) -> None:
        number = value if self._memory[_REG_B] & _BINARY else (value >> 4) * 10 + (value & 15)
        if index == 4 and not self._memory[_REG_B] & _24_HOURS:
            hour = value & 0x7F
            hour = hour if self._memory[_REG_B] & _BINARY else (hour >> 4) * 10 + (hour & 15)
            number = hour % 12 + (12 if value & 0x80 else 0)
        now = self._now()
        name = _TIME[index][1]
        try:
            if name == "year":
                new = now.replace(year=now.year // 100 * 100 + number)
            elif name == "century":
                new = now.replace(year=number * 100 + now.year % 100)
            elif name == "weekday":
                return
            else:
                new = now.replace(**{name: number})  # type: ignore[arg-type]
        except ValueError:
            return
        if self._held is not None:
            self._held = new
        else:
            self._offset += int((new - now).total_seconds()) * SECOND

    def _code(self, value: int) -> int:
        return value if self._memory[_REG_B] & _BINARY else value // 10 << 4 | value % 10

    # -- what the board tells firmware -------------------------------------------------------

    def _board(self) -> None:
        regions = [r for r in self._guest_memory.regions() if not r.rom]
        below = max((r.end for r in regions if r.start < 1 << 32), default=0)
        above = sum(r.size for r in regions if r.start >= 1 << 32)
        extended = min(max(0, below - _MIB) // _KIB, 0xFFFF)
        self._put(0x15, min(below // _KIB, 640))
        self._put(0x17, extended)
        self._put(0x30, extended)
        self._put(0x34, min(max(0, below - 16 * _MIB) // (64 * _KIB), 0xFFFF))
        self._put(0x5B, above // (64 * _KIB))
        self._memory[0x5D] = above >> 32 & 0xFF
        self._memory[0x14] = 0x06
        self._memory[0x5F] = max(0, len(self._cpus) - 1) & 0xFF
        self._put_boot_order()

    def _put_boot_order(self) -> None:
        order = self.io.state.boot_order
        boot = [BOOT_DEVICES.get(letter, 0) for letter in order[:3]] + [0, 0, 0]
        self._memory[0x3D] = boot[1] << 4 | boot[0]
        check = self.io.state.qom.container("/machine").values.get("fd-bootchk", True)
        self._memory[0x38] = boot[2] << 4 | (not check)

    def _put(self, index: int, value: int) -> None:
        self._memory[index : index + 2] = (value & 0xFFFF).to_bytes(2, "little")


#: register -> how to read it, and what it is
_TIME: dict[int, tuple[Callable[[datetime], int], str]] = {
    0: (lambda t: t.second, "second"),
    2: (lambda t: t.minute, "minute"),
    4: (lambda t: t.hour, "hour"),
    6: (lambda t: t.isoweekday() % 7 + 1, "weekday"),
    7: (lambda t: t.day, "day"),
    8: (lambda t: t.month, "month"),
    9: (lambda t: t.year % 100, "year"),
    _CENTURY: (lambda t: t.year // 100, "century"),
    _CENTURY_TOO: (lambda t: t.year // 100, "century"),
}
