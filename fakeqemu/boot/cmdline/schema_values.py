"""Arguments that are a schema type, as JSON (first character `{`) or as newer key=value.

See qapi/qobject-input-visitor.c: qobject_input_visitor_new_str().
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakeqemu.profile import Profile
from fakeqemu.qapi import reads
from fakeqemu.qapi.json.streamer import parse_json
from fakeqemu.qapi.readers.keyval import check_keyval, parse_keyval
from fakeqemu.qapi.schema import EnumType, Feature, Member, ObjectType, Type
from fakeqemu.qapi.visitor import check_value

HELP = ("help", "?")


def typed_argument(
    text: str, type: Type, implied: str | None, profile: Profile, scope: str
) -> dict[str, Any]:
    """`text` as a value of `type`. Raises QapiError.

    `scope`: what the members belong to, where reads of them are noted (`qapi.reads`).
    """
    checked: dict[str, Any]
    if text.startswith("{"):
        value = parse_json(text, profile.traits)
        checked = check_value(profile.schema, type, value)
    else:
        checked = check_keyval(type, parse_keyval(text, implied), profile.traits)
    if reads.log is not None:
        checked = reads.log.typed(type, checked, scope)
    return checked


def checked_members(
    text: str, members: Mapping[str, tuple[str, ...]], profile: Profile, scope: str
) -> dict[str, str]:
    """`text` as an object of optional enumerations that introspection does not show.

    `members`: name -> accepted values. Raises QapiError.
    """
    return typed_argument(text, _struct_of_enums(members), None, profile, scope)


def _struct_of_enums(members: Mapping[str, tuple[str, ...]]) -> ObjectType:
    plain = Feature()

    def member(name: str, values: tuple[str, ...]) -> Member:
        return Member(name, True, plain, lambda: EnumType(name, values, {}))

    return ObjectType(
        "", tuple(member(name, values) for name, values in members.items()), None, {}
    )
