"""Suggestions for misspelt names, shown beside the error.

Every name a tester writes is checked where it is given: a misspelt command in a fault would
otherwise never match, and the test would pass for the wrong reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fakeqemu.qapi.schema import AlternateType, ArrayType, EnumType, ObjectType, Schema


class UnknownNameError(ValueError):
    """A name that a tester gave is none; `nearest` is the one most like it, if any is."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        near = nearest(name, known)
        hint = f"; did you mean {near!r}?" if near is not None else ""
        if kind in ("command", "event") and (versions := versions_with(kind, name)):
            near, hint = None, f" in this version: {', '.join(versions)} have it"
        super().__init__(f"no {kind} {name!r}{hint}")
        self.name = name
        self.nearest = near

    @classmethod
    def again(cls, text: str, name: str, nearest: str | None) -> UnknownNameError:
        """One that was raised in another process."""
        error = cls("", name, ())
        error.args, error.nearest = (text,), nearest
        return error


def versions_with(kind: str, name: str) -> list[str]:
    """The profiles that have a "command" or "event" of this name."""
    from fakeqemu.profile import Profile

    found = []
    for version in Profile.names():
        schema = Profile.load(version).schema
        if name in (schema.commands if kind == "command" else schema.events):
            found.append(version)
    return found


def check_name(kind: str, name: object, known: Iterable[str]) -> str:
    """`name` if it is one of `known`. Raises UnknownNameError."""
    names = sorted(known)
    if isinstance(name, str) and name in names:
        return name
    raise UnknownNameError(kind, str(name), names)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` most like `name`; None if none is."""
    from difflib import get_close_matches

    found = get_close_matches(str(name), [str(each) for each in known], n=1, cutoff=0.5)
    return found[0] if found else None


def suggest_fix(
    schema: Schema, command: str, arguments: dict[str, Any]
) -> tuple[str, dict[str, Any]] | None:
    """The request with each unknown name replaced by the nearest known one.

    None if nothing like it is right.
    """
    if command not in schema.commands:
        near = nearest(command, schema.commands)
        if near is None:
            return None
        command = near
    return command, _mend(schema.commands[command].arg_type, arguments)


def _mend(type: Any, value: Any) -> Any:
    if isinstance(type, ObjectType) and isinstance(value, dict):
        return _mend_object(type, value)
    if isinstance(type, ArrayType) and isinstance(value, list):
        return [_mend(type.element, each) for each in value]
    if isinstance(type, EnumType) and isinstance(value, str) and value not in type.values:
        return nearest(value, type.values) or value
    if isinstance(type, AlternateType):
        for each in type.members:
            if isinstance(each, ObjectType) and isinstance(value, dict):
                return _mend_object(each, value)
    return value


def _mend_object(type: ObjectType, value: dict[str, Any]) -> dict[str, Any]:
    members = {member.name: member.type for member in type.members}
    if type.tag is not None:
        tag = value.get(type.tag)
        if type.tag in members and isinstance(tag, str):
            tag = _mend(members[type.tag], tag)
        variant = type.variant(tag) if isinstance(tag, str) else None
        if variant is not None:
            members |= {member.name: member.type for member in variant.members}
    fixed: dict[str, Any] = {}
    for name, item in value.items():
        free = [each for each in members if each not in value]
        right = name if name in members else nearest(name, free)
        if right is not None:
            fixed[right] = _mend(members[right], item)
    return fixed
