"""Backing chains: which image a name means, and taking images out of a chain.

See block.c: bdrv_find_backing_image(), bdrv_find_base() and bdrv_drop_intermediate().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.block.graph.filenames import exact_filename, filename
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.operations import relinking, reopen

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph


def find_image(graph: Graph, node: Node, file: str) -> Node | None:
    """The image below `node` that the file name `file` means."""
    for overlay in node.chain():
        below = overlay.cow
        if below is None:
            continue
        found = below.skip_implicit()
        names = {filename(found), exact_filename(found)}
        if overlay.auto_backing_file in ("", filename(found)):  # bdrv_backing_overridden()
            names.add(overlay.backing_file)
        if file in names or graph.files.absolute(file) in names:
            return below
    return None


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


