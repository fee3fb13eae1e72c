"""A process that holds more than 1,024 descriptors, as one with a fleet of machines does."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

import pytest

from fakeqemu.testing import FakeQemu

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
COUNT = 1100


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 2 * COUNT:
        pytest.skip(f"a process here may have {before[1]} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2 * COUNT), before[1]))
    with contextlib.ExitStack() as opened:
        for _ in range(COUNT):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("runner", ["loop", "thread", "process", "fork"])
async def test_every_runner(runner: str) -> None:
    async with FakeQemu(*NONE, runner=runner, profile="10.0") as vm:
        assert (await vm.client.execute("query-status"))["status"] == "running"
        assert await vm.wait_for("command", "query-status")


@pytest.mark.parametrize("runner", ["thread", "process", "fork"])
def test_every_runner_without_a_loop(runner: str) -> None:
    with FakeQemu.sync(*NONE, runner=runner, profile="10.0") as vm:
        assert vm.qmp("query-status")["status"] == "running"
        assert vm.wait_for("command", "query-status")
