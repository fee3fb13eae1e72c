"""`migrate` and `migrate-incoming` take parameters and capabilities beside the address."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal, Switch

PROPOSAL = Proposal(
    "config-argument",
    "migrate and migrate-incoming take parameters and capabilities inline",
    "posted",
    switches={
        "stored": Switch(
            ("off", "on"), "are inline values kept, and shown, after the migration?"
        )
    },
    traits=lambda choices: {"inline_parameters_stored": choices["stored"] == "on"},
)
