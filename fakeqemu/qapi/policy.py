"""`-compat`: what happens to deprecated and unstable interfaces.

Input may be refused (or end the process), output may be left out.

See qapi/qapi-util.c: compat_policy_input_ok(); qapi/qmp-dispatch.c: qmp_dispatch().
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import AbortError, QapiError
from fakeqemu.qapi.schema import AlternateType, ArrayType, Feature, ObjectType, Type


@dataclass(frozen=True, slots=True)
class CompatPolicy:
    """The members of `-compat`."""

    #: "accept", "reject" or "crash"
    deprecated_input: str = "accept"
    #: "accept" or "hide"
    deprecated_output: str = "accept"
    #: as `deprecated_input`
    unstable_input: str = "accept"
    #: as `deprecated_output`
    unstable_output: str = "accept"

    @staticmethod
    def from_members(members: Mapping[str, str] | None) -> CompatPolicy:
        """From the option's own spelling (`deprecated-input`, ...)."""
        return CompatPolicy(
            **{name.replace("-", "_"): value for name, value in (members or {}).items()}
        )

    def check_input(
        self, feature: Feature, kind: str, name: str, error: type[QapiError] = QapiError
    ) -> None:
        """Refuse `kind` ("command", "parameter", "value") `name` if the policy says so."""
        if feature.deprecated:
            _check(self.deprecated_input, "Deprecated", kind, name, error)
        if feature.unstable:
            _check(self.unstable_input, "Unstable", kind, name, error)

    def hides(self, feature: Feature) -> bool:
        """Whether output with this feature is left out."""
        return (feature.deprecated and self.deprecated_output == "hide") or (
            feature.unstable and self.unstable_output == "hide"
        )

    @property
    def hides_anything(self) -> bool:
        """Whether output has to be looked through at all."""
        return "hide" in (self.deprecated_output, self.unstable_output)


ACCEPT_ALL = CompatPolicy()


def _check(policy: str, adjective: str, kind: str, name: str, error: type[QapiError]) -> None:
    if policy == "reject":
        raise error(texts.disabled_by_policy(adjective, kind, name))
    if policy == "crash":
        raise AbortError(texts.disabled_by_policy(adjective, kind, name))


def hide_output(type: Type, value: Any, policy: CompatPolicy) -> Any:
    """`value` without the members that the policy leaves out."""
    if isinstance(type, ArrayType) and isinstance(value, list):
        return [hide_output(type.element, each, policy) for each in value]
    if isinstance(type, AlternateType):
        for each in type.members:
            if isinstance(each, ObjectType) and isinstance(value, dict):
                return hide_output(each, value, policy)
        return value
    if not isinstance(type, ObjectType) or not isinstance(value, dict):
        return value
    members = {member.name: member for member in type.members}
    if type.tag is not None and (variant := type.variant(value.get(type.tag, ""))) is not None:
        members |= {member.name: member for member in variant.members}
    shown = {}
    for name, each in value.items():
        member = members.get(name)
        if member is None:
            shown[name] = each
        elif not policy.hides(member.feature):
            shown[name] = hide_output(member.type, each, policy)
    return shown


def hide_schema(entries: list[dict[str, Any]], policy: CompatPolicy) -> list[dict[str, Any]]:
    """The schema as introspection shows it: without what is deprecated, if that is hidden.

    What is unstable shows in it all the same.
    """
    if policy.deprecated_output != "hide":
        return entries

    def shown(described: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [each for each in described if not Feature.of(each).deprecated]

    return [
        {**entry, "members": shown(entry["members"])} if entry["meta-type"] == "object" else entry
        for entry in entries
        if entry["meta-type"] not in ("command", "event") or not Feature.of(entry).deprecated
    ]
