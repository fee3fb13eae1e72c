"""Big recorded values, stored once per distinct part.

The properties of a thousand QOM types, or the object trees of sixty machine types, repeat
themselves almost entirely. `pack` turns any JSON value into a table in which each distinct
object or list stands once; `Packed` reads a piece of such a table without parsing or building the
rest, so that asking for one type's properties does not cost those of all types.

In the table's entries a container is written as a list holding only its index; as every list
is a container, a list inside an entry can be nothing else. As text a table is the index of its root
in the first line, and an entry as JSON in each of the others.

What `Packed` hands out is shared between all who ask: treat it as read-only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def pack(value: Any) -> dict[str, Any]:
    """`{"table": [...], "root": index}` for a JSON object or list; same value, same result."""
    table: list[Any] = []
    seen: dict[str, int] = {}

    def index_of(node: Any) -> int:
        entry: Any
        if isinstance(node, dict):
            entry = {key: encode(node[key]) for key in sorted(node)}
        else:
            entry = [encode(item) for item in node]
        key = json.dumps(entry)
        if key not in seen:
            seen[key] = len(table)
            table.append(entry)
        return seen[key]

    def encode(item: Any) -> Any:
        return [index_of(item)] if isinstance(item, dict | list) else item

    root = index_of(value)
    return {"table": table, "root": root}


def as_lines(packed: dict[str, Any]) -> str:
    """What `pack` made, as text."""
    entries = (
        json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        for entry in packed["table"]
    )
    return "\n".join((str(packed["root"]), *entries))


class Packed:
    """One packed value, parsed and built piece by piece as it is asked for."""

    def __init__(self, packed: dict[str, Any]) -> None:
        #: lines of text until somebody looks at them
        self._table: list[Any] = packed["table"]
        self._root: int = packed["root"]
        self._built: dict[int, Any] = {}

    @classmethod
    def of_lines(cls, text: str) -> Packed:
        """What was packed as text."""
        root, *lines = text.split("\n")
        return cls({"table": lines, "root": int(root)})

    def __iter__(self) -> Iterator[str]:
        return iter(self._entry(self._root))

    def keys(self, *path: str) -> list[str]:
        """The member names of the object at `path`, without building its members."""
        entry = self._entry(self._find(path))
        return list(entry) if isinstance(entry, dict) else []

    def get(self, *path: str) -> Any:
        """The value at `path`, a row of member names; KeyError where there is none."""
        if not path:
            return self._build(self._root)
        entry = self._entry(self._find(path[:-1]))
        item = entry[path[-1]]
        return self._build(item[0]) if isinstance(item, list) else item

    def _find(self, path: tuple[str, ...]) -> int:
        index = self._root
        for name in path:
            item = self._entry(index)[name]
            if not isinstance(item, list):
                raise KeyError(name)
            index = item[0]
        return index

    def _build(self, index: int) -> Any:
        if index not in self._built:
            entry = self._entry(index)
            if isinstance(entry, dict):
                self._built[index] = {k: self._decode(v) for k, v in entry.items()}
            else:
                self._built[index] = [self._decode(v) for v in entry]
        return self._built[index]

    def _entry(self, index: int) -> Any:
        entry = self._table[index]
        if isinstance(entry, str):
            entry = self._table[index] = json.loads(entry)
        return entry

    def _decode(self, item: Any) -> Any:
        return self._build(item[0]) if isinstance(item, list) else item
