"""The migration parameter `local`: TAPs take their open devices from the stream."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal

PROPOSAL = Proposal(
    "local",
    "parameter local, and local-migration-supported of a TAP",
    "posted",
    traits=lambda _: {"tap_local_since": (11, 2)},
)
