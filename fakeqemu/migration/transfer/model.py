"""How long a transfer takes and what query-migrate shows of it: arithmetic, no pages.

What is counted and when is that of migration/ram.c: migration_bitmap_sync() and of
migration/migration.c: migration_update_counters().

A guest's memory is described, not stored: how big, how much of it zeros, how fast and how far
it is written to. A transfer is a row of passes. Each sends what was dirty at its beginning at
a constant speed, so everything about it follows from its beginning and the time; a pass costs
the same for one page and for a billion.

Times are integer nanoseconds, amounts integer bytes or pages. Progress is kept as bytes times
nanoseconds per second, so it does not depend on how often it is queried: many small steps equal one
large step.

    transfer = Transfer(Workload(ram=4 << 30), Limits(), now=clock.now())
    while not transfer.converged:
        transfer.advance(transfer.next_change())
    transfer.stop(now)                      # the guest is stopped: switchover
    transfer.advance(transfer.next_change())
    assert transfer.phase == "done"
"""

from __future__ import annotations

from typing import Literal

from fakeqemu.clock import MILLISECOND, SECOND
from fakeqemu.dataclass import dataclass, field
from fakeqemu.migration.transfer.data import PAGE, Figures, Limits, Pass
from fakeqemu.migration.transfer.throttle import GuestThrottle
from fakeqemu.model.guest.workload import Workload

__all__ = ["PAGE", "Figures", "Limits", "Phase", "Transfer"]

#: QEMU measures bandwidth in windows of this length; before the first one a pass is completed
WINDOW = 100 * MILLISECOND
#: passes computed one by one in one call of `advance`; beyond that identical passes are skipped
_PASSES_AT_ONCE = 4096

Phase = Literal["precopy", "switchover", "postcopy", "done"]


@dataclass(slots=True)
class _Totals:
    """Amounts of finished passes."""

    zero: int = 0
    normal: int = 0
    precopy: int = 0
    downtime: int = 0
    postcopy: int = 0
    multifd: int = 0
    requests: int = 0


@dataclass(slots=True)
class Transfer:
    """One transfer under way; `now` is when its first pass begins."""

    workload: Workload
    limits: Limits
    now: int
    #: the guest runs and writes
    running: bool = True
    phase: Phase = field(default="precopy", init=False)
    #: the bytes left at the last sync fit into downtime-limit: the guest may be stopped
    converged: bool = field(default=False, init=False)
    #: the dirty bitmap sync with which precopy ends is counted
    last_sync_counts: bool = True
    #: dirty bitmap syncs; the first is before the first pass
    dirty_sync_count: int = field(default=1, init=False)
    #: nothing is sent (postcopy pause)
    halted: bool = field(default=False, init=False)
    started: int = field(init=False)
    #: when the guest was stopped
    stopped: int | None = field(default=None, init=False)
    _pass: Pass = field(init=False)
    _totals: _Totals = field(init=False)
    #: how much the guest is slowed down
    throttle: GuestThrottle = field(init=False)
    #: bytes dirtied since the last sync, times nanoseconds per second
    _dirty: int = field(default=0, init=False)
    #: part of `_dirty` from before the pass, less than a page
    _carried: int = field(default=0, init=False)
    #: pages, zero pages and carried bytes of the previous pass, if it ran completely at the present
    #: rates
    _before: tuple[int, int, int] | None = field(default=None, init=False)
    #: time at which a first short pass was taken for everything, without a second sync
    _unseen: int | None = field(default=None, init=False)
    #: time since which the rates are constant
    _settled: int = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.now
        self._settled = self.now + WINDOW
        pages = self.workload.pages
        self._pass = Pass(pages, self.workload.zero_pages, self.now, live=self.running)
        self._totals = _Totals()
        self.throttle = GuestThrottle(self.now)

    # -- pace --------------------------------------------------------------------------------

    @property
    def bandwidth(self) -> int:
        """Bytes per second that may be sent now, at least 1 unless halted."""
        if self.halted or not self.workload.link:
            return 0
        limit = self.limits.max_bandwidth
        if self.phase == "postcopy":
            limit = self.limits.max_postcopy_bandwidth
        elif self.phase == "switchover":
            limit = 0
        return min(limit or self.workload.link, self.workload.link)

    @property
    def speed(self) -> int:
        """Bytes per second sent in this pass: limited by the scan rate too."""
        speed = self.bandwidth
        if speed and self._pass.pages:
            speed = min(speed, max(1, self.workload.scan * self._pass.wire // self._pass.pages))
        return speed

    @property
    def dirty_rate(self) -> int:
        """Bytes per second that the guest dirties now."""
        if not self.running:
            return 0
        return self.throttle.slowed(self.workload, self.limits)

    @property
    def threshold(self) -> int:
        """Bytes that may be left for a switchover (QEMU's threshold_size)."""
        speed = self.limits.avail_switchover_bandwidth or self.bandwidth
        return speed * self.limits.downtime_limit // 1000

    def set_limits(self, now: int, limits: Limits) -> None:
        """Use other limits from `now` on."""
        self.advance(now)
        self.limits = limits
        self._unsettle()

    def set_running(self, now: int, running: bool) -> None:
        """The guest is resumed or stopped at `now`."""
        self.advance(now)
        self.running = running
        self._unsettle()

    def set_workload(self, now: int, workload: Workload) -> None:
        """The guest dirties memory differently from `now` on; its size stays."""
        self.advance(now)
        self.workload = workload
        self._unsettle()

    def set_halted(self, now: int, halted: bool) -> None:
        """Stop or resume sending at `now`."""
        self.advance(now)
        self.halted = halted
        self._unsettle()

    def _unsettle(self) -> None:
        self._settled, self._before = max(self._settled, self.now), None

    # -- time --------------------------------------------------------------------------------

    def next_change(self) -> int | None:
        """Time at which a pass ends or the switchover may become possible; None: never."""
        if self.phase == "done":
            return None
        current, speed = self._pass, self.speed
        left = current.wire * SECOND - current.done
        if left > 0 and not speed:
            return None
        end = self.now + (-(-left // speed) if left > 0 else 0)
        if self.phase != "precopy":
            extra = self.workload.device_time if self.phase == "switchover" else 0
            return max(end, current.began + extra)
        if not current.pages and not self.dirty_rate and not self._dirty and self.converged:
            return None
        if self._unseen is not None:
            return max(self.now, self._unseen + self.workload.sync_time)
        end = max(end, current.began + self.workload.sync_time)
        return min(end, self._crossing(speed, end))

    def _crossing(self, speed: int, end: int) -> int:
        """Time at which little enough is left of the pass to sync the dirty bitmap."""
        current = self._pass
        earliest = max(current.began + self.workload.sync_time, self.started + WINDOW, self.now)
        bandwidth = self.limits.avail_switchover_bandwidth or self.bandwidth
        enough = bandwidth * self.limits.downtime_limit // 1000 // PAGE
        if earliest >= end or not enough:
            return end
        if current.pages <= enough:
            return earliest
        # the first moment at which at most `enough` pages are left
        target = -(-(current.pages - enough) * current.wire * SECOND // current.pages)
        return max(earliest, self.now + -(-max(0, target - current.done) // speed))

    def advance(self, to: int) -> None:
        """Advance to time `to`, through all changes on the way. Never goes back."""
        made = 0
        while (change := self.next_change()) is not None and change <= to:
            current = (self._pass.pages, self._pass.zero, self._carried)
            same = current == self._before and not self.throttle.may_increase(self.limits)
            if self.phase == "precopy" and (same or made > _PASSES_AT_ONCE):
                self._jump(change, to)
                if (change := self.next_change()) is None or change > to:
                    break
            self._before = current if self._pass.began >= self._settled else None
            self._run(change)
            self._end_pass()
            made += 1
        self._run(max(self.now, to))

    def _run(self, to: int) -> None:
        """Advance within one pass."""
        elapsed, self.now = to - self.now, to
        self._pass.done = min(
            self._pass.done + elapsed * self.speed, self._pass.wire * SECOND
        )
        most = self.workload.dirty_pages_limit * PAGE * SECOND
        self._dirty = min(self._dirty + elapsed * self.dirty_rate, most)

    def _jump(self, change: int, to: int) -> None:
        """Skip whole identical passes of a guest whose rates are constant."""
        length = change - self._pass.began
        count = (to - change) // max(1, length)
        if count < 2:
            return
        count -= 1
        current = self._pass
        sent = Pass(current.pages, current.zero, current.began, live=current.live)
        sent.done = min(current.wire * SECOND, length * self.speed)
        self._totals.zero += count * sent.sent_zero
        self._totals.normal += count * sent.sent_normal
        self._count_bytes(count * sent.share(sent.wire))
        self.dirty_sync_count += count
        current.began += count * length
        self.now += count * length
        self.throttle.restart(self.now, self._sent_bytes())

    # -- passes ------------------------------------------------------------------------------

    @property
    def dirty_pages(self) -> int:
        """Pages dirtied since the last sync.

        Less than a whole page is carried to a later sync: a guest that writes seldom has passes
        without a dirty page.
        """
        return min(self._dirty // (PAGE * SECOND), self.workload.dirty_pages_limit)

    def _end_pass(self) -> None:
        if self.phase in ("switchover", "postcopy"):
            self._account()
            self._pass = Pass(0, 0, self.now)
            self.phase = "done"
            return
        threshold = self.threshold
        fits = self.dirty_pages * PAGE <= threshold and not self._pass.left
        if fits and self._unseen is None and self.now - self.started < WINDOW:
            self.converged, self._unseen = True, self.now
            return
        self._synchronise()
        self.converged = self._pass.pages * PAGE <= threshold

    def _account(self) -> int:
        """Add what this pass has sent to the totals; pages not yet counted."""
        current = self._pass
        self._totals.zero += current.sent_zero
        self._totals.normal += current.sent_normal
        self._count_bytes(current.share(current.wire))
        self._totals.requests += self._requests()
        return current.left

    def _count_bytes(self, size: int) -> None:
        name = self._counted_as
        setattr(self._totals, name, getattr(self._totals, name) + size)

    @property
    def _counted_as(self) -> str:
        """The counter for the bytes of this pass: precopy, downtime or postcopy."""
        if self.phase == "postcopy":
            return "postcopy"
        if self.phase == "precopy" and self.limits.multifd:
            return "multifd"
        return "precopy" if self.phase == "precopy" and self._pass.live else "downtime"

    def _requests(self) -> int:
        if self.phase != "postcopy":
            return 0
        return self._pass.share(self._pass.pages * self.workload.fault_permille // 1000)

    def _synchronise(self) -> None:
        """Sync the dirty bitmap: what is left and what was dirtied make the next pass."""
        dirtied = self.dirty_pages
        zero_left = self._pass.zero - self._pass.sent_zero
        left = self._account()
        self._dirty, self._unseen = self._dirty % (PAGE * SECOND), None
        self._carried = self._dirty
        self.dirty_sync_count += 1
        pages = min(left + dirtied, self.workload.pages)
        self._pass = Pass(pages, min(zero_left, pages), self.now, live=self.running)
        if self.phase == "precopy":
            sent = self._sent_bytes()
            if self.throttle.judge(self.now, dirtied * PAGE, sent, self.limits):
                self._unsettle()

    # -- switchover --------------------------------------------------------------------------

    def sync_again(self) -> None:
        """Sync once more if the bytes left are only an estimate."""
        if self._unseen is not None:
            self._synchronise()
            self.converged = self._pass.pages * PAGE <= self.threshold

    def stop(self, now: int) -> None:
        """Stop the guest: the rest and the device states are sent, then the phase is `done`."""
        self._leave_precopy(now, "switchover")
        self._pass.extra = self.workload.device_bytes

    def start_postcopy(self, now: int) -> None:
        """The guest runs on the destination: the rest is sent in postcopy."""
        self._leave_precopy(now, "postcopy")

    def _leave_precopy(self, now: int, phase: Phase) -> None:
        if self.phase != "precopy":
            raise ValueError(f"cannot go from {self.phase} to {phase}")
        if now > self.now:
            # events that are due at this very moment do not happen any more
            self.advance(now)
        self.running = False
        syncs = self.dirty_sync_count
        self._synchronise()
        if not self.last_sync_counts:
            self.dirty_sync_count = syncs
        self.stopped = self.now
        self.phase = phase
        self.throttle.release()

    # -- figures -----------------------------------------------------------------------------

    def _sent_bytes(self) -> int:
        totals = self._totals
        return totals.precopy + totals.downtime + totals.postcopy + totals.multifd

    @property
    def remaining(self) -> int:
        """Bytes of guest memory left to send, as of the last sync."""
        return self._pass.left * PAGE

    @property
    def speed_unknown(self) -> bool:
        """Whether a second sync came before the bandwidth was measured."""
        return self.dirty_sync_count > 1 and self.now - self.started < WINDOW

    @property
    def expected_downtime(self) -> int:
        """Milliseconds of downtime if the guest were stopped now."""
        if not self.throttle.dirty_pages_rate or not self.bandwidth:
            return self.limits.downtime_limit
        speed = self.limits.avail_switchover_bandwidth or self.bandwidth
        return self.remaining * 1000 // speed

    def figures(self) -> Figures:
        """All members of query-migrate's `ram`, as of `now`."""
        current, totals = self._pass, self._totals
        kinds = ("precopy", "multifd", "downtime", "postcopy")
        size = {name: getattr(totals, name) for name in kinds}
        size[self._counted_as] += current.share(current.wire)
        transferred = sum(size.values())
        elapsed = self.now - self.started
        speed = self.speed if current.wire and self.phase != "done" else 0
        if self.phase == "done" and elapsed:
            speed = transferred * SECOND // elapsed
        each = speed * current.pages // current.wire if current.wire else 0
        return Figures(
            transferred=transferred,
            remaining=self.remaining,
            total=self.workload.ram,
            duplicate=totals.zero + current.sent_zero,
            normal=totals.normal + current.sent_normal,
            dirty_pages_rate=self.throttle.dirty_pages_rate,
            mbps=speed * 8 / 1_000_000,
            dirty_sync_count=self.dirty_sync_count,
            postcopy_requests=totals.requests + self._requests(),
            multifd_bytes=size["multifd"],
            pages_per_second=each,
            precopy_bytes=size["precopy"],
            downtime_bytes=size["downtime"],
            postcopy_bytes=size["postcopy"],
        )
