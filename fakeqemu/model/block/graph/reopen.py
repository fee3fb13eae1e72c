"""Reopening nodes with other options: read-only and back, and blockdev-reopen.

See block.c: bdrv_reopen_prepare(), bdrv_reopen_multiple() and bdrv_reopen_parse_file_or_backing().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.drivers.protocol import FileDriver
from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.permission_update import Update
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph

_GENERIC = ("read-only", "auto-read-only", "cache", "discard", "detect-zeroes", "force-share")


def followers(node: Node) -> list[Node]:
    """The node and those below it that follow its options."""
    found = [node]
    for edge in node.children.values():
        if edge.node.inherits_from is node and perms.COW not in edge.role:
            found += followers(edge.node)
    return found


def set_read_only(graph: Graph, node: Node, *, read_only: bool) -> None:  # noqa: ARG001
    """Make a node, and what follows it, read-only or writable. Raises QapiError."""
    nodes = followers(node)
    before = [(each, each.read_only) for each in nodes]
    if read_only and node.copy_on_read:
        raise QapiError(f"Can't set node '{node.name}' to r/o with copy-on-read enabled")
    for each in nodes:
        each.turning_read_only = read_only and not each.read_only
        each.read_only = read_only
    try:
        for each in nodes:
            if not read_only and isinstance(each.driver, FileDriver):
                each.driver.make_writable(each)
        Update(nodes).run()
    except QapiError:
        for each, value in before:
            each.read_only = value
        Update(nodes).run()
        raise
    finally:
        for each in nodes:
            each.turning_read_only = False


def blockdev_reopen(graph: Graph, options: list[dict[str, Any]]) -> None:
    """All of blockdev-reopen, or nothing of it. Raises QapiError."""
    commits: list[Callable[[], None]] = []
    undo: list[Callable[[], None]] = []
    nodes: list[Node] = []
    try:
        for each in options:
            name = each.get("node-name")
            if name is None:
                raise QapiError("node-name not specified")
            node = graph.find(name)
            if node is None:
                raise QapiError(f"Failed to find node with node-name='{name}'")
            nodes.append(node)
            commits += _prepare(graph, node, dict(each), undo)
        Update(nodes).run()
    except QapiError:
        for call in reversed(undo):
            call()
        Update(nodes).run()
        raise
    finally:
        for node in nodes:
            for follower in followers(node):
                follower.turning_read_only = False
    for commit in commits:
        commit()
    graph.collect()


def _prepare(
    graph: Graph, node: Node, options: dict[str, Any], undo: list[Callable[[], None]]
) -> list[Callable[[], None]]:
    """Check a node's new options and take them up; what is to be done when all are checked.

    Children that were opened with the node have their own in it. Raises QapiError.
    """
    if options.pop("node-name", node.name) != node.name:
        raise QapiError("Cannot change the option 'node-name'")
    driver = options.pop("driver", node.driver.name)
    for name, _ in qdict.items(node.options):
        if name not in options and name not in node.driver.mutable and name not in _GENERIC:
            raise QapiError(f"Option '{name}' cannot be reset to its default value")
    if driver != node.driver.name:
        raise QapiError("Cannot change the option 'driver'")
    _set_flags(node, options, undo)
    commits: list[Callable[[], None]] = []
    for name in [n for n in node.children if n in options or n == "backing"]:
        child, below = options.get(name), node.children[name].node
        if isinstance(child, dict) and below.inherits_from is node:
            del options[name]
            commits += _prepare(graph, below, _with_defaults(child, node, below), undo)
        else:
            _change_child(graph, node, name, options, undo)
    if node.driver.supports_backing and "backing" in options:
        _change_child(graph, node, "backing", options, undo)
    return [*commits, node.driver.prepare_reopen(node, options)]


def _with_defaults(options: dict[str, Any], parent: Node, node: Node) -> dict[str, Any]:
    """A child's options, with what it follows its parent in where they do not say."""
    cow = any(edge.node is node and perms.COW in edge.role for edge in parent.children.values())
    cache = {"direct": parent.cache_direct, "no-flush": parent.cache_no_flush}
    return {
        "read-only": cow or parent.read_only,
        "auto-read-only": not cow and parent.auto_read_only,
        "discard": "ignore" if cow else "unmap",
        "force-share": parent.force_share,
        **options,
        "cache": {**cache, **(options.get("cache") or {})},
    }


def _set_flags(
    node: Node, options: dict[str, Any], undo: list[Callable[[], None]]
) -> None:
    names = (
        "read_only", "auto_read_only", "cache_direct", "cache_no_flush", "discard",
        "detect_zeroes", "force_share",
    )  # fmt: skip
    nodes = followers(node)
    for each in nodes:
        saved = {name: getattr(each, name) for name in names}

        def put(each: Node = each, saved: dict[str, Any] = saved) -> None:
            for name, value in saved.items():
                setattr(each, name, value)

        undo.append(put)
    cache = options.pop("cache", None) or {}
    read_only = options.pop("read-only", False)
    for each in nodes:
        each.turning_read_only = read_only and not each.read_only
        each.read_only = read_only
        each.cache_direct = cache.get("direct", False)
        each.cache_no_flush = cache.get("no-flush", False)
        if not read_only and isinstance(each.driver, FileDriver):
            each.driver.make_writable(each)
    node.auto_read_only = options.pop("auto-read-only", False)
    node.discard = options.pop("discard", "ignore")
    node.detect_zeroes = options.pop("detect-zeroes", "off")
    node.force_share = options.pop("force-share", False)
    if node.detect_zeroes == "unmap" and node.discard != "unmap":
        raise QapiError(
            "setting detect-zeroes to unmap is not allowed"
            " without setting discard operation to unmap"
        )


def _change_child(
    graph: Graph,
    node: Node,
    name: str,
    options: dict[str, Any],
    undo: list[Callable[[], None]],
) -> None:
    """Lead the child `name` elsewhere if the options say so. Raises QapiError."""
    edge = node.children.get(name)
    if name not in options:
        if name == "backing" and perms.COW in (edge.role if edge else ()):
            if edge is not None and edge.node.implicit:
                return
            raise QapiError(f"backing is missing for '{node.name}'")
        return
    wanted = options.pop(name)
    if isinstance(wanted, dict):
        raise QapiError(f"Cannot change the option '{name}.{next(iter(wanted), 'driver')}'")
    current = edge.node if edge is not None else None
    new = graph.lookup(wanted, wanted) if wanted is not None else None
    if new is current:
        return
    if new is not None:
        graph.check_cycle(node, name, new)
    if name == "backing":
        old = current
        graph.set_backing(node, new)
        undo.append(lambda: graph.set_backing(node, old))
        return
    if edge is None or new is None:
        raise QapiError(f"Cannot change the option '{name}'")
    before = edge.node
    kept = edge
    graph.redirect([edge], new)
    undo.append(lambda: graph.redirect([kept], before))


__all__ = ["blockdev_reopen", "set_read_only"]
