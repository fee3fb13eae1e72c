"""The types of one QEMU version, from its own `query-qmp-schema`.

Introspection hides what clients need not know: the names of types and how wide integers are.
Error texts show both, so `Naming` (data made by `scripts/make_qapi_names`) puts them back.
Types are made when they are first asked for: a command line needs few of them.

See monitor/qmp-cmds-control.c: qmp_query_qmp_schema(); scripts/qapi/introspect.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from fakeqemu.dataclass import dataclass, field

T = TypeVar("T")

#: integer types -> lowest and highest value
INTEGER_RANGES: dict[str, tuple[int, int]] = {
    "int": (-(1 << 63), (1 << 63) - 1),
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint8": (0, (1 << 8) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
    "size": (0, (1 << 64) - 1),
}


@dataclass(frozen=True, slots=True)
class Naming:
    """What introspection hides of one version."""

    #: introspection's name (a number) -> the type's name in QEMU's schema
    names: Mapping[str, str] = field(default_factory=dict)
    #: introspection's name of an object or alternate -> member -> type of an integer member
    #: ("uint8", or "[uint16]" for a list of them)
    integers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: commands whose arguments QEMU hands over unchecked
    unchecked: frozenset[str] = frozenset()

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Naming:
        """Out of one version's part of the overlay file `qapi-names.json`."""
        return Naming(
            data.get("names", {}), data.get("integers", {}), frozenset(data.get("unchecked", ()))
        )


@dataclass(frozen=True, slots=True)
class Feature:
    """Something special about a command, event, type, member or value."""

    deprecated: bool = False
    unstable: bool = False

    @staticmethod
    def of(entry: Mapping[str, Any]) -> Feature:
        """The features of a schema entry."""
        names = entry.get("features", ())
        return Feature("deprecated" in names, "unstable" in names) if names else _PLAIN


_PLAIN = Feature()


@dataclass(frozen=True, slots=True)
class BuiltinType:
    """A type of the schema language itself."""

    #: "str", "int", "uint8", "size", "number", "bool", "null", "any"
    name: str
    #: "string", "int", "number", "boolean", "null", "value"
    json_type: str


@dataclass(frozen=True, slots=True)
class EnumType:
    """A set of strings."""

    name: str
    #: in schema order
    values: tuple[str, ...]
    #: features of the values that have any
    features: Mapping[str, Feature]


@dataclass(frozen=True, slots=True)
class ArrayType:
    """A list of one type."""

    name: str
    element: Type


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object."""

    name: str
    optional: bool
    feature: Feature
    _type: Callable[[], Type]

    @property
    def type(self) -> Type:
        """The member's type."""
        return self._type()


@dataclass(frozen=True, slots=True)
class ObjectType:
    """A struct, or a union when it has a tag."""

    name: str
    #: in the order in which QEMU visits them: those of the base first
    members: tuple[Member, ...]
    #: the member that chooses a variant
    tag: str | None
    #: value of the tag -> type of the further members, as a call that makes it
    variants: Mapping[str, Callable[[], ObjectType]]
    feature: Feature = _PLAIN

    @property
    def needs_members(self) -> bool:
        """Whether an empty object lacks any."""
        return not all(member.optional for member in self.members)

    def variant(self, value: str) -> ObjectType | None:
        """The further members when the tag has `value`."""
        make = self.variants.get(value)
        return make() if make is not None else None


@dataclass(frozen=True, slots=True)
class AlternateType:
    """One of several types, told apart by the kind of JSON value."""

    name: str
    _members: tuple[Callable[[], Type], ...]

    @property
    def members(self) -> tuple[Type, ...]:
        """The types it may be."""
        return tuple(make() for make in self._members)


Type = BuiltinType | EnumType | ArrayType | ObjectType | AlternateType


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """A command as the schema describes it."""

    name: str
    arg_type: ObjectType
    ret_type: Type
    allow_oob: bool
    feature: Feature
    #: False where QEMU hands the arguments over as they are (device_add)
    checked: bool = True


@dataclass(frozen=True, slots=True)
class EventInfo:
    """An event as the schema describes it."""

    name: str
    arg_type: ObjectType
    feature: Feature


class SchemaMapping(Mapping[str, T]):
    """Names in schema order; the objects are made on demand."""

    def __init__(self, entries: dict[str, Any], make: Callable[[dict[str, Any]], T]) -> None:
        self._entries = entries
        self._make = make
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            self._made[name] = self._make(self._entries[name])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Schema:
    """One version's commands, events and types."""

    def __init__(
        self,
        entries: list[dict[str, Any]],
        naming: Naming | Mapping[str, Any] | None = None,
    ) -> None:
        self._naming = naming if isinstance(naming, Naming) else Naming.from_json(naming or {})
        kinds: dict[str, dict[str, Any]] = {"command": {}, "event": {}, "type": {}}
        for entry in entries:
            kind = entry["meta-type"]
            kinds[kind if kind in kinds else "type"][entry["name"]] = entry
        #: every command; `in` and iteration make nothing
        self.commands: SchemaMapping[CommandInfo] = SchemaMapping(kinds["command"], self._command)
        #: every event
        self.events: SchemaMapping[EventInfo] = SchemaMapping(kinds["event"], self._event)
        #: every type by introspection's name; `named` looks up by the real one
        self.types: SchemaMapping[Type] = SchemaMapping(kinds["type"], self._type)
        self._hidden: dict[str, str] | None = None

    def named(self, name: str) -> Type:
        """The type called `name` in QEMU's own schema ("MigrationStatus"). Raises KeyError."""
        if name in INTEGER_RANGES:
            return BuiltinType(name, "int")
        if self._hidden is None:
            self._hidden = {real: hidden for hidden, real in self._naming.names.items()}
        return self.types[self._hidden.get(name, name)]

    def object(self, name: str) -> ObjectType:
        """The object type called `name` in QEMU's own schema. Raises KeyError."""
        found = self.named(name)
        if not isinstance(found, ObjectType):
            raise KeyError(name)
        return found

    def enum_values(self, name: str) -> tuple[str, ...]:
        """The values of the enumeration called `name` in QEMU's own schema. Raises KeyError."""
        found = self.named(name)
        if not isinstance(found, EnumType):
            raise KeyError(name)
        return found.values

    def resolve(self) -> None:
        """Make everything that is made on demand. Raises LookupError, TypeError, AttributeError."""
        for table in (self.commands, self.events):
            for name in table:
                assert table[name]
        for type in self.types.values():
            if isinstance(type, ObjectType):
                for member in type.members:
                    assert member.type
                for make in type.variants.values():
                    make()
                if type.tag is not None and not any(m.name == type.tag for m in type.members):
                    raise LookupError(f"{type.name} has no member {type.tag}")
            elif isinstance(type, AlternateType):
                assert type.members

    def _object(self, hidden: str) -> ObjectType:
        found = self.types[hidden]
        if not isinstance(found, ObjectType):
            raise TypeError(f"schema type {hidden} is no object")
        return found

    def _command(self, entry: dict[str, Any]) -> CommandInfo:
        return CommandInfo(
            entry["name"],
            self._object(entry["arg-type"]),
            self.types[entry["ret-type"]],
            entry.get("allow-oob", False),
            Feature.of(entry),
            entry["name"] not in self._naming.unchecked,
        )

    def _event(self, entry: dict[str, Any]) -> EventInfo:
        return EventInfo(entry["name"], self._object(entry["arg-type"]), Feature.of(entry))

    def _member_type(self, owner: str, name: str, hidden: str) -> Callable[[], Type]:
        real = self._naming.integers.get(owner, {}).get(name)
        if real is None:
            return lambda: self.types[hidden]
        if real.startswith("["):
            array = ArrayType(real, BuiltinType(real[1:-1], "int"))
            return lambda: array
        builtin = BuiltinType(real, "int")
        return lambda: builtin

    def _type(self, entry: dict[str, Any]) -> Type:
        hidden: str = entry["name"]
        name = self._naming.names.get(hidden, hidden)
        kind = entry["meta-type"]
        if kind == "builtin":
            return BuiltinType(name, entry["json-type"])
        if kind == "array":
            return ArrayType(name, self.types[entry["element-type"]])
        if kind == "enum":
            members = entry.get("members") or [{"name": value} for value in entry["values"]]
            return EnumType(
                name,
                tuple(each["name"] for each in members),
                {each["name"]: Feature.of(each) for each in members if each.get("features")},
            )
        if kind == "alternate":
            return AlternateType(
                name,
                tuple(
                    self._member_type(hidden, str(index), each["type"])
                    for index, each in enumerate(entry["members"])
                ),
            )
        return self._struct(entry, name)

    def _struct(self, entry: dict[str, Any], name: str) -> ObjectType:
        hidden = entry["name"]

        def variant(of: str) -> Callable[[], ObjectType]:
            return lambda: self._object(of)

        return ObjectType(
            name,
            tuple(
                Member(
                    each["name"],
                    "default" in each,
                    Feature.of(each),
                    self._member_type(hidden, each["name"], each["type"]),
                )
                for each in entry["members"]
            ),
            entry.get("tag"),
            {each["case"]: variant(each["type"]) for each in entry.get("variants", ())},
            Feature.of(entry),
        )
