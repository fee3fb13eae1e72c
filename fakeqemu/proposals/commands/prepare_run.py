"""`migrate_prepare` and `migrate_run`: what is set, and when it begins, in two steps."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal, Switch

PROPOSAL = Proposal(
    "prepare-run",
    "migrate_prepare (and -migrate-prepare) sets everything at once, migrate_run starts",
    "described",
    switches={
        "address": Switch(("run", "prepare"), "which of the two takes the address?"),
        "outgoing": Switch(("on", "off"), "can an outgoing migration be prepared too?"),
        "jobs": Switch(("off", "on"), "is a prepared migration a job?"),
    },
    traits=lambda choices: {
        "early_parameters": True,
        "prepare_takes_address": choices["address"] == "prepare",
        "prepare_outgoing": choices["outgoing"] == "on",
        "prepare_jobs": choices["jobs"] == "on",
    },
)
