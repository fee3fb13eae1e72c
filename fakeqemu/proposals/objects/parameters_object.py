"""Parameters leave the migration object: no properties any more, or of another type."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal, Switch

PROPOSAL = Proposal(
    "parameters-object",
    "parameters are no properties of the migration object any more",
    "described",
    excludes={"migration-object": "that object is to have the parameters"},
    switches={
        "type": Switch(
            ("none", "migration-parameters"),
            "what has them as properties, so that -global can set them?",
        )
    },
    traits=lambda choices: {"parameters_type": choices["type"]},
)
