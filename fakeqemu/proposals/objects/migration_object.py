"""`-object migration`: the migration object is user-creatable."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal, Switch

PROPOSAL = Proposal(
    "migration-object",
    "-object migration and object-add: parameters and compatibility options as properties",
    "described",
    switches={
        "second": Switch(("refused", "current"), "what does a second object do?"),
    },
    traits=lambda choices: {
        "early_parameters": True,
        "migration_object_creatable": True,
        "second_migration_object_current": choices["second"] == "current",
    },
)
