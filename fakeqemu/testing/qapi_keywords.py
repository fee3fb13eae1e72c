"""Python keywords for QAPI members: `migrate_set_parameters(multifd_channels=8)` style."""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import keyword_of
from fakeqemu.qapi.schema import Schema


def members_of(schema: Schema, command: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """`keywords` under the names that the arguments of `command` have."""
    info = schema.commands.get(command)
    names = {} if info is None else _member_names(info.arg_type)
    return {
        names.get(keyword, keyword.replace("_", "-")): value
        for keyword, value in keywords.items()
    }


def _member_names(arg_type: Any) -> dict[str, str]:
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
