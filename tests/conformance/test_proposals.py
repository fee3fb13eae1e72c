"""A version with proposals answers what they do not touch as the version itself does.

A sample: 60 records in all, spread over each proposal alone and over the few sets that have every
allowed pair in them. `scripts/conform_proposals` plays all.
"""

from __future__ import annotations

from itertools import combinations

import pytest

from fakeqemu.proposals import NAMES
from tests.support.scripts import load_script

conform = load_script("conform_proposals")
DESIGNS = [*conform.alone(), *conform.sets()]
SAMPLE = conform.sample(
    [
        path
        for path in conform.records("11.1")
        # those take seconds each
        if not path.stem.startswith(("exit", "cpr", "migrate", "postcopy", "background", "found"))
    ],
    60,
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(len(DESIGNS)), ids=lambda n: "+".join(DESIGNS[n])[:60])
async def test_what_is_not_touched_conforms(number):
    mine = SAMPLE[number :: len(DESIGNS)]
    assert await conform.play("11.1", DESIGNS[number], mine) == {}


def test_the_sets_have_every_allowed_pair():
    sets = [set(names) for names in conform.sets()]
    for pair in combinations(NAMES, 2):
        needed = set(conform.with_needs(pair))
        assert not conform.allowed(sorted(needed)) or any(needed <= each for each in sets), pair


def test_a_proposal_that_touches_something_is_found_out():
    failure = {"what": '{"execute": "query-status"}', "why": [".return.status: expected"]}
    assert not conform.touched(NAMES, "misc", failure)
    known = {"what": '{"execute": "query-command-line-options"}', "why": ["x"]}
    assert conform.touched(["own-option"], "misc", known)
    assert not conform.touched(["local"], "misc", known)
