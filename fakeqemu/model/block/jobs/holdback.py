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
    passed = {
        (node, edge.name in _WRITTEN)
        for edge in edges
        if edge.name in _WRITTEN or count <= CHUNK
        for node in edge.node.subtree()
    }
    return max((node.driver.delay(count, writes=writes) for node, writes in passed), default=0)
