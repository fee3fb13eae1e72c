"""README's examples are run: what it promises has to work as it stands there."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.cli.options import parse
from fakeqemu.profile import Profile
from fakeqemu.testing import FakeQemu

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
        outcome = test(fakeqemu)
        if inspect.isawaitable(outcome):
            await outcome


def test_the_main_job_is_a_command_line_that_boots() -> None:
    line = next(line for line in INDENTED if line.startswith("scripts/run"))
    argv = shlex.split(line)[1:]
    configuration = parse_command_line(argv, Profile.load("next"))
    assert [each.form for each in configuration.incoming] == ["defer", "config"]
    assert configuration.incoming[1].early_values == {
        "multifd-channels": 8,
        "mode": "cpr-transfer",
    }


async def test_the_conversation_of_the_start(tmp_path: Path) -> None:
    """The command line is run and the other terminal's lines are typed, as they stand there."""
    socket = tmp_path / "q.sock"
    line = next(line for line in INDENTED if line.startswith("fakeqemu run"))
    parsed = parse("run", shlex.split(line.replace("/tmp/q.sock", str(socket)))[2:])
    at = INDENTED.index(next(each for each in INDENTED if "qmp-shell" in each))
    typed = [each.removeprefix("(QEMU) ") for each in INDENTED[at:] if each.startswith("(QEMU) ")]
    told = next(each for each in INDENTED[at:] if each.startswith("{"))
    shell = Path(sys.executable).parent / "qmp-shell"
    if not shell.exists():
        pytest.skip("qmp-shell comes with qemu.qmp")
    profile = parsed.own["--profile"]
    async with FakeQemu(*parsed.qemu, profile=profile, socket=False, client=False):
        process = await asyncio.create_subprocess_exec(
            shell, socket, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        async with asyncio.timeout(20):
            out, _ = await process.communicate("\n".join(typed).encode() + b"\n")
    replies = [json.loads(each) for each in re.findall(r"\{.*\}", out.decode())]
    assert replies[0] == json.loads(told)
    assert replies[1]["return"]["multifd-channels"] == 2


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
    pages = re.findall(r"`((?:docs/)?[A-Za-z-]+\.md)`", README)
    assert len(pages) > 3
    for page in pages:
        assert (ROOT / page).is_file(), page
