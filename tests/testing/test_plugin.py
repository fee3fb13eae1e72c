"""The plugin costs a test run nothing until a test uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fakeqemu.journal import Journal

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
    fakeqemu("-machine", "none")  # never started: nothing to stop


def run_tests(tmp_path: Path, code: str, *options: str) -> str:
    """What pytest says of a file with this code, with nothing but the plugin."""
    (tmp_path / "test_it.py").write_text(code)
    command = [
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider",
        "-o", "asyncio_mode=auto", "-q", *options, "test_it.py",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
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
