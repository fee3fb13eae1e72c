"""How versions *behave* differently: named traits, decided here and nowhere else.

What a version *has* (commands, types, machines, properties) is data in `schemas/`. A trait is
for what introspection cannot show. Code asks `profile.traits.NAME`; no module compares
version numbers. `fields`, with `migration` and `proposed`, names the traits,
`versions` gives them to the versions.
"""

from __future__ import annotations

from fakeqemu.traits.fields import Traits
from fakeqemu.traits.versions import TRAITS

__all__ = ["TRAITS", "Traits", "traits_of"]


def traits_of(name: str, version: tuple[int, int]) -> Traits:
    """The traits of recorded profile `name`, of that major and minor version.

    A profile that is not in the table (recorded by a user) behaves as the newest one in the
    table that is not newer than it, or as the oldest.
    """
    if name in TRAITS:
        return TRAITS[name]
    recorded = sorted(
        (
            (tuple(int(part) for part in key.split(".")), traits)
            for key, traits in TRAITS.items()
        ),
        key=lambda pair: pair[0],
    )
    older = [traits for key, traits in recorded if key <= version]
    return older[-1] if older else recorded[0][1]
