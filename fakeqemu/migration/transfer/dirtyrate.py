"""Dirty page rate: calc-dirty-rate and query-dirty-rate.

A measurement lasts its time on the machine's clock and then gives the dirty rate of the described
guest; only one runs at a time.

See migration/dirtyrate.c: qmp_calc_dirty_rate(), calculate_dirtyrate() and qmp_query_dirty_rate().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.clock import MILLISECOND, SECOND
from fakeqemu.model.guest.workload import Workload
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: least and most milliseconds of a measurement
_TIMES_IN_SECONDS = (1_000, 60_000)
_TIMES = (50, 60_000)
_SAMPLES = (128, 16384)
_DEFAULT_SAMPLES = 512
_MIB = 1 << 20
#: milliseconds of a TimeUnit
_UNITS = {"second": 1000, "millisecond": 1}

PAGE_SAMPLING = "page-sampling"


class DirtyRate:
    """The measurement of one machine: none, one under way, or the last one."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._traits = vm.profile.traits
        #: DirtyRateStatus
        self.status = "unstarted"
        self._mode = PAGE_SAMPLING
        self._samples = 0
        #: nanoseconds
        self._started = 0
        #: milliseconds
        self._time = 0
        #: MiB a second
        self._rate = 0

    def measure(
        self, time: int, unit: str = "second", samples: int | None = None, mode: str = PAGE_SAMPLING
    ) -> None:
        """The command `calc-dirty-rate`. Raises QapiError."""
        if self.status == "measuring":
            raise QapiError("the dirty rate is already being measured.")
        milliseconds = time * _UNITS[unit]
        self._check_time(milliseconds)
        if samples is not None:
            self._check_samples(samples, mode)
        self._check_mode(mode)
        self.status = "measuring"
        self._mode = mode
        self._samples = _DEFAULT_SAMPLES if samples is None else samples
        self._started, self._time = self._now(), milliseconds
        self._vm.process.call_later(milliseconds * MILLISECOND, self._measured, self._fail_by_bug)

    def info(self, unit: str = "second") -> dict[str, Any]:
        """DirtyRateInfo, with all members that any version has."""
        info: dict[str, Any] = {} if self.status != "measured" else {"dirty-rate": self._rate}
        return {
            **info,
            "status": self.status,
            "start-time": self._started // SECOND,
            "calc-time": self._time // _UNITS[unit],
            "calc-time-unit": unit,
            "sample-pages": self._samples,
            "mode": self._mode,
        }

    def _now(self) -> int:
        clock = self._vm.clock
        return clock.realtime() if self._traits.dirty_rate_since_epoch else clock.now()

    def _check_time(self, milliseconds: int) -> None:
        if not self._traits.dirty_rate_time_units:
            first, last = _TIMES_IN_SECONDS
            if not first <= milliseconds <= last:
                text = f"calc-time is out of range[{first // 1000}, {last // 1000}]."
                raise QapiError(text)
            return
        first, last = _TIMES
        if not first <= milliseconds <= last:
            raise QapiError(f"Calculation time is out of range [{first}ms, {last}ms].")

    def _check_samples(self, samples: int, mode: str) -> None:
        if mode != PAGE_SAMPLING and self._traits.dirty_rate_time_units:
            raise QapiError("sample-pages is used only in page-sampling mode")
        if mode == "dirty-ring":
            raise QapiError("either sample-pages or dirty-ring can be specified.")
        first, last = _SAMPLES
        if not first <= samples <= last:
            raise QapiError(f"sample-pages is out of range[{first}, {last}].")

    def _check_mode(self, mode: str) -> None:
        if mode == "dirty-ring":
            raise QapiError(f"mode {mode} is not enabled, use other method instead.")

    def _fail_by_bug(self, _error: QapiError) -> None:
        self.status = "unstarted"

    def _measured(self) -> None:
        self.status = "measured"
        self._rate = _guest_rate(self._vm) // _MIB if self._vm.runstate.running else 0
        if self._mode != PAGE_SAMPLING:
            self._samples = 0


def _guest_rate(vm: Machine) -> int:
    """Bytes a second that the described guest dirties."""
    return (vm.guest_workload or Workload()).dirty_rate
