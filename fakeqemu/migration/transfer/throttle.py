"""Slowing a guest down that dirties memory faster than it is sent: auto-converge and dirty-limit.

See migration/ram.c: migration_trigger_throttle(), mig_throttle_guest_down() and
migration_dirty_limit_guest().
"""

from __future__ import annotations

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass
from fakeqemu.migration.transfer.data import PAGE, Limits
from fakeqemu.model.guest.workload import Workload

#: shortest time between two decisions
_JUDGED = SECOND


@dataclass(slots=True)
class GuestThrottle:
    """How much the guest is slowed down, and what the next decision is made of."""

    #: time of the last decision
    since: int
    #: of the CPUs' time that they do not get; 0: not throttled
    percentage: int = 0
    #: vCPUs are limited to vcpu-dirty-limit
    dirty_limited: bool = False
    #: pages a second, as of the last decision
    dirty_pages_rate: int = 0
    #: bytes dirtied since the last decision
    _dirtied: int = 0
    #: bytes that had been sent by then
    _transferred: int = 0
    #: consecutive decisions at which the guest dirtied too fast
    _high: int = 0

    def slowed(self, workload: Workload, limits: Limits) -> int:
        """Bytes per second that the guest can still dirty."""
        rate = workload.dirty_rate * (100 - self.percentage) // 100
        if self.dirty_limited:
            rate = min(rate, limits.vcpu_dirty_limit * workload.vcpus << 20)
        return rate

    def may_increase(self, limits: Limits) -> bool:
        """Whether decisions are still due."""
        if limits.auto_converge:
            return self.percentage < limits.max_cpu_throttle
        return limits.dirty_limit and not self.dirty_limited

    def restart(self, now: int, sent: int) -> None:
        """Begin at `now`, with `sent` bytes, what the next decision is made of."""
        self.since, self._dirtied, self._transferred, self._high = now, 0, sent, 0

    def release(self) -> None:
        """The guest has stopped: it is not slowed down any more."""
        self.percentage, self.dirty_limited = 0, False

    def judge(self, now: int, dirtied: int, sent: int, limits: Limits) -> bool:
        """Decide after a sync; whether the guest is slowed down (more) from now on.

        That is so if it dirtied faster than was sent, twice in a row. `dirtied`: bytes of this
        sync; `sent`: bytes of the transfer up to now.
        """
        self._dirtied += dirtied
        if now - self.since < _JUDGED:
            return False
        self.dirty_pages_rate = self._dirtied // PAGE * SECOND // (now - self.since)
        allowed = (sent - self._transferred) * limits.throttle_trigger_threshold // 100
        high = self._high + 1 if self._dirtied > allowed else self._high
        slower = high >= 2 and self._increase(allowed, limits)
        self.restart(now, sent)
        self._high = high % 2
        return slower

    def _increase(self, allowed: int, limits: Limits) -> bool:
        if limits.auto_converge:
            step = limits.cpu_throttle_increment
            if not self.percentage:
                self.percentage = limits.cpu_throttle_initial
                return True
            if limits.cpu_throttle_tailslow and self._dirtied:
                share = 100 - self.percentage
                step = min(step, share - share * allowed // self._dirtied)
            self.percentage = min(self.percentage + step, limits.max_cpu_throttle)
        elif limits.dirty_limit:
            self.dirty_limited = True
        return limits.auto_converge or limits.dirty_limit
