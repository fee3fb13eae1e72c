"""What a version's replies have, read from its schema."""

from __future__ import annotations

from fakeqemu.qapi.schema import ArrayType, ObjectType, Schema


def element_members(schema: Schema, command: str) -> list[str]:
    """The members of the objects that `command` returns a list of."""
    returned = schema.commands[command].ret_type
    if not isinstance(returned, ArrayType) or not isinstance(returned.element, ObjectType):
        raise TypeError(f"{command} does not return a list of objects")
    return [member.name for member in returned.element.members]
