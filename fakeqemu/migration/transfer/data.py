"""Inputs and outputs of the time model: workload, limits, figures, passes. Plain data."""

from __future__ import annotations

from typing import Any

from fakeqemu.clock import SECOND
from fakeqemu.dataclass import dataclass

PAGE = 4096
#: bytes on the wire of a page, and of one that is all zeros
PAGE_WIRE = 8 + PAGE
ZERO_WIRE = 8 + 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Migration parameters and capabilities that affect a transfer, in QEMU's units."""

    #: bytes a second; 0: no limit
    max_bandwidth: int = 128 << 20
    #: bytes per second assumed for the switchover; 0: the measured bandwidth
    avail_switchover_bandwidth: int = 0
    #: bytes a second in postcopy; 0: no limit
    max_postcopy_bandwidth: int = 0
    #: milliseconds
    downtime_limit: int = 300
    auto_converge: bool = False
    throttle_trigger_threshold: int = 50
    cpu_throttle_initial: int = 20
    cpu_throttle_increment: int = 10
    cpu_throttle_tailslow: bool = False
    max_cpu_throttle: int = 99
    dirty_limit: bool = False
    #: MB a second and vcpu
    vcpu_dirty_limit: int = 1
    multifd: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """The `ram` member of query-migrate at one moment."""

    transferred: int
    remaining: int
    total: int
    duplicate: int
    normal: int
    dirty_pages_rate: int
    mbps: float
    dirty_sync_count: int
    postcopy_requests: int
    multifd_bytes: int
    pages_per_second: int
    precopy_bytes: int
    downtime_bytes: int
    postcopy_bytes: int

    def ram(self, *, skipped: bool = False) -> dict[str, Any]:
        """As the QAPI type MigrationStats; `skipped`: with the member that only 7.2 has."""
        value: dict[str, Any] = {
            "transferred": self.transferred,
            "remaining": self.remaining,
            "total": self.total,
            "duplicate": self.duplicate,
        }
        if skipped:
            value["skipped"] = 0
        return value | {
            "normal": self.normal,
            "normal-bytes": self.normal * PAGE,
            "dirty-pages-rate": self.dirty_pages_rate,
            "mbps": self.mbps,
            "dirty-sync-count": self.dirty_sync_count,
            "postcopy-requests": self.postcopy_requests,
            "page-size": PAGE,
            "multifd-bytes": self.multifd_bytes,
            "pages-per-second": self.pages_per_second,
            "precopy-bytes": self.precopy_bytes,
            "downtime-bytes": self.downtime_bytes,
            "postcopy-bytes": self.postcopy_bytes,
            "dirty-sync-missed-zero-copy": 0,
        }


@dataclass(slots=True)
class Pass:
    """One pass: the pages to send and how many of them are sent."""

    pages: int
    zero: int
    began: int
    #: the guest was running when it began
    live: bool = True
    #: bytes beside pages
    extra: int = 0
    #: bytes on the wire that are sent, times nanoseconds per second
    done: int = 0

    @property
    def wire(self) -> int:
        """Total bytes on the wire."""
        return (self.pages - self.zero) * PAGE_WIRE + self.zero * ZERO_WIRE + self.extra

    def share(self, amount: int) -> int:
        """The fraction of `amount` that corresponds to the bytes sent."""
        whole = self.wire * SECOND
        return amount if not whole else amount * min(self.done, whole) // whole

    @property
    def sent_zero(self) -> int:
        """Zero pages sent."""
        return self.share(self.zero)

    @property
    def sent_normal(self) -> int:
        """Pages sent that are not zero."""
        return self.share(self.pages - self.zero)

    @property
    def left(self) -> int:
        """Pages not sent."""
        return self.pages - self.sent_zero - self.sent_normal
