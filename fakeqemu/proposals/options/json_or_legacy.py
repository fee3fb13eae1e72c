"""`-incoming`: the legacy text as it is, or one JSON object with address and parameters."""

from __future__ import annotations

from fakeqemu.proposals.proposal import Proposal

PROPOSAL = Proposal(
    "json-or-legacy",
    "-incoming takes its legacy text, or one JSON object with address and parameters",
    "described",
    excludes={
        "incoming-config": "it is to be the only notation for parameters beside the legacy text",
        "incoming-json": "each gives a JSON object without an address another meaning",
    },
    traits=lambda _: {"early_parameters": True, "incoming_json_with_address": True},
)
