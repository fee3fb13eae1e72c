"""What a parameter that was not set reads as while there is no migration object."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal, Switch

PROPOSAL = Proposal(
    "early-reads",
    "what an early read of a parameter that was not given returns",
    "described",
    needs=("early_parameters", "without an early store there are no early reads"),
    switches={
        "unset": Switch(
            ("null", "zeroed", "defaults"),
            "no value (mode reads normal), an allocated structure of zeros, or the defaults?",
        )
    },
    traits=lambda choices: {"unset_early_reads": choices["unset"]},
)
