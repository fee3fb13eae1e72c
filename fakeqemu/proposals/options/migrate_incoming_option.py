"""`-migrate-incoming`: the command migrate-incoming, member by member, on the command line."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal

PROPOSAL = Proposal(
    "migrate-incoming-option",
    "-migrate-incoming JSON has the members of the command migrate-incoming",
    "described",
    requires=("config-argument",),
    traits=lambda _: {"early_parameters": True},
)
