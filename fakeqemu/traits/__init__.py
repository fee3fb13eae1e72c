"""How versions *behave* differently: named traits, decided here and nowhere else.

What a version *has* (commands, types, machines, properties) is data in `schemas/`. A trait is
for what introspection cannot show. Code asks `profile.traits.NAME`; no module compares
version numbers. `fields`, with `migration` and `proposed`, names the traits, `versions` gives
them to the recorded versions, `dates` says when they changed in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.traits.fields import Traits
from fakeqemu.traits.versions import TRAITS

if TYPE_CHECKING:
    from fakeqemu.traits.dates import Between

__all__ = ["TRAITS", "Traits", "traits_between", "traits_of"]


def traits_of(name: str, version: tuple[int, int]) -> Traits:
    """The traits of profile `name`, of that major and minor version.

    A version that is not in the table has those of the older one beside it, but for those that
    are known to have changed since; see `dates`. One beyond the table is as its end.
    """
    if name in TRAITS:
        return TRAITS[name]
    found = traits_between(version)
    return found if isinstance(found, Traits) else found.traits


def traits_between(version: tuple[int, int]) -> Traits | Between:
    """Those of a version in the table or beyond it; of one in between, how they are known."""
    table = sorted(
        ((_release(name), traits) for name, traits in TRAITS.items()), key=lambda row: row[0]
    )
    older = [row for row in table if row[0] <= version]
    newer = [row for row in table if row[0] > version]
    if not older:
        return newer[0][1]
    if not newer or older[-1][0] == version:
        return older[-1][1]
    from fakeqemu.traits.dates import between

    return between(older[-1], newer[0], version)


def _release(name: str) -> tuple[int, int]:
    major, minor = name.split(".")
    return int(major), int(minor)
