"""The fuzzer itself: the same sessions from a seed, faults that are planted, the smallest case."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "scripts"))

from fuzzing import campaign as campaigns, mutate  # noqa: E402
from fuzzing.campaign import Campaign, Step, run, shrink, smaller_values  # noqa: E402
from fuzzing.findings import Finding, python_text  # noqa: E402
from fuzzing.generate import CommandGenerator, is_harmless  # noqa: E402

from fakeqemu.profile import Profile  # noqa: E402
from fakeqemu.qapi.errors import QapiError  # noqa: E402
from fakeqemu.qapi.visitor import check_arguments  # noqa: E402
from tests.support.scripts import load_script  # noqa: E402

#: a fakeqemu in which some commands are broken
BROKEN = """
import os, sys, time
from fakeqemu.cli import main
from fakeqemu.commands import registry

def broken(vm, **given):
    if {kind!r} == "death":
        os._exit(7)
    if {kind!r} == "hold":
        end = time.process_time() + 3
        while time.process_time() < end:
            pass
    if {kind!r} == "text":
        from fakeqemu.qapi.errors import QapiError
        raise QapiError("'NoneType' object has no attribute 'x'")
    raise KeyError("planted")

registry.COMMANDS.pop("query-name", None)
registry.command("query-name")(broken)
sys.exit(main())
"""


class Numbers(Campaign):
    """Sessions of numbers; one that has 7, and before it 3, fails."""

    name = "numbers"

    def session(self, rng: random.Random) -> list[Step]:
        return [rng.randrange(10) for _ in range(40)]

    def play(self, steps: Sequence[Step]) -> Finding | None:
        seen = set()
        for self.reached, step in enumerate(steps):
            if step == 7 and 3 in seen:
                return Finding("bad", "seven")
            seen.add(step)
        return None


def test_a_session_is_cut_to_what_it_takes() -> None:
    numbers = Numbers("x")
    steps = [1, 2, 3, 4, 5, 3, 6, 7, 8, 7, 9]
    finding = numbers.play(steps)
    assert finding is not None
    assert shrink(numbers, steps, finding, until=time.monotonic() + 20) == [3, 7]


def test_a_seed_gives_the_same_report() -> None:
    def go(seed: str) -> dict[str, Any]:
        report = run(Numbers("x"), seed, until=time.monotonic() + 20, sessions=5)
        return {**report.to_json(), "seconds": 0}

    assert go("a") == go("a")
    assert go("a")["seed"] != go("b")["seed"]
    found = go("a")["findings"]
    assert [each["what"] for each in found] == ["seven"]
    assert found[0]["steps"] == [3, 7]
    assert found[0]["times"] > 1


def test_values_get_smaller() -> None:
    less = list(smaller_values({"a": [1, "xy"], "b": 2}))
    assert {"b": 2} in less
    assert {"a": [1], "b": 2} in less
    assert {"a": [1, "x"], "b": 2} in less


@pytest.mark.parametrize("profile", Profile.names(composed=False))
def test_commands_after_the_schema(profile: str) -> None:
    loaded = Profile.load(profile)
    schema = loaded.part("schema")

    def commands(seed: int) -> list[tuple[str, Any]]:
        generator = CommandGenerator(schema, random.Random(seed))
        return [generator.command(name) for name in generator.commands]

    made = commands(1)
    assert json.dumps(made) == json.dumps(commands(1))
    assert json.dumps(made) != json.dumps(commands(2))
    valid = refused = 0
    for name, arguments in [each for seed in range(3) for each in commands(seed)]:
        try:
            check_arguments(loaded.schema, name, arguments)
            valid += 1
        except QapiError:
            refused += 1
    # both kinds, and not by accident
    assert valid > refused > valid // 20


def test_what_would_end_a_machine_is_left_out() -> None:
    assert not is_harmless("quit", {})
    assert not is_harmless("migrate", {"uri": "exec:false"})
    assert is_harmless("migrate", {"uri": "tcp:127.0.0.1:1"})


def test_changes_of_data() -> None:
    data = bytes(range(20))
    given = [["byte", 0, 9], ["word", 4, 1], ["insert", 1, "ffff"], ["delete", 4, 2], ["cut", 9, 0],
             ["quad", 8, 1]]  # fmt: skip
    assert mutate.changed(data, given).hex() == "09ffff010000000108"
    rng = random.Random(5)
    made = [mutate.changes(rng, len(data), [(0, 8), (0, 20)]) for _ in range(200)]
    assert len({json.dumps(each) for each in made}) > 150
    assert all(isinstance(mutate.changed(data, each), bytes) for each in made)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ({"error": {"desc": "'NoneType' object is not iterable"}}, True),
        ({"return": "KeyError: 'x'"}, True),
        ({"error": {"desc": "Device 'None' not found"}}, False),
        ({"return": {"status": "none"}}, False),
        ({"return": "None\r\n"}, False),
    ],
)
def test_python_in_a_reply(reply: dict[str, Any], found: bool) -> None:
    assert (python_text(reply, {"id": "None"}) is not None) is found


@pytest.mark.parametrize(
    ("kind", "finding"),
    [("error", "traceback"), ("death", "death"), ("hold", "hold"), ("text", "python-text")],
)
def test_planted_faults_are_found(tmp_path: Path, kind: str, finding: str) -> None:
    script, report = tmp_path / "broken.py", tmp_path / "report.json"
    script.write_text(BROKEN.format(kind=kind))
    found = subprocess.run(
        [sys.executable, ROOT / "scripts" / "fuzz", "commands", "--profile", "11.1",
         "--seed", _seed_with("query-name"), "--sessions", "1", "--seconds", "20",
         "--report", report],
        env={**os.environ, "FAKEQEMU_FUZZ_EMULATOR": str(script)},
        capture_output=True, text=True, check=False, timeout=55,
    )  # fmt: skip
    assert found.returncode == 1, found.stdout + found.stderr
    (played,) = json.loads(report.read_text())
    assert [each["kind"] for each in played["findings"]] == [finding]
    (case,) = played["findings"]
    assert [step[0] for step in case["steps"]] == ["query-name"]
    assert case["seed"] in found.stdout


#: a fakeqemu that is watched, with a command that takes its time
SLOW = """
import gc, sys, time
sys.path.insert(0, {scripts!r})
from fuzzing.watched import watch
from fakeqemu.cli import main
from fakeqemu.commands import registry

def slow(vm):
    end = time.thread_time() + 0.3
    while time.thread_time() < end:
        pass
    gc.collect()
    return {{}}

registry.COMMANDS.pop("query-name", None)
registry.command("query-name")(slow)
watch(0.25)
sys.exit(main())
"""


def test_a_long_turn_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fuzzing.machine import Machine
    from fuzzing.watched import holds_in

    script = tmp_path / "slow.py"
    script.write_text(SLOW.format(scripts=str(ROOT / "scripts")))
    monkeypatch.setenv("FAKEQEMU_FUZZ_EMULATOR", str(script))
    with Machine("10.0", ["-nodefaults", "-display", "none"], child=lambda: None) as machine:
        client = machine.client()
        started = (machine.directory / "holds").stat().st_size
        client.ask("query-name")
        client.ask("query-status")  # its turn comes when that of the other is written down
        client.close()
        (hold,) = holds_in(machine.directory / "holds", started)
    assert hold.what == "input, query-name"
    assert 0.3 <= hold.spent <= hold.wall + 0.01
    assert 0 < hold.collecting < hold.spent - 0.25
    assert "collecting garbage: input, query-name  <" in str(hold)


def test_a_soak_tells_what_the_longest_turns_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soak = load_script("soak")
    monkeypatch.setattr(soak, "UNSEEN", 0.0)
    command = [sys.executable, str(soak.WATCHED), "run", "--profile", "10.0", "--"]
    assert soak.soak("fake", command, 0.5)
    turns = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  turn: ")]
    assert len(turns) == soak.SHOWN
    assert any(", query-qmp-schema, " in turn or ", blockdev-create " in turn for turn in turns)


@pytest.mark.parametrize("profile", ["7.2", "8.2", "10.0", "11.1"])
def test_a_stream_that_nothing_is_changed_in_is_no_finding(profile: str) -> None:
    from fuzzing.streams import Streams

    assert Streams(profile).play([[]]) is None


def _seed_with(command: str) -> str:
    """A seed whose first session has the command."""
    from fuzzing.monitors import Commands

    for seed in range(50):
        rng = random.Random(f"{seed}/commands/11.1/0")
        if any(step[0] == command for step in Commands("11.1").session(rng)):
            return str(seed)
    raise AssertionError(f"no session has {command}")


def test_figures_of_reports() -> None:
    page = load_script("make_reliability")
    report = {"campaign": "gdb", "profile": "7.2", "seed": "s1", "sessions": 2, "inputs": 5,
              "seconds": 90.0, "findings": []}  # fmt: skip
    rows = page.table([report, {**report, "seed": "s2"}])
    assert rows.splitlines()[2:] == ["| gdb | 7.2 | 4 | 10 | 3.0 | 0 | `s1`, `s2` |"]
    text = (ROOT / "docs" / "reliability.md").read_text()
    assert rows in page.with_table(text, rows)
    before = page.reports_of(page.with_table(text, rows))
    more = {**report, "seed": "s3", "findings": [{"kind": "hold"}]}
    assert page.table([*before, more]).splitlines()[2:] == [
        "| gdb | 7.2 | 6 | 15 | 4.5 | 1 | `s1`, `s2`, `s3` |"
    ]
    assert page.table(page.reports_of(text)) in text, "what stands there is read as it stands"
    for read in (page.reports_of, lambda text: page.with_table(text, rows)):
        with pytest.raises(ValueError, match="no place"):
            read("nothing")


def test_the_page_names_all_campaigns_and_parts() -> None:
    from fuzzing.endure import PARTS

    text = (ROOT / "docs" / "reliability.md").read_text()
    names = [*load_script("fuzz").CAMPAIGNS, *PARTS]
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_nothing_is_played_without_time() -> None:
    report = run(Numbers("x"), "a", until=time.monotonic() - 1)
    assert (report.sessions, campaigns.Report("n", "x", "a").cases) == (0, [])
