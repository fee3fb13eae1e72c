"""The recorded versions that a profile is composed on, the nearest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fakeqemu.profile import Profile, store
from fakeqemu.profile.packing import Packed


class Bases:
    """What they have, each thing of the first that has it."""

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self.profiles = tuple(profiles)
        near = self.nearest
        #: what the nearest has; what was not recorded of that, other versions may do otherwise
        self._known = {
            *near.qom_types, *near.commands, *(machine.name for machine in near.machines),
            *(model["name"] for model in near.cpu_definitions),
        }
        #: part -> version -> what the nearest lacks there and was taken from that version
        self.taken: dict[str, dict[str, set[str]]] = {}

    @staticmethod
    def beside(nearest: str, target: str) -> Bases:
        """`nearest`, then the other versions that come with the package, for things that it lacks.

        LookupError if that is no recorded version of that target.
        """
        base = Profile.load(nearest)
        if not _is_recorded(base):
            raise LookupError(f"{nearest} is not a recorded version")
        if _target(base) != target:
            raise LookupError(f"{nearest} is of {_target(base)}, and the file of {target}")

        def distance(profile: Profile) -> tuple[int, int]:
            here, there = _number(base), _number(profile)
            return abs(here - there), there

        others = [Profile.load(name) for name in Profile.names(composed=False) if name != nearest]
        near = [each for each in others if _is_recorded(each) and _target(each) == target]
        return Bases((base, *sorted(near, key=distance)))

    @property
    def nearest(self) -> Profile:
        """The one that all is taken from that it has."""
        return self.profiles[0]

    def part(self, name: str) -> Any:
        """A part of the nearest one; what is packed as it is. Raises MissingPartError."""
        found = self.nearest.part(name)
        return found.get() if isinstance(found, Packed) else found

    def filled(self, part: str, *path: str) -> dict[str, Any]:
        """The members at `path` of a part; of what the nearest does not know, those of others."""
        found: dict[str, Any] = {}
        for profile in self.profiles:
            try:
                value = profile.part(part)
            except store.MissingPartError:
                continue
            members = value.get(*path) if isinstance(value, Packed) else _at(value, path)
            for name, member in members.items():
                if name not in found and (profile is self.nearest or name not in self._known):
                    found[name] = member
                    if profile is not self.nearest:
                        of_part = self.taken.setdefault(part, {})
                        of_part.setdefault(profile.name, set()).add(name)
        return found


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def _is_recorded(profile: Profile) -> bool:
    return profile.base is None and store.how_composed(profile.folder) is None


def _target(profile: Profile) -> str:
    target: str = profile.query("query-target")["return"]["arch"]
    return target


def _number(profile: Profile) -> int:
    return profile.version.major * 10 + profile.version.minor
