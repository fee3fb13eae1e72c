"""What the migration package needs from the schema: members, enums, and command-line input.

The only module of the package that uses schema types. See qapi/migration.json.

See qapi/migration.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.json.streamer import parse_json
from fakeqemu.qapi.readers.keyval import check_keyval, parse_keyval
from fakeqemu.qapi.schema import ArrayType, BuiltinType, EnumType, ObjectType, Type
from fakeqemu.qapi.visitor import check_value

if TYPE_CHECKING:
    from fakeqemu.profile import Profile

_SET_PARAMETERS = "migrate-set-parameters"
_SET_CAPABILITIES = "migrate-set-capabilities"


def parameter_types(profile: Profile) -> dict[str, Type]:
    """Every member of migrate-set-parameters with its type, in schema order."""
    members = profile.schema.commands[_SET_PARAMETERS].arg_type.members
    return {member.name: member.type for member in members}


def deprecated_capabilities(profile: Profile) -> frozenset[str]:
    """Capabilities that the schema calls deprecated."""
    status = _element(profile.schema.commands[_SET_CAPABILITIES].arg_type, "capabilities")
    enum = _member(status, "capability")
    assert isinstance(enum, EnumType)
    return frozenset(name for name, feature in enum.features.items() if feature.deprecated)


def statuses(profile: Profile) -> tuple[str, ...]:
    """The values of MigrationStatus."""
    enum = _member(profile.schema.events["MIGRATION"].arg_type, "status")
    assert isinstance(enum, EnumType)
    return enum.values


def run_states(profile: Profile) -> frozenset[str]:
    """The values of RunState."""
    status = profile.schema.commands["query-status"].ret_type
    assert isinstance(status, ObjectType)
    enum = _member(status, "status")
    assert isinstance(enum, EnumType)
    return frozenset(enum.values)


def info_members(profile: Profile) -> frozenset[str]:
    """The members of MigrationInfo, and those of its `ram` as `ram.NAME`."""
    info = profile.schema.commands["query-migrate"].ret_type
    assert isinstance(info, ObjectType)
    ram = _member(info, "ram")
    assert isinstance(ram, ObjectType)
    return frozenset(
        [member.name for member in info.members] + [f"ram.{m.name}" for m in ram.members]
    )


def parse_parameters(profile: Profile, text: str) -> dict[str, Any]:
    """Migration parameters as JSON (first character `{`) or key=value. Raises QapiError."""
    type = profile.schema.commands[_SET_PARAMETERS].arg_type
    return _parse(profile, type, text, None)


def check_parameters(profile: Profile, value: Any) -> dict[str, Any]:
    """Migration parameters from a JSON value. Raises QapiError."""
    type = profile.schema.commands[_SET_PARAMETERS].arg_type
    checked: dict[str, Any] = check_value(profile.schema, type, value)
    return checked


def object_shapes(profile: Profile) -> dict[str, str]:
    """The properties of a migration object that users can make, with their types' names."""
    variant = _migration_object(profile)
    return {member.name: member.type.name for member in variant.members}


def check_object(profile: Profile, value: dict[str, Any]) -> dict[str, Any]:
    """Properties of a migration object that users can make. Raises QapiError."""
    checked: dict[str, Any] = check_value(profile.schema, _migration_object(profile), value)
    return checked


def _migration_object(profile: Profile) -> ObjectType:
    variant = profile.schema.commands["object-add"].arg_type.variant("migration")
    assert variant is not None
    return variant


def check_channel(profile: Profile, value: Any) -> dict[str, Any]:
    """A MigrationChannel from a JSON value. Raises QapiError."""
    type = _element(profile.schema.commands["migrate-incoming"].arg_type, "channels")
    checked: dict[str, Any] = check_value(profile.schema, type, value)
    return checked


def unset_early_values(profile: Profile) -> dict[str, Any]:
    """What parameters that nobody gave read as while there is no migration object.

    Empty where the store has no values of its own.
    """
    kind = profile.traits.unset_early_reads
    if kind == "defaults":
        return dict(profile.migration_defaults.parameters)
    if kind == "zeroed":
        return {name: _zero(type) for name, type in parameter_types(profile).items()}
    return {}


def _zero(type: Type) -> Any:
    """What memory of zeros is as a value of `type`; a pointer is None."""
    if isinstance(type, EnumType):
        return type.values[0]
    if isinstance(type, BuiltinType):
        return {"bool": False, "str": None}.get(type.name, 0)
    return None


def parse_channel(profile: Profile, text: str) -> dict[str, Any]:
    """A MigrationChannel as JSON or key=value, its type first. Raises QapiError."""
    type = _element(profile.schema.commands["migrate-incoming"].arg_type, "channels")
    return _parse(profile, type, text, "channel-type")


def parse_arguments(profile: Profile, command: str, text: str) -> dict[str, Any]:
    """The arguments of a command as JSON or key=value. Raises QapiError."""
    return _parse(profile, profile.schema.commands[command].arg_type, text, None)


def parse_json_object(profile: Profile, text: str) -> dict[str, Any]:
    """A JSON object, unchecked. Raises QapiError."""
    value: dict[str, Any] = parse_json(text, profile.traits)
    return value


def _parse(profile: Profile, type: Type, text: str, implied_key: str | None) -> dict[str, Any]:
    value: dict[str, Any]
    if text.startswith("{"):
        value = check_value(profile.schema, type, parse_json(text, profile.traits))
    else:
        value = check_keyval(type, parse_keyval(text, implied_key), profile.traits)
    return value


def _member(type: Type, name: str) -> Type:
    assert isinstance(type, ObjectType)
    return next(member.type for member in type.members if member.name == name)


def _element(type: Type, name: str) -> Type:
    array = _member(type, name)
    assert isinstance(array, ArrayType)
    return array.element
