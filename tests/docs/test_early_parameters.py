"""docs/early-parameters.md: every example is executed and must look as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import examples

_HERE = Path(__file__).parent
_PAGE = _HERE.parents[1] / "docs" / "early-parameters.md"


@pytest.mark.parametrize("text", examples.examples(_PAGE), ids=lambda t: t.splitlines()[0][:70])
async def test_the_example_is_seen(text, tmp_path):
    assert await examples.Run(str(tmp_path)).run(text) == text


async def test_an_example_that_lies_is_found_out(tmp_path):
    text = (
        "$ fakeqemu -machine none\n"
        '-> {"execute": "query-migrate-parameters"}\n'
        '<- {"return": {"multifd-channels": 3, ...}}\n'
    )
    with pytest.raises(AssertionError):
        await examples.Run(str(tmp_path)).run(text)


def test_every_idea_has_its_place():
    numbers = {int(number) for number in re.findall(r"\*\*(\d+)\*\*", _PAGE.read_text("utf-8"))}
    assert numbers == set(range(1, 61))
