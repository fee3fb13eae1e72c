"""Backing chains: which image a name means, and taking images out of a chain.

See block.c: bdrv_find_backing_image(), bdrv_find_base() and bdrv_drop_intermediate().
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from fakeqemu.model.block.graph.filenames import (
    backing_overridden,
    combined,
    filename,
    has_protocol,
)
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.operations import relinking, reopen
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph


def find_image(graph: Graph, node: Node, file: str) -> Node | None:
    """The image below `node` that the file name `file` means; filters have none.

    Names are compared as paths, or as they are where one of them names a protocol or the image
    below is not the one in the header.
    """
    overlay = node.skip_filters()
    while (below := overlay.backing_chain_next()) is not None:
        if backing_overridden(overlay):
            if file == filename(below):
                return below
        elif has_protocol(file) or has_protocol(overlay.backing_file):
            if file in (overlay.backing_file, _whole(overlay, overlay.backing_file)):
                return below
        elif _same(graph, _whole(overlay, file), _whole(overlay, overlay.backing_file)):
            return below
        overlay = below
    return None


def _whole(node: Node, name: str) -> str:
    """A name made whole by where `node`'s file is; empty where that cannot be."""
    try:
        return combined(node, name)
    except QapiError:
        return ""


def _same(graph: Graph, one: str, other: str) -> bool:
    try:
        return bool(one and other) and graph.files.resolved(one) == graph.files.resolved(other)
    except OSError:
        return False


def contains(top: Node, base: Node | None) -> bool:
    """Whether `base` is `top` or below it."""
    return base is not None and any(node is base for node in top.chain())


def overlay_of(active: Node, node: Node) -> Node | None:
    """The node in `active`'s chain right above `node`."""
    return next((each for each in active.chain() if each.below is node), None)


def write_backing(graph: Graph, node: Node, file: str, format: str) -> None:
    """Write into an image's header what lies below, opening it for writing if needed.

    Raises QapiError.
    """
    was_read_only = node.read_only
    if was_read_only:
        reopen.set_read_only(graph, node, read_only=False)
    try:
        node.driver.write_backing(node, file, format)
    finally:
        if was_read_only:
            reopen.set_read_only(graph, node, read_only=True)


def drop_intermediate(graph: Graph, top: Node, base: Node, file: str | None) -> None:
    """Let those who have `top` as backing image have `base`, in headers too.

    Raises QapiError.
    """
    name = file if file is not None else filename(base.skip_implicit())
    edges = [e for e in top.parents if isinstance(e.parent, Node) and e.name == "backing"]
    others = [e for e in top.parents if e not in edges and not isinstance(e.parent, Node)]
    for edge in edges:
        parent = edge.parent
        assert isinstance(parent, Node)
        if parent.driver.supports_backing:
            write_backing(graph, parent, name, base.skip_filters().driver.name)
        if parent.driver.is_filter:
            graph.redirect([edge], base)
        else:
            relinking.set_backing(graph, parent, base)
    if others:
        graph.redirect(others, base)


def down_to(top: Node, bottom: Node | None) -> list[Node]:
    """The nodes of the chain from `top` to above `bottom`; all of it without one."""
    return list(itertools.takewhile(lambda node: node is not bottom, top.chain()))
