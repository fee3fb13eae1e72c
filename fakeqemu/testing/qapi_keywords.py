"""Python keywords for QAPI members: `migrate_set_parameters(multifd_channels=8)` style."""

from __future__ import annotations

import json
from typing import Any

from fakeqemu.commands.registry import keyword_of
from fakeqemu.qapi.schema import ObjectType, Schema
from fakeqemu.testing.names import check_name, suggest_fix, versions_with


def members_of(schema: Schema, command: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """`keywords` under the names that the arguments of `command` have."""
    info = schema.commands.get(command)
    names = {} if info is None else member_names(info.arg_type)
    return {
        names.get(keyword, keyword.replace("_", "-")): value
        for keyword, value in keywords.items()
    }


def check_call(command: object, arguments: object) -> None:
    """Whether a name and arguments were given. Raises TypeError that says what to write."""
    if not isinstance(command, str):
        raise TypeError(
            f"a command is its name, and its arguments beside it: qmp('stop'), not {command!r}"
        )
    if arguments is not None and not isinstance(arguments, dict):
        raise TypeError(
            f"arguments are a dict, or keywords: {command!r}, {{...}}, not {arguments!r}"
        )


def hint_for(schema: Schema, request: dict[str, Any]) -> str:
    """What to write in place of a request that the schema does not take; empty if it takes it."""
    is_known = request["execute"] in schema.commands
    if not is_known and (versions := versions_with("command", request["execute"])):
        return f" ({', '.join(versions)} have it)"
    given = request.get("arguments", {})
    fix = suggest_fix(schema, request["execute"], given)
    if fix is None or fix == (request["execute"], given):
        return ""
    command, arguments = fix
    right = repr(command) if command != request["execute"] else json.dumps(arguments, default=repr)
    return f"; did you mean {right}?"


def check_members(what: str, arg_type: Any, names: Any) -> None:
    """Whether a type has such members, `_` in names for `-`. Raises UnknownNameError.

    Of a union, whose tag may be left to chance, nothing is said.
    """
    if arg_type is not None and (not isinstance(arg_type, ObjectType) or arg_type.tag is not None):
        return
    known = member_names(arg_type)
    for name in names:
        if name not in known and name.replace("_", "-") not in known.values():
            check_name(what, name, known.values())


def member_names(arg_type: Any) -> dict[str, str]:
    """Keyword -> member of a command's arguments, variants' members included."""
    members: dict[str, str] = {}
    if arg_type is None:
        return members
    pending: list[Any] = [arg_type]
    while pending:
        current = pending.pop()
        for member in getattr(current, "members", ()):
            name = getattr(member, "name", member)
            members.setdefault(keyword_of(name), name)
        variants = getattr(current, "variants", None) or {}
        pending += list(variants.values() if hasattr(variants, "values") else ())
    return members
