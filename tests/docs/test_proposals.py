"""docs/proposals.md: every example is executed, every proposal has its section."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fakeqemu.proposals import NAMES, proposal_of
from tests.docs import examples

_HERE = Path(__file__).parent
_PAGE = _HERE.parents[1] / "docs" / "proposals.md"


@pytest.mark.parametrize("text", examples.examples(_PAGE), ids=lambda t: t.splitlines()[0][:90])
async def test_the_example_is_seen(text, tmp_path):
    assert await examples.Run(str(tmp_path)).run(text) == text


def test_every_proposal_has_its_section_with_its_switches():
    page = _PAGE.read_text("utf-8")
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(NAMES)
    for name, text in sections.items():
        proposal = proposal_of(name)
        assert re.search(rf"\b{proposal.status}\b", text, re.IGNORECASE), name
        for switch, about in proposal.switches.items():
            assert all(value in text for value in about.values), (name, switch)
            assert f"{switch}=" in text


def test_every_idea_that_was_missed_is_told():
    numbers = {int(n) for n in re.findall(r"missed\s(\d+)\*\*", _PAGE.read_text("utf-8"))}
    assert numbers == set(range(1, 16))


def test_missed_04_json_is_documented_first():
    # no program can see which form is documented first, a reader can
    section = _PAGE.read_text("utf-8").split("### incoming-config\n")[1]
    assert "config:multifd" not in section[: section.index("'config:{")]
