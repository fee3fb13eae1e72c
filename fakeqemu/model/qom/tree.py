"""The object tree that qom-list, qom-get and qom-set walk.

An object is a type, properties and children. What a fresh object of a type looks like is
recorded data; the model lays over it what it knows better: values that follow from options,
values computed at the moment of asking, and setters where a tool may write.

See qom/object.c: object_property_add_child() and object_resolve_path(); qom/qom-qobject.c:
object_property_get_qobject(); qom/qom-qmp-cmds.c: qmp_qom_list().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from fakeqemu.qapi.qdict import NameTable

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
        #: property -> type as qom-list shows it, without children; see `own_shapes`
        self.shapes: Mapping[str, str] = {"type": "string", **(shapes or {})}
        #: whether no other object has them
        self._owns_shapes = True
        #: property -> value, or a call that gives it
        self.values: dict[str, Any] = {"type": type, **(values or {})}
        #: property -> what reading it gives instead of a value
        self.errors: dict[str, QapiError] = {}
        #: property -> call with the checked value; may raise QapiError
        self.setters: dict[str, Callable[[Any], None]] = {}
        #: properties that belong to a child in truth: property -> child's name
        self.aliases: dict[str, str] = {}
        #: how qom-list showed one of the kind; empty if it was not recorded
        self.order: list[str] = []
        #: once a child has been removed: where that has left the others, see `walked`
        self._table: NameTable | None = None
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
        """Have these children, each created on first access."""
        self._children.clear()
        self._recorded = dict(makers)

    def children_if(self, wanted: Callable[[str], bool]) -> list[QomObject]:
        """The children whose type is wanted; recorded ones of other types are not made for that.

        In order of creation, but for those that were added before recorded ones were made.
        """
        found = [child for child in self._children.values() if wanted(child.type)]
        for name, make in self._recorded.items():
            if isinstance(make, _Recorded) and not wanted(make.type):
                continue
            child = make()
            child.name, child.parent = name, self
            self._recorded[name] = _Made(child)
            if wanted(child.type):
                found.append(child)
        return found

    def forget_child(self, name: str) -> None:
        """Have no child of that name; it need not have been made for that."""
        recorded = self._recorded.pop(name, None)
        if isinstance(recorded, _Made):
            recorded.child.parent = None
        elif recorded is None and name in self._children:
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
        if self._table is not None:
            self._table.add(name)
        return child

    def remove(self) -> None:
        """Take this object, and what is below it, out of the tree."""
        if self.parent is not None:
            self.parent._table = self.parent._names()
            self.parent._table.discard(self.name)
            self.parent.children.pop(self.name, None)
            self.parent = None

    def _names(self) -> NameTable:
        return NameTable(self.children) if self._table is None else self._table

    def walked(self) -> list[str]:
        """The children's names in the order in which QEMU walks a container."""
        if self._table is not None or not self.order:
            return self._names().walked()
        from fakeqemu.model.qom.property_order import walked_as_recorded

        return walked_as_recorded(self.order, self.children)

    def never_had_others(self) -> None:
        """The children that were removed were none in QEMU: they leave no mark."""
        self._table = None

    def walk(self) -> Iterator[QomObject]:
        """This object and all below it, parents first."""
        yield self
        for child in tuple(self.children.values()):
            yield from child.walk()

    def share_shapes(self, shapes: Mapping[str, str]) -> None:
        """Have those of a recorded object, which others have too."""
        self.shapes = shapes
        self._owns_shapes = False

    def own_shapes(self) -> dict[str, str]:
        """The shapes, to be changed: those of this object alone from now on."""
        if not self._owns_shapes:
            self.shapes = dict(self.shapes)
            self._owns_shapes = True
        assert isinstance(self.shapes, dict)
        return self.shapes

    # -- properties ------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether there is a property (or child) `name`."""
        return name in self.shapes or name in self.children

    def listing(self) -> list[dict[str, str]]:
        """What qom-list returns."""
        shapes = self._shapes()
        if self.type == "container":
            # all but the type are properties of the object, not of its class
            order = ["type", *reversed(self.walked())]
        else:
            from fakeqemu.model.qom.property_order import listed

            order = listed(self.order, shapes)
        return [{"name": name, "type": shapes[name]} for name in order]

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


def from_recorded(
    node: TreeObject,
    *,
    rename: Callable[[str], str] = lambda text: text,
    make: Callable[[str], QomObject] = QomObject,
) -> QomObject:
    """An object as it was recorded, its children created on first access.

    `rename` is applied to names of children and to values with a path or a child's name in them,
    `make` makes an object of a type.
    """
    obj = make(node.type)
    obj.share_shapes(node.shapes)
    obj.values.update(node.values)
    for name in node.paths:
        obj.values[name] = rename(node.values[name])
    obj.values["type"] = node.type
    obj.order = [rename(name) for name, _ in node.properties]
    for name, (error_class, desc) in node.errors.items():
        obj.errors[name] = _CLASSES.get(error_class, QapiError)(rename(desc))
    for name in node.children:
        obj._recorded[rename(name)] = _Recorded(node, name, rename, make)
    return obj


class _Recorded:
    """Makes a child as it was recorded."""

    __slots__ = ("_make", "_name", "_node", "_rename")

    def __init__(
        self,
        node: TreeObject,
        name: str,
        rename: Callable[[str], str],
        make: Callable[[str], QomObject],
    ) -> None:
        self._node = node
        self._name = name
        self._rename = rename
        self._make = make

    @property
    def type(self) -> str:
        """Of the child."""
        return self._node.children[self._name].type

    def __call__(self) -> QomObject:
        child = self._node.children[self._name]
        return from_recorded(child, rename=self._rename, make=self._make)


class _Made:
    """A child that was made before its brothers."""

    __slots__ = ("child",)

    def __init__(self, child: QomObject) -> None:
        self.child = child

    def __call__(self) -> QomObject:
        return self.child


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
