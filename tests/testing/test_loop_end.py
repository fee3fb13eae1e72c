"""A machine that nobody stopped ends before the test's loop closes, and leaves nothing open."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing import FakeQemu
from tests.support.inner_pytest import environment

TEST = """
import pytest

kept = []

@pytest.mark.asyncio
async def test_first(fakeqemu):
    vm = await fakeqemu("-machine", "none", profile="10.0").start()
    assert (await vm.qmp("query-status"))["status"] == "running"
    kept.append(vm._running().client_side)

def test_second():
    assert kept.pop().fileno() < 0
"""


def test_the_fixture_needs_no_with(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider",
         "-o", "asyncio_default_fixture_loop_scope=function", "."],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("runner", ["loop", "thread"])
def test_all_of_it_is_closed(runner: Any) -> None:
    async def leave() -> FakeQemu:
        vm = await FakeQemu("-machine", "none", profile="10.0", runner=runner).start()
        assert (await vm.qmp("query-status"))["status"] == "running"
        return vm

    vm = asyncio.run(leave())
    socket = Path(vm.socket_path)
    assert vm._running().client_side.fileno() < 0
    assert not socket.exists()
    del vm
    gc.collect()  # a warning of something unclosed fails the test


async def test_a_machine_that_was_stopped_is_past_it() -> None:
    vm = await FakeQemu("-machine", "none", profile="10.0").start()
    await vm.stop()
    await vm.stop()
    assert vm._loop_end._work is None
