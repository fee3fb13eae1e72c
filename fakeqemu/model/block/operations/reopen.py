"""Reopening nodes with other options: read-only and back, and blockdev-reopen.

All nodes of a reopen stand in one queue: those that are named, and below each what was opened
with it. Everything is checked and taken up one node after the other, permissions are added up
once for all, and if anything is refused all is as before.

See block.c: bdrv_reopen_queue_child(), bdrv_reopen_multiple(), bdrv_reopen_prepare() and
bdrv_reopen_parse_file_or_backing().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats.extents import BlockIoError
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import Reopening
from fakeqemu.model.block.drivers.protocol import FileDriver
from fakeqemu.model.block.graph import node_options as flags
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.permission_update import Update
from fakeqemu.model.block.operations import relinking
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph

#: options of every node that may be left out, and then are what they are by default
_COMMON = (
    "node-name", "discard", "cache.direct", "cache.no-flush", "read-only", "auto-read-only",
    "detect-zeroes",
)  # fmt: skip


def set_read_only(graph: Graph, node: Node, *, read_only: bool) -> None:
    """Make a node, and what follows it, read-only or writable. Raises QapiError."""
    reopen_keeping(graph, node, {"read-only": read_only})


def reopen_keeping(graph: Graph, node: Node, options: dict[str, Any]) -> None:
    """Give a node other options, the rest as before. Raises QapiError.

    See block.c: bdrv_reopen() with keep_old_opts.
    """
    queue: list[_Reopened] = []
    _enqueue(queue, node, qdict.flattened(options), keep_old=True)
    _reopen(graph, queue)


def blockdev_reopen(graph: Graph, options: list[dict[str, Any]]) -> None:
    """All of blockdev-reopen, or nothing of it. Raises QapiError."""
    queue: list[_Reopened] = []
    for each in options:
        name = each.get("node-name")
        if name is None:
            raise QapiError("node-name not specified")
        _enqueue(queue, graph.named(name), qdict.flattened(each), keep_old=False)
    _reopen(graph, queue)


@dataclass(slots=True)
class _Reopened:
    """A node in the queue, and its new options: all of them, and those that were given."""

    node: Node
    options: dict[str, Any]
    explicit: dict[str, Any]
    backing_missing: bool = False
    #: the driver's part
    driver: Reopening = field(default_factory=Reopening)
    undo: list[Callable[[], None]] = field(default_factory=list)
    #: nodes it leads to no more
    left: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Above:
    """The parent in the queue that a node's options follow."""

    entry: _Reopened
    cow: bool


def _enqueue(
    queue: list[_Reopened],
    node: Node,
    options: dict[str, Any],
    *,
    keep_old: bool,
    above: _Above | None = None,
) -> None:
    """Put a node in the queue, and what was opened with it; one already there is completed."""
    found = next((each for each in queue if each.node is node), None)
    old = found.explicit if found is not None else node.explicit_options
    explicit = dict(options)
    if found is not None or keep_old:
        explicit = {**old, **options}
    complete = dict(explicit)
    if above is not None:
        complete = flags.inherited(complete, above.entry.options, cow=above.cow)
    if keep_old:
        complete = {**flags.settled(node), **complete}
    entry = found or _Reopened(node, complete, explicit)
    entry.options, entry.explicit = complete, explicit
    if found is None:
        queue.append(entry)
    if not keep_old:
        entry.backing_missing = not {"backing", "backing.driver"} & complete.keys()
    for edge in reversed(node.children.values()):
        below = edge.node
        if below.inherits_from is not node:
            continue
        kept, own = keep_old, {}
        if edge.name in complete:
            if complete[edge.name] != below.name:
                continue
            kept = True
        else:
            prefix = f"{edge.name}."
            own = {k.removeprefix(prefix): v for k, v in complete.items() if k.startswith(prefix)}
            for each in (entry.options, entry.explicit):
                for key in [k for k in each if k.startswith(prefix)]:
                    del each[key]
        role = _Above(entry, cow=edge is node.cow_edge)
        _enqueue(queue, below, own, keep_old=kept, above=role)


def _reopen(graph: Graph, queue: list[_Reopened]) -> None:
    try:
        for entry in queue:
            _flush(entry.node)
        for entry in queue:
            _prepare(graph, entry)
        for entry in queue:
            if not entry.node.read_only and isinstance(entry.node.driver, FileDriver):
                entry.node.driver.make_writable(entry.node)
        changed = [each for entry in reversed(queue) for each in (*entry.left, entry.node)]
        Update(changed).run()
    except QapiError:
        for entry in reversed(queue):
            entry.driver.abort()
            for call in reversed(entry.undo):
                call()
            entry.node.turning_read_only = False
        Update([entry.node for entry in queue]).run()
        raise
    finally:
        for entry in queue:
            entry.node.turning_read_only = False
    for entry in reversed(queue):
        entry.driver.commit()
        flags.take(entry.node, entry.options, entry.explicit)
    for entry in queue:
        graph.backing_changed(entry.node)
    graph.collect()


def _flush(node: Node) -> None:
    try:
        if not node.inactive:
            base.flush(node)
    except BlockIoError as error:
        raise error.prefixed("Error flushing drive: ") from None


def _prepare(graph: Graph, entry: _Reopened) -> None:
    """Check a node's new options and take them up. Raises QapiError."""
    node, driver, left = entry.node, entry.node.driver, dict(entry.options)
    _take_flags(entry, left)
    if node.read_only and node.copy_on_read:
        raise QapiError(f"Can't set node '{node.name}' to r/o with copy-on-read enabled")
    if not driver.reopens:
        raise QapiError(
            f"Block format '{driver.name}' used by node '{node.device_or_name}'"
            " does not support reopening files"
        )
    for name, _ in qdict.items(node.all_options):
        # `active` is taken out before QEMU looks: block.c: bdrv_reset_options_allowed()
        missing = name not in entry.options or name == "active"
        if missing and name not in (*_COMMON, *driver.mutable):
            raise QapiError(f"Option '{name}' cannot be reset to its default value")
    entry.driver = driver.prepare_reopen(node, left)
    if driver.supports_backing and entry.backing_missing and (node.cow or node.backing_file):
        raise QapiError(f"backing is missing for '{node.name}'")
    for name in ("backing", "file"):
        if name in left:
            _change_child(graph, entry, name, left.pop(name))
    for name, value in qdict.items(left):
        edge = node.children.get(name)
        if edge is not None and edge.node.name == value:
            continue
        if name not in node.all_options or not _equal(value, node.all_options[name]):
            raise QapiError(f"Cannot change the option '{name}'")


def _equal(new: Any, old: Any) -> bool:
    """As qobject_is_equal() has it: a switch is no number."""
    return isinstance(new, bool) is isinstance(old, bool) and bool(new == old)


def _take_flags(entry: _Reopened, left: dict[str, Any]) -> None:
    """Let the options that every node has count. Raises QapiError."""
    node = entry.node
    entry.undo.append(flags.saved(node))
    read_only = left.pop("read-only", False)
    node.turning_read_only = read_only and not node.read_only
    node.read_only = read_only
    node.auto_read_only = left.pop("auto-read-only", False)
    node.cache_direct = left.pop("cache.direct", False)
    node.cache_no_flush = left.pop("cache.no-flush", False)
    node.discard = left.pop("discard", "ignore")
    node.detect_zeroes = left.pop("detect-zeroes", "off")
    # it is given up, never taken back; see block.c: update_flags_from_options()
    if not left.pop("active", True):
        node.turning_read_only = node.turning_read_only or not node.inactive
        node.inactive = True
    flags.check_detect_zeroes(node)


def _change_child(graph: Graph, entry: _Reopened, name: str, wanted: str | None) -> None:
    """Lead the child `name` elsewhere if that is another. Raises QapiError."""
    node = entry.node
    new = None
    if wanted is not None:
        new = graph.lookup(None, wanted)
        if node in new.subtree():
            raise QapiError(
                f"Making '{wanted}' a {name} child of '{node.name}' would create a cycle"
            )
    edge = node.children.get(name)
    old = edge.node if edge is not None else None
    if old is new or (old is not None and old.skip_implicit() is new):
        return
    if old is not None and old.implicit:
        raise QapiError(f"Cannot replace implicit {name} child of {node.name}")
    if node.driver.is_filter and old is None:
        raise QapiError(
            f"'{node.name}' is a {node.driver.name} filter node that does not support a"
            f" {name} child"
        )
    entry.undo.append(relinking.set_child(graph, node, name, new))
    if old is not None:
        entry.left.append(old)


__all__ = ["blockdev_reopen", "reopen_keeping", "set_read_only"]
