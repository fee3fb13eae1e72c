"""Parameters may be set in preconfig, where the migration object exists already."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal

PROPOSAL = Proposal(
    "qmp-preconfig",
    "migrate-set-parameters and the like in -preconfig, without an early store",
    "described",
)
