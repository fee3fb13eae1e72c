"""Changes of the interface that were proposed and never released, each to be had by its name."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Chosen, Proposal, Switch
from fakeqemu.proposals.registry import (
    NAMES,
    ProposalError,
    changed,
    check_base,
    combine,
    parse,
    proposal_of,
    rules_of,
)

__all__ = [
    "NAMES",
    "Chosen",
    "Proposal",
    "ProposalError",
    "Switch",
    "changed",
    "check_base",
    "combine",
    "parse",
    "proposal_of",
    "rules_of",
]
