"""The parts of the coverage page that say how far what is accepted has an effect."""

from __future__ import annotations

from effect.account import Account, Reasons
from effect.static import refused_options
from fakeqemu.profile import Profile
from fakeqemu.qapi.schema import EnumType

#: members that are named in a cell; the rest is counted
_NAMED = 8
#: option -> the option group that its argument belongs to, where they are called differently
_GROUPS = {"acpitable": "acpi", "m": "memory"}

_DEVICES = """
## Device types

What a device of a type shows is recorded data. Of its properties these have an effect beyond
being checked and shown, with the types that have them: {}. The others only a guest would notice:
they are checked, kept, and shown by `qom-get` and `info qtree`.

| version | device types | can be made | refused as not modelled |
| --- | --- | --- | --- |"""

_END = """
## Accepted, with less than full effect

Found by `scripts/find_unread`: *none* is accepted and never read, *checked* only judged, *shown*
kept and shown by queries. Reasons are in `scripts/effect_reasons.json`.

| member | versions | effect | why |
| --- | --- | --- | --- |"""


class EffectPages:
    """Sections and cells, made from the account and the reasons."""

    def __init__(self, profiles: list[Profile], account: Account, reasons: Reasons) -> None:
        self._profiles = profiles
        self._account = account
        self._reasons = reasons
        self._all = [profile.name for profile in profiles]
        #: what members belong to -> their names
        self._parts: dict[str, list[str]] = {}
        for member in account.members:
            owner, _, name = member.rpartition(" ")
            self._parts.setdefault(owner, []).append(name)

    def of(self, owner: str) -> str:
        """A cell: full, or partial with the members that are not."""
        names = self._parts.get(owner, [])
        if not names:
            return "full"
        rest = len(names) - _NAMED
        shown = ", ".join(f"`{name}`" for name in names[:_NAMED])
        return f"partial: not {shown}" + (f" and {rest} more" if rest > 0 else "")

    def sections(self) -> list[str]:
        """What follows the commands."""
        return [*self._options(), *self._objects(), *self._devices(), *self._reasoned()]

    def _span(self, versions: list[str]) -> str:
        return "all" if len(versions) == len(self._all) else ", ".join(versions)

    def _options(self) -> list[str]:
        have = {
            profile.name: {option.name for option in profile.command_line_options}
            for profile in self._profiles
        }
        refused = refused_options()
        lines = ["", "## Command-line options", "",
                 "| option | versions | effect |", "| --- | --- | --- |"]
        for name in sorted(set().union(*have.values())):
            versions = [version for version, options in have.items() if name in options]
            group = _GROUPS.get(name, name)
            effect = "none" if f"-{name}" in self._account.members else self.of(f"-{group}")
            if name in refused:
                effect = "none: refused as not modelled"
            lines.append(f"| `-{name}` | {self._span(versions)} | {effect} |")
        return lines

    def _objects(self) -> list[str]:
        have = {profile.name: _object_types(profile) for profile in self._profiles}
        partial: dict[str, list[str]] = {}
        for name in self._parts.get("object-add", []):
            kind, _, member = name.partition("}.")
            partial.setdefault(kind[1:], []).append(member)
        lines = ["", "## Object types", "", "| type | versions | effect |", "| --- | --- | --- |"]
        for name in sorted(set().union(*have.values())):
            versions = [version for version, types in have.items() if name in types]
            effect = "none: refused as not modelled"
            if any(types.get(name) for types in have.values()):
                left = ", ".join(f"`{each}`" for each in partial.get(name, []))
                effect = f"partial: not {left}" if left else "full"
            lines.append(f"| `{name}` | {self._span(versions)} | {effect} |")
        return lines

    def _devices(self) -> list[str]:
        named = ", ".join(f"`{name}`" for name in self._account.device_properties)
        lines = [_DEVICES.format(named or "none were measured")]
        for profile in self._profiles:
            devices = profile.part("devices")
            types = [name for name in devices if devices.get(name)["class"]["user"]]
            made = [name for name in types if devices.get(name).get("tree") is not None]
            lines.append(
                f"| {profile.name} | {len(types)} | {len(made)} | {len(types) - len(made)} |"
            )
        return lines

    def _reasoned(self) -> list[str]:
        lines = [_END]
        for member, found in self._account.members.items():
            for kind, versions in found.items():
                if member.startswith("device "):
                    continue
                why = self._reasons.of(member, kind) or ""
                lines.append(f"| `{member}` | {self._span(versions)} | {kind} | {why} |")
        return lines


def _object_types(profile: Profile) -> dict[str, bool]:
    """The types that object-add takes, and whether the model makes them."""
    kind = profile.schema.commands["object-add"].arg_type
    tag = next(member.type for member in kind.members if member.name == kind.tag)
    assert isinstance(tag, EnumType)
    made = profile.part("objects")
    return {
        name: name in made and made.get(name)["tree"] is not None
        for name in tag.values
        if name in profile.qom_types
    }
