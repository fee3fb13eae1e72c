"""Recorded object trees, cut to what the types of another version have."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fakeqemu.recorder.composed.properties import Changes

Node = dict[str, Any]


class TreeCut:
    """Of one composed version."""

    def __init__(self, types: Collection[str], changes: Callable[[str], Changes]) -> None:
        """`changes`: how the properties of a type differ from those that were recorded."""
        self._types = types
        self._changes = changes
        #: recorded trees share their branches; what was made of each, with it to keep it alive
        self._done: dict[int, tuple[Node, Node]] = {}

    def cut(self, node: Node) -> Node:
        """A node and what is below it, without types and properties that are not there."""
        if id(node) in self._done:
            return self._done[id(node)][1]
        children = {
            name: self.cut(child)
            for name, child in node["children"].items()
            if child["type"] in self._types
        }
        dropped = node["children"].keys() - children.keys()
        changes = self._changes(node["type"])
        values, errors = dict(node["values"]), dict(node["errors"])
        properties = []
        for name, kind in node["properties"]:
            if name in changes and changes[name] is None and not kind.startswith("child<"):
                values.pop(name, None)
                errors.pop(name, None)
            elif name not in dropped:
                properties.append([name, kind])
        there = {name for name, _ in properties}
        for name, entry in changes.items():
            # what a new property was worth is known by its default only
            if entry is not None and name not in there and "default-value" in entry:
                properties.append([name, entry["type"]])
                values[name] = entry["default-value"]
        made = {**node, "children": children, "properties": properties, "values": values,
                "errors": errors}
        if made == node:
            made = node
        self._done[id(node)] = node, made
        return made
