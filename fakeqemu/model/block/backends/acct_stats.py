"""What a block backend counts of its guest's reads and writes.

See block/accounting.c: block_acct_done(), block_acct_failed() and block_acct_invalid().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.dataclass import dataclass, field


@dataclass(slots=True)
class BlockAcctStats:
    """What a guest did, counted by kind of operation: rd, wr, flush, unmap."""

    operations: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    #: requests that failed, and those that no medium of this size can have
    failed: dict[str, int] = field(default_factory=dict)
    invalid: dict[str, int] = field(default_factory=dict)
    #: when something was last done; None: never
    last: int | None = None

    def count(self, kind: str, size: int, now: int) -> None:
        """One more."""
        self.operations[kind] = self.operations.get(kind, 0) + 1
        self.bytes[kind] = self.bytes.get(kind, 0) + size
        self.last = now

    def count_failed(self, kind: str) -> None:
        """One more that failed."""
        self.failed[kind] = self.failed.get(kind, 0) + 1

    def count_invalid(self, kind: str) -> None:
        """One more that reached beyond the medium."""
        self.invalid[kind] = self.invalid.get(kind, 0) + 1


@dataclass(slots=True)
class Histogram:
    """A latency histogram; no guest fills it."""

    boundaries: list[int]

    def info(self) -> dict[str, Any]:
        """BlockLatencyHistogramInfo."""
        return {"boundaries": self.boundaries, "bins": [0] * (len(self.boundaries) + 1)}
