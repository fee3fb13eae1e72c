"""Every proposal by name, and which of them go together.

`NAME[:SWITCH=VALUE...]` chooses one. What a proposal adds to the schema, the options and the
commands is data in `schemas/proposals/NAME.json`: rules as those of an overlay profile, with
`with` for those that a switch decides; how it behaves is traits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import replace
from fakeqemu.proposals.proposal import Chosen, Proposal

if TYPE_CHECKING:
    from fakeqemu.traits import Traits

#: name -> its module here, in the order in which they are applied and shown; a module is
#: read when its proposal is asked for, as most starts ask for few
_MODULES = {
    "incoming-config": "options.incoming_config",
    "incoming-json": "options.incoming_json",
    "json-or-legacy": "options.json_or_legacy",
    "own-option": "options.own_option",
    "migrate-incoming-option": "options.migrate_incoming_option",
    "local": "parameters.local",
    "immutable-local": "parameters.immutable_local",
    "tap-cpr": "parameters.tap_cpr",
    "explicit-mode": "parameters.explicit_mode",
    "early-reads": "parameters.early_reads",
    "migration-object": "objects.migration_object",
    "parameters-object": "objects.parameters_object",
    "merged-options": "commands.merged_options",
    "config-argument": "commands.config_argument",
    "prepare-run": "commands.prepare_run",
    "qmp-first": "commands.qmp_first",
    "qmp-preconfig": "commands.qmp_preconfig",
}

#: every proposal's name
NAMES = tuple(_MODULES)


class ProposalError(LookupError):
    """A proposal that does not exist, or that cannot be had with what else was chosen."""


@cache
def proposal_of(name: str) -> Proposal:
    """The proposal of that name. Raises ProposalError."""
    if name not in _MODULES:
        raise ProposalError(_unknown("proposal", name, NAMES))
    module = import_module(f"fakeqemu.proposals.{_MODULES[name]}")
    found: Proposal = module.PROPOSAL
    return found


def parse(text: str) -> list[Chosen]:
    """The proposals of `NAME[:SWITCH=VALUE...][,...]`. Raises ProposalError."""
    return [_parse_one(each) for each in text.split(",") if each]


def combine(chosen: Iterable[Chosen]) -> tuple[Chosen, ...]:
    """Each once and in the registry's order, those checked against each other.

    Of one that is given twice the last counts. Raises ProposalError for a contradiction.
    """
    by_name = {each.proposal.name: each for each in chosen}
    combined = tuple(by_name[name] for name in NAMES if name in by_name)
    for each in combined:
        proposal = each.proposal
        for needed in proposal.requires:
            if needed not in by_name:
                raise ProposalError(f"proposal '{proposal.name}' requires '{needed}'")
        if proposal.needs is not None:
            _check_need(proposal.name, *proposal.needs, combined)
        for other, reason in proposal.excludes.items():
            if other in by_name:
                raise ProposalError(
                    f"proposals '{proposal.name}' and '{other}' exclude each other: {reason}"
                )
    return combined


def check_base(name: str, traits: Traits) -> None:
    """Raise ProposalError unless proposals can be laid over profile `name`."""
    if traits.migration_object_before_late_backends or not traits.migration_channels:
        raise ProposalError(
            f"no proposals for profile '{name}': it makes its migration object before the"
            " backends, which is what they are about, and has no migration channels; they need"
            " 10.0 or newer"
        )


def changed(traits: Traits, chosen: Sequence[Chosen]) -> Traits:
    """`traits` with those that the proposals set."""
    changes: dict[str, Any] = {}
    for each in chosen:
        changes.update(each.proposal.traits(each.choices))
    return replace(traits, **changes)


def rules_of(described: dict[str, Any], chosen: Chosen) -> list[dict[str, Any]]:
    """The rules of a proposal's file that its switches leave."""
    return [
        {key: value for key, value in rule.items() if key != "with"}
        for rule in described["rules"]
        if all(chosen.choices[name] == value for name, value in rule.get("with", {}).items())
    ]


def _check_need(name: str, trait: str, reason: str, chosen: Iterable[Chosen]) -> None:
    if not any(each.proposal.traits(each.choices).get(trait) for each in chosen):
        able = [
            other
            for other in NAMES
            if proposal_of(other).traits(_defaults(proposal_of(other))).get(trait)
        ]
        raise ProposalError(f"proposal '{name}' requires one of {', '.join(able)}: {reason}")


def _defaults(proposal: Proposal) -> dict[str, str]:
    return {switch: about.values[0] for switch, about in proposal.switches.items()}


def _parse_one(text: str) -> Chosen:
    name, *words = text.split(":")
    proposal = proposal_of(name)
    choices = _defaults(proposal)
    for word in words:
        switch, _, value = word.partition("=")
        if switch not in choices:
            raise ProposalError(f"proposal '{name}': {_unknown('switch', switch, choices)}")
        values = proposal.switches[switch].values
        if value not in values:
            raise ProposalError(f"proposal '{name}': {switch} is one of {', '.join(values)}")
        choices[switch] = value
    return Chosen(proposal, choices)


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.3)
    hint = f", did you mean '{near[0]}'?" if near else ""
    return f"no {kind} '{name}'{hint} (there are: {', '.join(names) or 'none'})"
