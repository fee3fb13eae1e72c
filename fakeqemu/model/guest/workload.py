"""How busy a guest is, and how fast its link, for the time that a migration takes.

See migration/ram.c: migration_bitmap_sync() and ram_save_host_page().
"""

from __future__ import annotations

from fakeqemu.clock import MILLISECOND
from fakeqemu.dataclass import dataclass

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Workload:
    """A guest and its link. The default is an idle guest, about as fast as an idle QEMU."""

    #: bytes of guest memory
    ram: int = 128 << 20
    #: zero pages when the transfer begins, in thousandths of all pages
    zero_permille: int = 984
    #: bytes in pages that are not zero; None: follows from `zero_permille`
    content: int | None = None
    #: bytes dirtied per second while the guest runs unthrottled
    dirty_rate: int = 100 * _PAGE
    #: size of the memory that is dirtied, in bytes; None: all memory
    working_set: int | None = 1 << 20
    #: bandwidth of the link in bytes per second
    link: int = 1_250_000_000
    #: pages scanned per second, zero or not
    scan: int = 2_000_000
    #: bytes of device states, and nanoseconds to save, send and load them
    device_bytes: int = 36 << 10
    device_time: int = 3 * MILLISECOND
    #: shortest time between two dirty bitmap syncs, in nanoseconds
    sync_time: int = MILLISECOND
    #: page requests per thousand pages that are left at the switch to postcopy
    fault_permille: int = 20
    vcpus: int = 1

    def __post_init__(self) -> None:
        if min(self.ram, self.dirty_rate, self.device_bytes, self.device_time, self.link) < 0:
            raise ValueError("amounts and times are not negative")
        if not (0 <= self.zero_permille <= 1000 and 0 <= self.fault_permille <= 1000):
            raise ValueError("a share is between 0 and 1000")
        if min(self.scan, self.sync_time, self.vcpus) < 1:
            raise ValueError("scan, sync_time and vcpus are at least 1")

    @property
    def pages(self) -> int:
        """Pages of guest memory."""
        return self.ram // _PAGE

    @property
    def zero_pages(self) -> int:
        """Pages that are all zeros when the transfer begins."""
        if self.content is None:
            return self.pages * self.zero_permille // 1000
        return max(0, self.pages - -(-self.content // _PAGE))

    @property
    def dirty_pages_limit(self) -> int:
        """Maximum number of pages that can be dirty at a sync."""
        if self.working_set is None:
            return self.pages
        return min(self.pages, -(-self.working_set // _PAGE))
