"""`-incoming JSON` without a prefix: parameters, unlike a channel by missing members."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal, Switch

PROPOSAL = Proposal(
    "incoming-json",
    "-incoming takes parameters as JSON without a prefix",
    "described",
    excludes={"json-or-legacy": "each gives a JSON object without an address another meaning"},
    switches={
        "alone": Switch(("runs", "waits"), "does it mean incoming when nothing else is given?")
    },
    traits=lambda choices: {
        "early_parameters": True,
        "incoming_json": True,
        "lone_parameters_wait": choices["alone"] == "waits",
    },
)
