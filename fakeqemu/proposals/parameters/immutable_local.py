"""`local` keeps the value that a TAP has read, while incoming is awaited."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal

PROPOSAL = Proposal(
    "immutable-local",
    "local cannot be changed while incoming is awaited once a TAP has read it",
    "described",
    requires=("local",),
    traits=lambda _: {"local_immutable_while_incoming": True},
)
