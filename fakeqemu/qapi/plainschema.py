"""Schemas of our own, from a table: command -> {member -> type}, "?" where it may be absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakeqemu.qapi.schema import Schema

#: type in the table -> the JSON type it stands for
JSON_TYPES = {
    "str": "string", "int": "int", "number": "number", "bool": "boolean", "any": "value"
}  # fmt: skip


def entries_of(commands: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """The schema in the form of query-qmp-schema."""
    found: list[dict[str, Any]] = [
        {"name": name, "meta-type": "builtin", "json-type": json_type}
        for name, json_type in JSON_TYPES.items()
    ]
    for command, members in commands.items():
        type_name = f"{command}-arg"
        found.append(
            {
                "name": command,
                "meta-type": "command",
                "arg-type": type_name,
                "ret-type": "any",
                "allow-oob": False,
            }
        )
        listed: list[dict[str, Any]] = []
        for name, type in members.items():
            member: dict[str, Any] = {"name": name, "type": type.rstrip("?")}
            if type.endswith("?"):
                member["default"] = None
            listed.append(member)
        found.append({"name": type_name, "meta-type": "object", "members": listed})
    return found


def plain_schema(commands: Mapping[str, Mapping[str, str]]) -> Schema:
    """The schema, for the checks."""
    return Schema(entries_of(commands))
