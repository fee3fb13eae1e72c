"""Whether what the model says is what the schema promises; the tests ask this of every reply.

Stricter than the visitor: an unsigned number may not be negative, and a member nobody declared is
a fault wherever it is.
"""

from __future__ import annotations

from typing import Any

from fakeqemu.qapi.errors import FakeQemuError
from fakeqemu.qapi.json.writer import Fixed
from fakeqemu.qapi.schema import (
    INTEGER_RANGES,
    AlternateType,
    ArrayType,
    BuiltinType,
    EnumType,
    ObjectType,
    Schema,
    Type,
)


class SchemaViolation(FakeQemuError):  # noqa: N818
    """A fault of ours: the text names the path and what is wrong there."""


def check_reply(schema: Schema, command: str, value: Any) -> None:
    """Whether `value` is a `return` value of `command`. Raises SchemaViolation.

    What never changes is looked at once.
    """
    type = schema.commands[command].ret_type
    if isinstance(value, Fixed):
        if value.checked_as is not type:
            _check(type, value, f"{command}: return")
            value.checked_as = type
        return
    _check(type, value, f"{command}: return")


def check_event(schema: Schema, name: str, data: dict[str, Any] | None) -> None:
    """Whether `data` is what event `name` carries. Raises SchemaViolation."""
    if name not in schema.events:
        raise SchemaViolation(f"no event {name}")
    type = schema.events[name].arg_type
    if data is None and not type.members:
        return
    _check(type, data, f"{name}: data")


def _check(type: Type, value: Any, path: str) -> None:
    if isinstance(type, ObjectType):
        _check_object(type, value, path)
    elif isinstance(type, ArrayType):
        if not isinstance(value, list):
            raise SchemaViolation(f"{path} is no array: {_shown(value)}")
        for index, each in enumerate(value):
            _check(type.element, each, f"{path}[{index}]")
    elif isinstance(type, EnumType):
        if value not in type.values:
            raise SchemaViolation(f"{path} is no value of {type.name}: {_shown(value)}")
    elif isinstance(type, AlternateType):
        _check_alternate(type, value, path)
    else:
        _check_builtin(type, value, path)


def _check_builtin(type: BuiltinType, value: Any, path: str) -> None:
    kind = type.json_type
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int":
        low, high = INTEGER_RANGES[type.name]
        good = isinstance(value, int) and is_number and low <= value <= high
    else:
        good = {
            "string": isinstance(value, str),
            "boolean": isinstance(value, bool),
            "null": value is None,
            "number": is_number,
            "value": True,
        }[kind]
    if not good:
        raise SchemaViolation(f"{path} is no {type.name}: {_shown(value)}")


def _shown(value: Any) -> str:
    """A value as JSON for an error text; what JSON cannot hold, as Python's repr."""
    from json import dumps

    try:
        return dumps(value)
    except (TypeError, ValueError):
        return repr(value)


def _check_alternate(type: AlternateType, value: Any, path: str) -> None:
    faults = []
    for each in type.members:
        try:
            _check(each, value, path)
        except SchemaViolation as fault:
            faults.append(str(fault))
        else:
            return
    raise SchemaViolation("; ".join(faults))


def _check_object(type: ObjectType, value: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise SchemaViolation(f"{path} is no object: {_shown(value)}")
    members = {member.name: member for member in type.members}
    if type.tag is not None:
        variant = type.variant(value.get(type.tag, ""))
        if variant is not None:
            members |= {member.name: member for member in variant.members}
    for name, member in members.items():
        if name in value:
            _check(member.type, value[name], f"{path}.{name}")
        elif not member.optional:
            raise SchemaViolation(f"{path}.{name} is missing")
    for name in value:
        if name not in members:
            raise SchemaViolation(f"{path}.{name} is not in the schema")
