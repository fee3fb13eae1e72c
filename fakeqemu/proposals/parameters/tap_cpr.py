"""`-netdev tap,cpr=on`: a property of the TAP, not a parameter of the migration."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal

PROPOSAL = Proposal(
    "tap-cpr",
    "-netdev tap,cpr=on: its descriptors go along in the CPR modes",
    "posted",
    traits=lambda _: {"tap_cpr": True},
)
