"""`-incoming config:K=V,...`: parameters kept for what is read before the migration object."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal

PROPOSAL = Proposal(
    "incoming-config",
    "-incoming config:PARAMETERS is kept early and laid over compat and -global",
    "posted",
    traits=lambda _: {"early_parameters": True, "incoming_config": True},
)
