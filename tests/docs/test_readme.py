"""README's examples are run: what it promises has to work as it stands there."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.boot.options import parse_command_line
from fakeqemu.profile import Profile

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()

SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
INDENTED = [line.strip() for line in README.splitlines() if line.startswith("    ")]


def test_there_are_snippets() -> None:
    assert SNIPPETS


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
async def test_python_snippets(number: int, fakeqemu: Callable[..., Awaitable[Any]]) -> None:
    names: dict[str, Any] = {}
    exec(compile(SNIPPETS[number], "README.md", "exec"), names)
    tests = [each for name, each in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        assert list(inspect.signature(test).parameters) == ["fakeqemu"]
        await test(fakeqemu)


def test_the_main_job_is_a_command_line_that_boots() -> None:
    line = next(line for line in INDENTED if line.startswith("scripts/run"))
    argv = shlex.split(line)[1:]
    configuration = parse_command_line(argv, Profile.load("next"))
    assert [each.form for each in configuration.incoming] == ["defer", "config"]
    assert configuration.incoming[1].early_values == {
        "multifd-channels": 8,
        "mode": "cpr-transfer",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["profiles"], "10.0"),
        (["explain", "--", "-machine", "pc-q35-8.2"], "machine compat: legacy"),
    ],
)
def test_commands_of_the_table(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fakeqemu", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert said in done.stdout


def test_every_page_it_names_is_there() -> None:
    for page in re.findall(r"`((?:docs/)?[A-Za-z-]+\.md)`", README):
        assert (ROOT / page).is_file(), page
