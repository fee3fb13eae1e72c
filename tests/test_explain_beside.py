"""Two designs beside each other, as text and as JSON."""

from __future__ import annotations

import json

import pytest

from fakeqemu.cli import main

CONFIG = ("-machine", "none", "-incoming", "config:multifd-channels=4")
JSON = ("-machine", "none", "-incoming", '{"multifd-channels": 4}')


@pytest.fixture
def explain(capsys):
    def run(*arguments: str) -> tuple[int, str]:
        code = main(["explain", "--profile", "11.1", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_the_same_options_for_two_designs(explain):
    both = ("--proposal", "incoming-config", "--proposal", "incoming-json", "--", *CONFIG)
    code, text = explain(*both)
    assert code == 1
    assert "A: 11.1+incoming-config: -machine none -incoming config:multifd-channels=4\n" in text
    error = next(line for line in text.splitlines() if line.split()[:1] == ["error"])
    assert error.split()[1:3] == ["-", "-incoming"]
    code, text = explain("--json", *both)
    account = json.loads(text)
    assert [each["exit"] for each in account["designs"]] == [0, 1]
    exits = [each for each in account["differences"] if each["name"] == "exit"]
    assert exits == [{"section": "end of the start", "name": "exit", "values": [None, 1]}]


def test_each_with_its_own_options(explain):
    both = ("--proposal", "incoming-config", "--proposal", "incoming-json", "--json", "--")
    code, text = explain(*both, *CONFIG, "--", *JSON)
    assert code == 0
    account = json.loads(text)
    assert [each["exit"] for each in account["designs"]] == [0, 0]
    # they differ in nothing but the option's text
    assert [each["name"] for each in account["differences"]] == ["early parameters"]


def test_a_profile_beside_itself_with_a_proposal(explain):
    code, text = explain(
        *("--proposal", "none", "--proposal", "local"), *("--", "-machine", "none")
    )
    assert code == 0
    rows = [line.split() for line in text.splitlines()]
    assert ["local", "-", "default:", "off"] in rows
    assert not any(row[:1] == ["multifd-channels"] for row in rows)
    chardevs = next(line for line in text.splitlines() if "chardevs" in line)
    assert chardevs.rstrip().endswith("  =")


def test_options_for_another_number_of_designs(explain):
    code, text = explain("--proposal", "none", "--proposal", "local", "--", "-S", "--", "-S", "--")
    assert code == 2
    assert "options for 3 designs, but there are 2" in text
