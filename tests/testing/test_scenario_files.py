"""Scenario files: what they may say, and what is said about what they may not."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu.profile import Profile
from fakeqemu.testing import FakeQemu
from fakeqemu.testing.scenarios.file import ScenarioError, ScenarioFile
from fakeqemu.testing.scenarios.toml_lines import line_of

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
README = Path(__file__).parents[2] / "docs" / "scenarios" / "README.md"


def write(path: Path, text: str) -> Path:
    file = path / "scenario.toml"
    file.write_text(text)
    return file


def test_the_documented_one_is_right(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", README.read_text(), re.S)
    assert found
    scenario = ScenarioFile.load(write(tmp_path, found.group(1)))
    assert scenario.profile == "10.0"
    assert scenario.options[:2] == ("-machine", "none")
    scenario.check(Profile.load("10.0"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("profil = '10.0'", "profil: no key 'profil'; did you mean 'profile'?"),
        ("profile = '10.00'", "profile: no profile '10.00'; did you mean '10.0'?"),
        ("[guest]\nmemry = '1G'", "guest: no property of a guest 'memry'; did you mean 'memory'?"),
        ("[[faults]]\nname = 'lat'", "faults[1]: no fault or scenario 'lat'; did you mean 'late'?"),
        (
            "[[faults]]\nname='late'\n[[faults]]\nname='error'\ncommand='stp'",
            "faults[2]: no command 'stp'; did you mean 'stop'?",
        ),
        (
            "[[stages]]\nwhen = {migration-pas = 3}\nthen = ['exit']",
            "stages[1]: no trigger 'migration-pas'; did you mean 'migration-pass'?",
        ),
        (
            "[[stages]]\nwhen = {event = 'STOP'}\nthen = ['drop-chanel']",
            "stages[1]: no action 'drop-chanel'; did you mean 'drop-channels'?",
        ),
        ("[[stages]]\nthen = ['exit']", "stages[1]: when must be a table"),
        ("a = ", "Invalid value (at end of document)"),
    ],
)
async def test_mistakes_are_told_with_their_place(
    tmp_path: Path, text: str, complaint: str
) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        await FakeQemu(*NONE, scenario=file)
    assert str(caught.value).startswith(f"{file}:")
    assert complaint in str(caught.value)


def test_the_line_is_told_too(tmp_path: Path) -> None:
    text = """profile = "10.0"

    [[faults]]
    name = "late"

    [[faults]]
    name = "error"       # the second one
    command = "query-staus"

    [guest]
    memory = "1G"
    """
    file = write(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        ScenarioFile.load(file).check(Profile.load("10.0"))
    assert str(caught.value) == (
        f"{file}:8: faults[2]: no command 'query-staus'; did you mean 'query-status'?"
    )


@pytest.mark.parametrize(
    ("place", "name", "line"),
    [
        ("profil", "profil", 1),
        ("guest", None, 2),
        ("guest", "memry", 3),
        ("faults[1]", "nmae", 5),
        ("stages[1]", None, 7),
        ("stages[2]", "drop-chanel", 11),
        ("rules[1]: stages[1]", None, 15),
        ("rules[1]: stages[1]", "panik", 15),
        ("nowhere", None, None),
    ],
)
def test_lines_of_places(place: str, name: str | None, line: int | None) -> None:
    text = """profil = "10.0"
[guest]
memry = "1G"
[[faults]]
nmae = "late"

[[stages]]
when = { event = "STOP" }
[[stages]]
then = [
  "drop-chanel",
]
[[rules]]
machines = "*"
stages = [{ when = { time = 1 }, then = [{ guest = "panik" }] }]
"""
    assert line_of(text, place, name) == line


def test_mistakes_on_the_command_line(tmp_path: Path) -> None:
    file = write(tmp_path, "[[faults]]\nname = 'error'\ncommand = 'stp'")
    done = subprocess.run(
        [sys.executable, "-m", "fakeqemu", "run", "--scenario", str(file), "--", *NONE],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert b"faults[1]: no command 'stp'; did you mean 'stop'?" in done.stderr


@pytest.mark.parametrize("runner", ["loop", "thread", "process", "fork"])
async def test_stages(tmp_path: Path, runner: str) -> None:
    file = write(
        tmp_path,
        """
        profile = "10.0"
        options = ["-name", "told"]

        [[stages]]
        when = { event = "STOP" }
        then = [{ event = "WATCHDOG", data = { action = "none" } }, { qmp = "cont" }]

        [[stages]]
        when = { command = "query-uuid" }
        skip = 1
        then = { exit = 5 }
        """,
    )
    async with FakeQemu(*NONE, scenario=file, runner=runner, client=False) as machine:
        assert machine.profile.name == "10.0"
        assert await machine.qmp("query-name") == {"name": "told"}
        await machine.qmp("stop")
        await machine.wait_event("WATCHDOG", action="none")
        await machine.wait_event("RESUME")
        await machine.qmp("query-uuid")
        await machine.qmp("query-uuid")
        assert await machine.wait_exit() == 5


async def test_the_channel_drops_in_a_pass(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        profile = "10.0"
        options = ["-m", "64M"]
        [[stages]]
        when = { migration = "active" }
        then = "drop-channels"
        """,
    )
    received = bytearray()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read())
        writer.close()

    async with FakeQemu(*NONE, scenario=file, client=False) as machine:
        server = await asyncio.start_unix_server(served, machine.directory / "mig")
        await machine.qmp(
            "migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}]
        )
        await machine.qmp("migrate", uri=f"unix:{machine.directory / 'mig'}")
        await machine.wait_event("MIGRATION", status="failed")
        assert (await machine.qmp("query-status"))["status"] == "running"
        server.close()
