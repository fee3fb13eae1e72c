"""docs/proposals-ideas.md: every idea has tests with its number, or says that nobody can see it."""

from __future__ import annotations

import json

import pytest

from tests.support.scripts import load_script

ideas = load_script("make_ideas")


def test_the_page_is_up_to_date():
    assert ideas.page() == ideas.PAGE.read_text("utf-8"), "run scripts/make_ideas"


def test_no_number_is_missing():
    listed = json.loads(ideas.IDEAS.read_text("utf-8"))
    assert list(listed["thread"]) == [str(number) for number in range(1, 61)]
    assert list(listed["missed"]) == [str(number) for number in range(1, 16)]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_item_07_the_prefix", {("item", 7)}),
        ("test_item_33_34_missed_01_x", {("item", 33), ("item", 34), ("missed", 1)}),
        ("test_7_2_is_old", set()),
    ],
)
def test_a_name_begins_with_its_numbers(name, numbers):
    assert ideas.numbers(name) == numbers


def test_an_idea_without_a_test_is_found_out(monkeypatch):
    known = ideas.tests()
    without = {key: files for key, files in known.items() if key != ("item", 7)}
    monkeypatch.setattr(ideas, "tests", lambda: without)
    with pytest.raises(ValueError, match="item 7: it needs a test"):
        ideas.page()
    monkeypatch.setattr(ideas, "tests", lambda: {**known, ("item", 61): ["x"]})
    with pytest.raises(ValueError, match="61"):
        ideas.page()
