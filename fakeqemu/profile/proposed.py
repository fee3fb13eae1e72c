"""Profiles with proposals laid over them, and what these do to recorded data.

See `fakeqemu.proposals` for what each proposal requires and sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from fakeqemu import proposals
from fakeqemu.profile import store
from fakeqemu.profile.overlay import OverlayError

if TYPE_CHECKING:
    from fakeqemu.profile.profile import Profile


def with_proposals(base: Profile, added: str) -> Profile:
    """`base` with the proposals that `added` names, separated by commas. Raises ProposalError.

    The same proposals in another order, or already there, are the same profile.
    """
    chosen = proposals.parse(added)
    proposals.check_base(base.name, base.traits)
    combined = proposals.combine((*base.proposals, *chosen))
    more = [each.text for each in combined if each not in base.proposals]
    return _laid_over(base, "+".join((base.name, *more))) if more else base


@cache
def _laid_over(base: Profile, name: str) -> Profile:
    chosen = proposals.parse(",".join(name.removeprefix(base.name).split("+")[1:]))
    return type(base)(name, base.folder, base, tuple(chosen))


def integer_types(
    profile: Profile, known: Mapping[str, Mapping[str, str]]
) -> dict[str, Mapping[str, str]]:
    """`Naming.integers`, with those of the commands' arguments that proposals bring along."""
    integers = dict(known)
    for each in profile.proposals:
        widths = store.read_proposal(each.proposal.name).get("integers", {})
        for name, command in widths.items():
            entries = {entry["name"]: entry for entry in profile.part("schema")}
            integers[name] = integers[entries[command]["arg-type"]]
    return integers


def device_properties(profile: Profile, typename: str, migration: str) -> list[dict[str, Any]]:
    """Those of a type where the parameters are no properties of the `migration` object any more."""
    of_parameters = typename == profile.traits.parameters_type
    source = migration if of_parameters else typename
    recorded: list[dict[str, Any]] = profile.part("properties").get("device", source)
    if source != migration:
        return recorded
    known = profile.migration_defaults
    names = {known.property_of(name) for name in known.parameters}
    return [each for each in recorded if (each["name"] in names) == of_parameters]


def check_rules(profile: Profile, parts: set[str]) -> None:
    """Whether an overlay's rules fit its base, and leave a schema. Raises OverlayError."""
    for name in parts:
        try:
            profile.part(name)
        except store.MissingPartError:
            raise OverlayError(f"{profile.folder}: there is no part {name!r}") from None
        except OverlayError as error:
            raise OverlayError(f"{profile.folder}: {error}") from None
    try:
        profile.schema.resolve()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise OverlayError(
            f"{profile.folder}: the rules leave what is no schema: {error}"
        ) from None
