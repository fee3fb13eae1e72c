"""Opening nodes: options into a driver with children, checks in QEMU's order.

A child follows its parent in what its own options leave open: read-only, caching, sharing.
What is given as a file name only is looked into to tell its format.

See block.c: bdrv_open_inherit(), bdrv_open_common(), bdrv_fill_options(), bdrv_open_child_common()
and bdrv_inherited_options().
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.formats import extents
from fakeqemu.model.block.drivers import base
from fakeqemu.model.block.drivers.driver import DRIVERS, Driver
from fakeqemu.model.block.graph import node_options, permissions as perms
from fakeqemu.model.block.graph.filenames import (
    FileArgument,
    combined,
    filename,
)
from fakeqemu.model.block.graph.node import Node
from fakeqemu.model.block.graph.node_options import GENERIC
from fakeqemu.model.block.graph.permission_update import Update
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.graph import Graph
    from fakeqemu.profile import Profile

#: driver -> the module that it is in, where packages leave it out
_MODULES = {
    **dict.fromkeys(("ftp", "ftps", "http", "https"), "curl"),
    **{name: name for name in ("gluster", "iscsi", "nfs", "rbd", "ssh")},
}
_PROTOCOL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.\-]*):")
#: what file names call a driver by, where it is not its name
_PROTOCOL_NAMES = {"fat": "vvfat"}


def open_node(
    graph: Graph,
    options: dict[str, Any] | str,
    *,
    parent: Node | None = None,
    role: frozenset[str] = frozenset(),
    strict: bool = False,
    aio: str = "threads",
) -> Node:
    """Open what `options` (a reference, or BlockdevOptions) say. Raises QapiError.

    The node is referenced by nobody: link it, or `collect` takes it away. `strict`: options that
    the driver does not know are refused, as where they come from a command line. `aio`: how files
    under a node without a parent are read where their own options do not say.
    """
    if isinstance(options, str):
        return graph.lookup(options, options)
    had_driver = "driver" in options
    spelled: dict[str, str] = getattr(options, "spelled", {})
    options = _with_driver(graph, dict(options), parent, role)
    name = options["driver"]
    driver = make_driver(graph, name)
    if not had_driver:
        # what came as text could not be read before
        options = found = node_options.typed(graph.process.profile, options)
        spelled = {**spelled, **found.spelled}
    given = {key: value for key, value in options.items() if not isinstance(value, dict)}
    flat = qdict.flattened(options)
    node = Node(driver, {})
    node.spelled = spelled
    node.aio = parent.aio if parent is not None else aio
    node.probed = not had_driver and not driver.is_protocol
    if driver.first_child not in (None, "file"):
        # QEMU's driver opens such a child itself, when the node has its name already
        graph.check_name(options.get("node-name"))
    first = _open_first_child(graph, node, options, _ParentRole(parent, role, strict))
    try:
        _flags(node, options, parent, role)
        _check_sharing(node)
        node_options.record(node, flat)
        if driver.is_protocol and "filename" in driver.strong and not options.get("filename"):
            raise QapiError(f"The '{name}' block driver requires a file name")
        graph.enter(node, options.pop("node-name", None))
        node.refs += 1
        try:
            _finish(graph, node, _OpenOptions(options, given, strict), first)
        except BaseException:
            node.refs -= 1
            _abandon(graph, node)
            raise
        node.refs -= 1
    except BaseException:
        if first is not None:
            first.refs -= 1
            graph.collect()
        raise
    if first is not None:
        first.refs -= 1
    return node


def make_driver(graph: Graph, name: str) -> Driver:
    """A driver by name. Raises QapiError, NotModelledError for one that only QEMU has."""
    profile = graph.process.profile
    known = profile.schema.enum_values("BlockdevDriver")
    if name not in DRIVERS or name not in known:
        if name in known and name not in profile.part("block-drivers").get("unknown"):
            raise NotModelledError(f"block driver {name}")
        raise _unknown_driver(profile, name)
    return DRIVERS[name](graph)


def _unknown_driver(profile: Profile, name: str) -> QapiError:
    """See block.c: bdrv_find_format(); util/module.c: module_load()."""
    error = QapiError(f"Unknown driver '{name}'")
    module, text = _MODULES.get(name), profile.traits.block_module_missing
    if module is not None and text:
        error.earlier = (text.format(module),)
    return error


def _abandon(graph: Graph, node: Node) -> None:
    if graph.nodes.get(node.name) is node:
        del graph.nodes[node.name]
    if node.opened:
        node.driver.close(node)
    for edge in list(node.children.values()):
        edge.node.unblock(edge)
        graph.detach(edge)
    graph.collect()


@dataclass(frozen=True, slots=True)
class _ParentRole:
    """Whose child a node will be, and what it is to it."""

    parent: Node | None
    role: frozenset[str]
    strict: bool


@dataclass(frozen=True, slots=True)
class _OpenOptions:
    """A node's options: those left to look at, and all that were plain."""

    left: dict[str, Any]
    plain: dict[str, Any]
    strict: bool


def _open_first_child(
    graph: Graph, node: Node, options: dict[str, Any], kin: _ParentRole
) -> Node | None:
    wanted = node.driver.first_child
    if wanted is None or wanted not in options:
        return None
    _flags(node, dict(options), kin.parent, kin.role)
    if wanted != "file":
        _check_sharing(node)
    else:
        # QEMU opens it before it looks at the node's own `active`: block.c: bdrv_open_inherit()
        node.inactive = kin.parent is not None and kin.parent.inactive
    child = options.pop(wanted)
    first = open_node(graph, child, parent=node, role=node.driver.role, strict=kin.strict)
    first.refs += 1
    if isinstance(child, dict):
        first.inherits_from = node
    return first


def _finish(graph: Graph, node: Node, given: _OpenOptions, first: Node | None) -> None:
    driver = node.driver
    if graph.runstate.check("inmigrate") and not graph.process.phases.ready:
        node.inactive = True
    if first is not None:
        assert driver.first_child is not None
        graph.attach(node, driver.first_child, first, driver.child_role(given.left))
    # `_flags` has taken a cache of members
    plain = {k: v for k, v in given.left.items() if k not in GENERIC or k == "cache"}
    backing = plain.pop("backing", "")
    node.options = {k: v for k, v in given.plain.items() if k not in (*GENERIC, "backing")}
    if driver.first_child is not None:
        node.options.pop(driver.first_child, None)
    driver.open(node, plain)
    node.opened = True
    _check_length(node)
    if driver.supports_backing:
        open_backing(graph, node, backing, given.strict)
    elif backing not in ("", None) and not driver.is_filter:
        raise QapiError("Driver doesn't support backing files")
    if plain and given.strict:
        name = next(key for key, _ in qdict.items(plain))
        if driver.is_protocol:
            raise QapiError(f"Block protocol '{driver.name}' doesn't support the option '{name}'")
        raise QapiError(f"Block format '{driver.name}' does not support the option '{name}'")
    node_options.leave_out_children(node)
    Update([node], follow=True).run()


def _check_length(node: Node) -> None:
    """Whether the image has a length. See block.c: bdrv_refresh_total_sectors()."""
    try:
        length = node.driver.length(node)
        if length > extents.MAX_LENGTH:
            raise QapiError(os.strerror(errno.EFBIG))
    except QapiError as error:
        raw = node.driver.name == "raw" and isinstance(error, extents.BlockIoError)
        what = "get image size" if raw else "refresh total sector count"
        raise error.prefixed(f"Could not {what}: ") from None


def open_backing(graph: Graph, node: Node, backing: Any, strict: bool = False) -> None:
    """Open the image below: `None` none, "" the one in the header. Raises QapiError."""
    if backing is None:
        return
    named = isinstance(backing, dict | str) and backing != ""
    options: Any = backing
    # options that do not say which image are for the one in the header
    partial = isinstance(backing, dict) and not backing.keys() & {"driver", "file", "filename"}
    if not named and not node.auto_backing_file:
        return
    if not named or (partial and node.auto_backing_file):
        options = {"filename": FileArgument(combined(node, node.backing_file))}
        if node.backing_format:
            options["driver"] = node.backing_format
        options = {**as_format(options), **(backing if partial else {})}
    role = frozenset({perms.COW})
    try:
        below = open_node(graph, options, parent=node, role=role, strict=strict)
    except NotModelledError:
        raise
    except QapiError as error:
        raise error.prefixed("Could not open backing file: ") from None
    if not isinstance(options, str):
        below.inherits_from = node
    with graph.referenced(below):
        graph.attach(node, "backing", below, role)
    graph.backing_changed(node)
    if not named:
        node.auto_backing_file = filename(below)


def as_format(options: dict[str, Any]) -> dict[str, Any]:
    """A file name with the driver to read it with, if it is known, as nested options.

    A protocol driver takes the name itself.
    """
    filename = options["filename"]
    if filename.startswith("json:"):
        return {k: v for k, v in options.items() if k != "driver"}
    kind = DRIVERS.get(options.get("driver", ""))
    if "driver" not in options or (kind is not None and kind.is_protocol):
        return options
    return {"driver": options["driver"], "file": {"filename": filename}}


def _flags(
    node: Node, options: dict[str, Any], parent: Node | None, role: frozenset[str]
) -> None:
    """Settle what the node's own options, and else its parent, say."""
    inherited = parent is not None
    node.inactive = not options.pop("active", True) or bool(parent and parent.inactive)
    cache = options.pop("cache", None) or {}
    if isinstance(cache, str):  # the first of two of a -drive, which nobody knows
        options["cache"], cache = cache, {}
    options |= {f"cache.{k}": v for k, v in cache.items() if k not in ("direct", "no-flush")}
    cow = perms.COW in role
    node.read_only = options.pop(
        "read-only", cow or bool(inherited and parent is not None and parent.read_only)
    )
    node.auto_read_only = options.pop(
        "auto-read-only",
        not cow and bool(inherited and parent is not None and parent.auto_read_only),
    )
    node.cache_direct = cache.get("direct", parent.cache_direct if parent else False)
    node.cache_no_flush = cache.get("no-flush", parent.cache_no_flush if parent else False)
    node.force_share = options.pop("force-share", parent.force_share if parent else False)
    node.discard = options.pop("discard", "unmap" if parent is not None and not cow else "ignore")
    node.detect_zeroes = options.pop("detect-zeroes", "off")
    node_options.check_detect_zeroes(node)


def _check_sharing(node: Node) -> None:
    if node.force_share and not node.read_only:
        raise QapiError("force-share=on can only be used with read-only images")


def _with_driver(
    graph: Graph, options: dict[str, Any], parent: Node | None, role: frozenset[str]
) -> dict[str, Any]:
    """The options with a driver: the one given, the file name's protocol, or what it looks like."""
    filename = options.get("filename")
    if isinstance(filename, FileArgument) and filename.startswith("json:"):
        from fakeqemu.qapi.json.streamer import parse_json

        try:
            parsed = parse_json(filename.removeprefix("json:"), graph.process.profile.traits)
        except QapiError as error:
            raise error.prefixed("Could not parse the JSON options: ") from None
        if not isinstance(parsed, dict):
            raise QapiError("Invalid JSON object given")
        del options["filename"]
        options = {**qdict.nested(parsed), **options}
    if "driver" in options:
        kind = DRIVERS.get(options["driver"])
        if kind is None or filename is None or not kind.parses_filename:
            return _for_file(options, kind)
        rest = {k: v for k, v in options.items() if k != "filename"}
        return node_options.with_children(rest, kind(graph).parse_filename(filename, rest))
    if parent is not None and not _looked_into(parent, role):
        return _protocol(graph, options)
    if "filename" in options:
        rest = {k: v for k, v in options.items() if k != "filename"}
        return _probed(graph, {**rest, "file": {"filename": options["filename"]}})
    if "file" not in options:
        raise QapiError("Must specify either driver or file")
    return _probed(graph, options)


def _for_file(options: dict[str, Any], kind: type[Driver] | None) -> dict[str, Any]:
    """A file name that was given to a format is its file's."""
    name = options.get("filename")
    if name is None or kind is None or kind.is_protocol or kind.first_child != "file":
        return options
    file = options.get("file", {})
    if not isinstance(file, dict) or "filename" in file:
        raise QapiError("Can't specify 'file' and 'filename' options at the same time")
    rest = {key: value for key, value in options.items() if key != "filename"}
    return {**rest, "file": {**file, "filename": name}}


def _looked_into(parent: Node, role: frozenset[str]) -> bool:
    """Whether a child's format is what its data look like: backing images, a filter's other data,
    the children of a quorum.

    See block.c: bdrv_inherited_options() on BDRV_O_PROTOCOL.
    """
    other = parent.driver.is_filter or bool(parent.driver.child_list)
    return perms.COW in role or (other and role == {perms.DATA})


def _protocol(graph: Graph, options: dict[str, Any]) -> dict[str, Any]:
    filename = options.get("filename")
    if filename is None:
        raise QapiError("Must specify either driver or file")
    match = _PROTOCOL.match(filename) if isinstance(filename, FileArgument) else None
    slash = filename.find("/")
    if match is None or (0 <= slash < match.end() - 1):
        kind = "file"
        if filename and graph_kind(graph, filename) in ("char", "block"):
            kind = "host_device"
        return {**options, "driver": kind}
    scheme = match[1]
    known = graph.process.profile.schema.enum_values("BlockdevDriver")
    name = _PROTOCOL_NAMES.get(scheme, scheme.partition("+")[0])
    if name not in known:
        raise QapiError(f"Unknown protocol '{scheme}'")
    if name not in DRIVERS:
        raise NotModelledError(f"block driver {name}")
    rest = {k: v for k, v in options.items() if k != "filename"}
    parsed = DRIVERS[name](graph).parse_filename(
        filename if name != "file" else filename[match.end() :], rest
    )
    return {**node_options.with_children(rest, parsed), "driver": name}


def graph_kind(graph: Graph, path: str) -> str:
    """What is at `path`; `file` where nothing is."""
    try:
        return graph.files.kind(path)
    except OSError:
        return "file"


def _probed(graph: Graph, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a format whose name has to be found out by looking into the file."""
    from fakeqemu.formats.probing import PROBED, probed_format

    child = options["file"]
    if isinstance(child, dict):
        probe = Node(Driver(graph), {})
        probe.read_only = True
        plain = {k: v for k, v in child.items() if k not in ("node-name", "read-only")}
        node = open_node(graph, plain, parent=probe, role=perms.IMAGE)
    else:
        node = graph.lookup(child, child)
    with graph.referenced(node):
        head = base.read(node, 0, PROBED) if base.length(node) else b""
    return {**options, "driver": probed_format(head)}
