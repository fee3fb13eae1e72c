"""The object tree that qom-list, qom-get and qom-set walk.

An object is a type, properties and children. What a fresh object of a type looks like is
recorded data; the model lays over it what it knows better: values that follow from options,
values computed at the moment of asking, and setters where a tool may write.

See qom/object.c: object_property_add_child() and object_resolve_path(); qom/qom-qobject.c:
object_property_get_qobject(); qom/qom-qmp-cmds.c: qmp_qom_list().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qom.property_types import convert
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import (
    CommandNotFoundError,
    DeviceNotActiveError,
    DeviceNotFoundError,
    KVMMissingCapError,
    NotModelledError,
    QapiError,
)
from fakeqemu.qapi.qdict import in_name_table

if TYPE_CHECKING:
    from fakeqemu.profile import TreeObject
    from fakeqemu.qapi.schema import Schema

_CLASSES = {
    kind.error_class: kind
    for kind in (
        QapiError,
        CommandNotFoundError,
        DeviceNotActiveError,
        DeviceNotFoundError,
        KVMMissingCapError,
    )
}

#: properties of every device that nobody may write
_FIXED = frozenset({"type", "hotplugged", "hotpluggable", "parent_bus"})


class QomObject:
    """One object; it is in the tree once `add_child` of its parent was called."""

    def __init__(
        self,
        type: str,
        shapes: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self.type = type
        self.name = ""
        self.parent: QomObject | None = None
        #: property -> type as qom-list shows it, without children
        self.shapes: dict[str, str] = {"type": "string", **(shapes or {})}
        #: property -> value, or a call that gives it
        self.values: dict[str, Any] = {"type": type, **(values or {})}
        #: property -> what reading it gives instead of a value
        self.errors: dict[str, QapiError] = {}
        #: property -> call with the checked value; may raise QapiError
        self.setters: dict[str, Callable[[Any], None]] = {}
        #: properties that belong to a child in truth: property -> child's name
        self.aliases: dict[str, str] = {}
        self._children: dict[str, QomObject] = {}
        self._recorded: dict[str, Callable[[], QomObject]] = {}

    # -- the tree ------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The canonical path."""
        if self.parent is None:
            return "/" if not self.name else self.name
        above = self.parent.path
        return f"{'' if above == '/' else above}/{self.name}"

    @property
    def children(self) -> dict[str, QomObject]:
        """The children by name, in order of creation."""
        for name, make in list(self._recorded.items()):
            del self._recorded[name]
            child = make()
            child.name, child.parent = name, self
            self._children[name] = child
        return self._children

    def replace_children(self, makers: dict[str, Callable[[], QomObject]]) -> None:
        """Have these children, each made when somebody looks."""
        self._children.clear()
        self._recorded = dict(makers)

    def forget_child(self, name: str) -> None:
        """Have no child of that name; it need not have been made for that."""
        if self._recorded.pop(name, None) is None and name in self._children:
            self._children[name].remove()

    def child(self, name: str) -> QomObject | None:
        """The child of that name."""
        return self.children.get(name)

    def add_child(self, name: str, child: QomObject) -> QomObject:
        """Put `child` below this object. ValueError if the name is taken; the child."""
        if name in self.children or name in self.shapes:
            raise ValueError(f"{self.path} has a property {name!r} already")
        child.name, child.parent = name, self
        self.children[name] = child
        return child

    def remove(self) -> None:
        """Take this object, and what is below it, out of the tree."""
        if self.parent is not None:
            self.parent.children.pop(self.name, None)
            self.parent = None

    def walk(self) -> Iterator[QomObject]:
        """This object and all below it, parents first."""
        yield self
        for child in tuple(self.children.values()):
            yield from child.walk()

    # -- properties ------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether there is a property (or child) `name`."""
        return name in self.shapes or name in self.children

    def listing(self) -> list[dict[str, str]]:
        """What qom-list returns."""
        shapes = self._shapes()
        if self.type == "container":
            # where all but the type are properties of the object, not of its class
            order = ["type", *reversed(in_name_table(n for n in shapes if n != "type"))]
            shapes = {name: shapes[name] for name in order}
        return [{"name": name, "type": shape} for name, shape in shapes.items()]

    def _shapes(self) -> dict[str, str]:
        below = {name: f"child<{child.type}>" for name, child in self.children.items()}
        return {**self.shapes, **below}

    def require(self, name: str) -> None:
        """Raise QapiError if there is no property `name`."""
        if not self.has(name):
            raise QapiError(f"Property '{self.type}.{name}' not found")

    def get(self, name: str) -> Any:
        """What qom-get returns. Raises QapiError; NotModelledError where no value is known."""
        self.require(name)
        if name in self.children:
            return self.children[name].path
        if name in self.aliases:
            return self.children[self.aliases[name]].get(name)
        if name in self.errors:
            raise self.errors[name]
        if name not in self.values:
            raise NotModelledError(f"qom-get {self.type}.{name}")
        value = self.values[name]
        return value() if callable(value) else value

    def set(self, name: str, value: Any, schema: Schema) -> None:
        """What qom-set does. Raises QapiError."""
        self.require(name)
        if name in self.children or name in _FIXED:
            raise QapiError(f"Property '{self.type}.{name}' is not writable")
        if name in self.aliases:
            self.children[self.aliases[name]].set(name, value, schema)
            return
        if name in self.setters:
            self.setters[name](convert(schema, self.shapes[name], value, name))
        else:
            self.set_otherwise(name, value, schema)

    def set_otherwise(self, name: str, value: Any, schema: Schema) -> None:  # noqa: ARG002
        """Set a property without setter, or say why not: kinds of objects know."""
        raise NotModelledError(f"qom-set {self.type}.{name}")

    def settable(self, *names: str) -> None:
        """Let qom-set change the stored values of these properties."""
        for name in names:
            self.setters[name] = partial(self.values.__setitem__, name)


def from_recorded(
    node: TreeObject,
    *,
    rename: Callable[[str], str] = lambda text: text,
    make: Callable[[str], QomObject] = QomObject,
) -> QomObject:
    """An object as it was recorded, its children made when somebody looks.

    `rename` is applied to names of children and to values with a path or a child's name in them,
    `make` makes an object of a type.
    """
    obj = make(node.type)
    obj.shapes.update(node.shapes)
    obj.values.update(node.values)
    for name in node.paths:
        obj.values[name] = rename(node.values[name])
    obj.values["type"] = node.type
    for name, (error_class, desc) in node.errors.items():
        obj.errors[name] = _CLASSES.get(error_class, QapiError)(rename(desc))
    for name in node.children:
        obj._recorded[rename(name)] = partial(_below, node, name, rename, make)
    return obj


def _below(
    node: TreeObject, name: str, rename: Callable[[str], str], make: Callable[[str], QomObject]
) -> QomObject:
    return from_recorded(node.children[name], rename=rename, make=make)


class Qom:
    """The whole tree of one machine."""

    def __init__(self) -> None:
        self.root = QomObject("container")

    def start_anew(self, containers: list[str]) -> None:
        """An empty tree with these containers: a machine object is about to be made."""
        self.root = QomObject("container")
        for name in containers:
            self.root.add_child(name, QomObject("container"))

    def container(self, path: str) -> QomObject:
        """The object at absolute `path`, containers made on the way as needed."""
        here = self.root
        for name in filter(None, path.split("/")):
            found = here.child(name)
            here = found if found is not None else here.add_child(name, QomObject("container"))
        return here

    def at(self, path: str) -> QomObject | None:
        """The object at absolute `path`; links are followed."""
        return _descend(self.root, self.root, [part for part in path.split("/") if part])

    def find(self, path: str) -> tuple[QomObject | None, bool]:
        """The object of an absolute or partial path, and whether several match."""
        return resolve_from(self.root, path)

    def resolve(self, path: str) -> QomObject:
        """As `find`; DeviceNotFound if there is none or more than one."""
        found, _ = self.find(path)
        if found is None:
            raise DeviceNotFoundError(texts.device_not_found(path))
        return found


def resolve_from(root: QomObject, path: str) -> tuple[QomObject | None, bool]:
    """The object of an absolute or partial path in the tree at `root`, and whether several match.

    A partial path matches wherever it leads somewhere, links followed; two ways count twice.
    """
    parts = [part for part in path.split("/") if part]
    if path.startswith("/"):
        return _descend(root, root, parts), False
    if not parts:
        return None, True
    found: QomObject | None = None
    for obj in root.walk():
        match = _descend(root, obj, parts)
        if match is not None:
            if found is not None:
                return None, True
            found = match
    return found, False


def _descend(root: QomObject, here: QomObject | None, parts: list[str]) -> QomObject | None:
    for part in parts:
        if here is None:
            return None
        below = here.child(part)
        here = below if below is not None else _link(root, here, part)
    return here


def _link(root: QomObject, obj: QomObject, name: str) -> QomObject | None:
    if not obj.shapes.get(name, "").startswith("link<"):
        return None
    try:
        target = obj.get(name)
    except QapiError:
        return None
    if not isinstance(target, str) or not target.startswith("/"):
        return None
    return _descend(root, root, [part for part in target.split("/") if part])
