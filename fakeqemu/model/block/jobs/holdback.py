"""How long throttle nodes and slow null devices below a job make it wait.

See block/throttle-groups.c: throttle_group_co_io_limits_intercept(); blockjob.c:
block_job_ratelimit_processed_bytes().
"""

from __future__ import annotations

from collections.abc import Iterable

from fakeqemu.formats.extents import CHUNK
from fakeqemu.model.block.graph.node import Edge

#: uses of a node that write to it
_WRITTEN = ("target", "base", "active node")


def delay_below(edges: Iterable[Edge], count: int) -> int:
    """Nanoseconds for a piece of `count` bytes: those of the slowest node that it passes.

    What is longer than a chunk is zeros, which nobody reads.
    """
    slowest = 0
    for edge in edges:
        writes = edge.name in _WRITTEN
        if not writes and count > CHUNK:
            continue
        for node in edge.node.subtree():
            slowest = max(slowest, node.driver.delay(count, writes=writes))
    return slowest
