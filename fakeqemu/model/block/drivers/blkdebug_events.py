"""Points in the life of a request that QEMU's tests hang rules on, for a blkdebug below.

See block.c: bdrv_co_debug_event(); qapi/block-core.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fakeqemu.model.block.drivers.base import Driver
    from fakeqemu.model.block.graph.node import Node


def debug_event(node: Node, name: str) -> None:
    """Tell the first blkdebug at or below a node what has come about.

    See block.c: bdrv_co_debug_event().
    """
    listener = listener_below(node)
    if listener is not None:
        listener.event(name)


def listener_below(node: Node) -> Driver | None:
    """Whose `event` is to be called for what comes about at a node."""
    here: Node | None = node
    while here is not None and not here.driver.takes_events:
        here = here.primary
    return here.driver if here is not None else None
