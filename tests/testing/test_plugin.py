"""The plugin costs a test run nothing until a test uses it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fakeqemu.journal import Journal
from tests.support import inner_pytest

if TYPE_CHECKING:
    from fakeqemu.testing import FakeQemu

ROOT = Path(__file__).parents[2]


def test_importing_it_imports_nothing_of_the_machine() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import fakeqemu.testing.plugin;"
        "print(*sorted(m for m in set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {
        "fakeqemu",
        "fakeqemu.testing",
        "fakeqemu.testing.plugin",
    }


async def test_what_it_made_is_stopped(fakeqemu: Callable[..., FakeQemu]) -> None:
    vm = await fakeqemu("-machine", "none", profile="10.0")
    assert Path(vm.socket_path).exists()


def run_tests(tmp_path: Path, code: str, *options: str) -> str:
    """What pytest says of a file with this code, with nothing but the plugin."""
    (tmp_path / "test_it.py").write_text(code)
    command = [
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider",
        "-o", "asyncio_mode=auto", "-q", *options, "test_it.py",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50,
        env=inner_pytest.environment(PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    return done.stdout + done.stderr


SWALLOWS = """
import contextlib, pytest

async def swallow(vm):
    with contextlib.suppress(Exception):
        await vm.client.execute("migrate-set-parameters", {"multifd-chanels": 4})

async def test_strict(fakeqemu):
    await swallow(await fakeqemu("-machine", "none", profile="10.0"))

@pytest.mark.fakeqemu(allow=["migrate-set-parameters"])
async def test_allowed(fakeqemu):
    await swallow(await fakeqemu("-machine", "none", profile="10.0"))

@pytest.mark.fakeqemu(strict=False, profile="7.2")
def test_lenient(fakeqemu):
    with fakeqemu.sync("-machine", "none") as vm:
        assert vm.profile.name == "7.2"
        vm.expect("stop")
"""


def test_swallowed_errors_fail_the_test(tmp_path: Path) -> None:
    said = run_tests(tmp_path, SWALLOWS, "--fakeqemu-journals", str(tmp_path / "pages"))
    assert "3 passed, 1 error" in said
    assert "machine: 1 mistake of the code under test" in said
    assert '- {"execute": "migrate-set-parameters", "arguments": {"multifd-chanels": 4}}' in said
    assert '+ {"execute": "migrate-set-parameters", "arguments": {"multifd-channels": 4}}' in said
    assert "fakeqemu journal of machine (seed 0)" in said
    (page,) = (tmp_path / "pages").glob("*.html")
    assert "migrate-set-parameters" in page.read_text()
    (lines,) = (tmp_path / "pages").glob("*.jsonl")
    assert Journal.load(lines).commands("migrate-set-parameters")


FAILS = """
import pytest

async def test_failing(fakeqemu):
    src, dst = await fakeqemu.pair(profile="10.0", seed=42)
    src.expect("migrate")                      # not told: the test did not get so far
    src.stubs.replace("query-name", {"name": "never asked for"})
    await src.qmp("stop")
    assert False, "here"

async def test_unused(fakeqemu):
    vm = await fakeqemu("-machine", "none", profile="10.0")
    vm.stubs.in_order("query-name", [{"name": "a"}, {"name": "b"}])
    vm.faults.add("late", command="query-status")
    vm.faults.add("error", command="stop", probability=0.5)
    vm.faults.remove(*vm.faults.add("error", command="cont"))
    assert (await vm.qmp("query-name"))["name"] == "a"

@pytest.mark.fakeqemu(allow=["unused"])
def test_unused_and_allowed(fakeqemu):
    with fakeqemu.sync("-machine", "none", profile="10.0") as vm:
        vm.faults.add("late", command="query-status")

@pytest.mark.fakeqemu(scenario="late", runner="fork", profile="10.0", clock="virtual")
async def test_a_scenario_is_background(fakeqemu):
    vm = await fakeqemu("-machine", "none")
    assert vm.faults.list()[0]["seconds"] == 180
"""


def test_reports_have_journals_and_seeds(tmp_path: Path) -> None:
    said = run_tests(tmp_path, FAILS)
    assert "1 failed, 3 passed, 1 error" in said
    assert "fakeqemu journal of source (seed 42)" in said
    assert "fakeqemu journal of destination (seed 42)" in said
    assert "command      stop" in said
    assert "expected at least once" not in said
    assert "2 mistakes of the code under test" in said
    assert "unused: query-name: the stub was added and never answered" in said
    assert "unused: delay: the fault was added and never struck" in said
    assert "seed: 0" in said
