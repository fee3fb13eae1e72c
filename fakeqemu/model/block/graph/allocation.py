"""What an image has itself, and what it leaves to the images below it.

See block/io.c: bdrv_co_block_status() and bdrv_co_common_block_status_above().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.formats import extents
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import debug_event

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node


def copy_up(node: Node, offset: int, count: int) -> None:
    """Write into a node what it only reads from images below it, in whole clusters.

    The guest sees no change, and so bitmaps and thresholds do not either (see block/io.c:
    bdrv_co_do_copy_on_readv()).
    """
    if node.read_only or node.inactive or not defers(node):
        return
    cluster = _copying_unit(node)
    end = min(-(-(offset + count) // cluster) * cluster, base.length(node))
    pieces = base.status(node, offset // cluster * cluster, end)
    for piece in [each for each in pieces if each.kind == extents.HOLE]:
        for at in range(piece.offset, piece.end, extents.CHUNK):
            step = min(extents.CHUNK, piece.end - at)
            data = node.driver.read(node, at, step)
            debug_event(node, "cor_write")
            if any(data):
                node.driver.write(node, at, data)
            else:
                node.driver.zero(node, at, step)


def defers(node: Node) -> bool:
    """Whether unallocated ranges of a node are its backing image's."""
    image = _image(node)
    return image is not None and image.driver.supports_backing


def _image(node: Node) -> Node | None:
    """The node that tells what is allocated: below filters, and below raw ones."""
    found: Node | None = node.skip_filters()
    while found is not None and not found.driver.supports_backing:
        below = found.primary
        found = below.skip_filters() if below is not None else None
    return found


def hides_backing(node: Node) -> bool:
    """Whether holes of a node may have data that no walk along its chain comes to."""
    image = _image(node)
    return image is not None and image is not node and image.below is not None


def _copying_unit(node: Node) -> int:
    image = _image(node)
    return (image.driver.cluster_size(image) if image is not None else 0) or 1
