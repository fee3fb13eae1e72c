"""Capabilities are parameters, and the commands for capabilities deprecated."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal, Switch

PROPOSAL = Proposal(
    "merged-options",
    "capabilities are parameters, their own commands deprecated",
    "posted",
    switches={
        "running": Switch(
            ("refused", "allowed"), "may a capability be set while a migration runs?"
        )
    },
    traits=lambda choices: {
        "capabilities_are_parameters": True,
        "capabilities_in_running_migration": choices["running"] == "allowed",
    },
)
