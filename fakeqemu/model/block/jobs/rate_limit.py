"""How fast a job may be: what a slice of time allows, and how long to wait after more than that.

See include/qemu/ratelimit.h: ratelimit_calculate_delay().
"""

from __future__ import annotations

from fakeqemu.clock import MILLISECOND, SECOND

#: the slice, in nanoseconds: BLOCK_JOB_SLICE_TIME
SLICE = 100 * MILLISECOND


class RateLimit:
    """What was sent in a slice of time, which grows with what is sent beyond its share."""

    def __init__(self) -> None:
        self._start = 0
        self._end = -1
        self._sent = 0

    def delay(self, now: int, speed: int, count: int) -> int:
        """Count bytes as sent; gives how many nanoseconds no more may be, at `speed` bytes/s."""
        if not speed:
            return 0
        quota = max(speed * SLICE // SECOND, 1)
        if self._end <= now:
            self._start, self._end, self._sent = now, now + SLICE, 0
        self._sent += count
        if self._sent < quota:
            return 0
        self._end = self._start + self._sent * SLICE // quota
        return max(self._end - now, 0)
