"""A cpr channel implies no mode: who wants CPR says so."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal

PROPOSAL = Proposal(
    "explicit-mode",
    "a cpr channel, or state left by an exec, implies no mode: it has to be given",
    "described",
    needs=("early_parameters", "no other can give the mode before it is read"),
    traits=lambda _: {"cpr_channel_implies_mode": False},
)
