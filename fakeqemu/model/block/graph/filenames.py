"""Names of files, as replies and images show them: of an image's own file, or `json:`.

See block.c: bdrv_refresh_filename(). QEMU keeps them in nodes and makes them anew when the graph
changes; here they are made when asked for, and whoever asks for those of many nodes keeps what
they share in one `Names`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fakeqemu.model.block.graph import permissions as perms
from fakeqemu.qapi import qdict
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.writer import Written, encode

if TYPE_CHECKING:
    from fakeqemu.model.block.graph.node import Node

#: bytes of a name with its end, see include/block/block_int-common.h: BlockDriverState.filename
_PATH_MAX = 4096


class SpelledInt(int):
    """A number that was given as a text, which names of files keep."""

    text: str

    @classmethod
    def of(cls, value: int, text: str) -> SpelledInt:
        """`value`, spelled as `text`."""
        made = cls(value)
        made.text = text
        return made


class FileArgument(str):
    """A file name that was given as one, and not as an option: it may begin with a protocol."""

    __slots__ = ()


class Names:
    """Names of nodes of one graph, as long as nothing in it changes."""

    def __init__(self) -> None:
        self._names: dict[Node, str] = {}
        self._exact: dict[Node, str] = {}
        self._options: dict[Node, Written] = {}

    def filename(self, node: Node) -> str:
        """What replies show as its file."""
        if node not in self._names:
            self._names[node] = self.exact(node) or self._json(node)
        return self._names[node]

    def exact(self, node: Node) -> str:
        """A file name that alone opens the same; empty if there is none."""
        if node not in self._exact:
            self._exact[node] = self._make_exact(node)
        return self._exact[node]

    def _make_exact(self, node: Node) -> str:
        if node.implicit and node.filtered_edge is not None:
            return self.exact(node.filtered_edge.node)
        own = node.driver.exact_filename(node)
        if own is not None:
            return own
        file = node.primary
        if file is None or node.driver.is_filter:
            return ""
        if not (file.driver.is_protocol or file.driver.in_file_names):
            return ""
        if node.driver.significant_options(node) or self.backing_overridden(node):
            return ""
        return self.exact(file)

    def backing_overridden(self, node: Node) -> bool:
        """Whether its backing image is not the one its header names."""
        if not node.driver.supports_backing:
            return False
        backing = node.backing
        if backing is None:
            return node.auto_backing_file != ""
        return self.filename(backing.skip_implicit()) != node.auto_backing_file

    def _json(self, node: Node) -> str:
        while node.implicit and node.filtered_edge is not None:
            node = node.filtered_edge.node
        name = f"json:{encode(dict(qdict.items(self._values(node))))}"
        return name if len(name) < _PATH_MAX else name[: _PATH_MAX - 4] + "..."

    def _full_options(self, node: Node) -> Written:
        """The options that would open the same again, as text as far as names are long."""
        if node not in self._options:
            while node.implicit and node.filtered_edge is not None:
                node = node.filtered_edge.node
            self._options[node] = Written(encode(self._values(node))[:_PATH_MAX])
        return self._options[node]

    def _values(self, node: Node) -> dict[str, Any]:
        own = node.driver.significant_options(node)
        given = {**_as_given(own), **_spelled(node, own)}
        values: dict[str, Any] = {"driver": node.driver.name, **given}
        overridden = self.backing_overridden(node)
        for name, edge in node.children.items():
            if node.driver.child_list:
                values.setdefault(node.driver.child_list, []).append(self._full_options(edge.node))
            elif name != "backing" or overridden or perms.COW not in edge.role:
                values[name] = self._full_options(edge.node)
        if overridden and node.backing is None:
            values["backing"] = None
        return values


def filename(node: Node) -> str:
    """What replies show as a node's file; see `Names` for those of many nodes."""
    return Names().filename(node)


def exact_filename(node: Node) -> str:
    """A file name that alone opens the same as a node; empty if there is none."""
    return Names().exact(node)


def backing_overridden(node: Node) -> bool:
    """Whether a node's backing image is not the one its header names."""
    return Names().backing_overridden(node)


def _spelled(node: Node, values: dict[str, Any]) -> dict[str, str]:
    return {name: text for name, text in node.spelled.items() if name in values}


def _as_given(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v.text if isinstance(v, SpelledInt) else v for k, v in values.items()}


def has_protocol(name: str) -> bool:
    """Whether a file name begins with that of a protocol: block.c: path_has_protocol()."""
    before, colon, _ = name.partition(":")
    return bool(colon) and "/" not in before


def combined(node: Node, name: str) -> str:
    """A file name in `node`'s image, made whole by where its own file is. Raises QapiError.

    That is where the lowest node has it, whatever lies between: block.c: bdrv_dirname().
    """
    if name.startswith("/") or has_protocol(name):
        return name
    lowest = node.primary
    while lowest is not None and lowest.primary is not None and lowest.driver.name != "blkverify":
        lowest = lowest.primary
    own = exact_filename(lowest) if lowest is not None else ""
    if not own:
        raise QapiError(f"Cannot use relative backing file names for '{filename(node)}'")
    return os.path.join(os.path.dirname(own), name)  # noqa: PTH118,PTH120
