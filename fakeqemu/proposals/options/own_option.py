"""`-migration-parameters`: an option of its own, so that `-incoming` keeps its meaning."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal

PROPOSAL = Proposal(
    "own-option",
    "-migration-parameters PARAMETERS beside -incoming",
    "described",
    traits=lambda _: {"early_parameters": True},
)
