"""Objects of the tree that only qom-list would show, made in a copy when their parent is looked at.

A board has hundreds of memory regions and interrupt lines, to which nothing refers but their
parent. In a snapshot they are plain data.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fakeqemu.model.qom.tree import QomObject
from fakeqemu.testing.prepared.snapshot import Constant

_PLAIN = (str, int, float, bool, bytes, type(None))


def reduce_parent(one: QomObject, references: Mapping[int, int], directory: str) -> Any:
    """What makes an object whose children of that kind come later; NotImplemented without any.

    `references`: the `id` of an object -> how often others refer to it.
    """
    children = one.children
    state = dict(vars(one))
    data = {
        name: (child.type, dict(child.shapes), child.values)
        for name, child in children.items()
        if references.get(id(child)) == 1 and _is_plain(child, directory)
    }
    if not data:
        return NotImplemented
    awake = {name: child for name, child in children.items() if name not in data}
    state["_children"] = {}
    state["_recorded"] = _Later(list(children), marshal.dumps(data), awake)
    return _blank, (type(one),), state


class LaterChildren(dict[str, Callable[[], QomObject]]):
    """What makes children, as `QomObject.replace_children` has it, itself made when needed."""

    def __init__(self, names: list[str], data: bytes, awake: dict[str, QomObject]) -> None:
        super().__init__()
        self._later: tuple[list[str], bytes, dict[str, QomObject]] | None = (names, data, awake)

    def items(self) -> Any:
        """As a dict has it."""
        self._make()
        return super().items()

    def pop(self, name: str, *default: Any) -> Any:
        """As a dict has it."""
        self._make()
        return super().pop(name, *default)

    def _make(self) -> None:
        if self._later is None:
            return
        (names, data, awake), self._later = self._later, None
        plain = marshal.loads(data)
        for name in names:
            found = plain.get(name)
            self[name] = partial(_same, awake[name]) if found is None else partial(_new, *found)


class _Later:
    """Stands for `LaterChildren` in a snapshot."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __reduce__(self) -> Any:
        names, data, awake = self._parts
        return LaterChildren, (Constant(names), Constant(data), awake)


def _is_plain(one: QomObject, directory: str) -> bool:
    if type(one) is not QomObject:
        return False
    rest = {name: value for name, value in vars(one).items() if name not in _DATA}
    return not any(rest.values()) and all(
        isinstance(value, _PLAIN) and not (isinstance(value, str) and directory in value)
        for value in one.values.values()
    )


#: what a plain object has besides empty tables
_DATA = ("type", "name", "parent", "shapes", "values", "_owns_shapes")


def _blank(kind: Any) -> Any:
    return kind.__new__(kind)


def _same(child: QomObject) -> QomObject:
    return child


def _new(kind: str, shapes: dict[str, str], values: dict[str, Any]) -> QomObject:
    made = QomObject(kind)
    made.shapes, made.values = shapes, values
    return made
