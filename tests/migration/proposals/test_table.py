"""docs/proposals-table.md is what each design does when it is run."""

from __future__ import annotations

import pytest

from fakeqemu.proposals import NAMES
from tests.support.scripts import load_script

table = load_script("make_proposals")
WRITTEN = table.read_page(table.PAGE.read_text("utf-8"))


@pytest.mark.parametrize("row", table.ROWS, ids=lambda row: row.name)
async def test_a_design_answers_as_the_table_says(row):
    assert dict(zip(table.QUESTIONS, await table.answers(row), strict=True)) == dict(
        zip(table.QUESTIONS, WRITTEN[row.name], strict=True)
    )


def test_the_table_has_every_proposal_and_nothing_else():
    assert list(WRITTEN) == [row.name for row in table.ROWS]
    had = {name.partition(":")[0] for row in table.ROWS for name in row.proposals.split(",")}
    assert had == set(NAMES)
    assert table.page(WRITTEN) == table.PAGE.read_text("utf-8")
