"""A start by QMP alone: the monitor is there before the backends."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal, Switch

PROPOSAL = Proposal(
    "qmp-first",
    "the monitor precedes the backends: -preconfig, or a command line of -qmp alone, waits there",
    "described",
    excludes={"qmp-preconfig": "each gives -preconfig another place in the boot"},
    switches={
        "query": Switch(
            ("refused", "given"), "what does query-migrate-parameters say before defaults exist?"
        )
    },
    traits=lambda _: {"early_parameters": True, "monitor_before_backends": True},
)
