"""One handle, wherever the machine runs: the same tests in a loop, a thread, a process, a fork."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.qapi.errors import QapiError, StartupError
from fakeqemu.qapi.validate import SchemaViolation
from fakeqemu.testing import FakeQemu, QmpError, StrictnessError, SyncFakeQemu, UnknownNameError
from tests.support.snapshots import image_with_snapshot

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
RUNNERS = ("loop", "thread", "process", "fork")
Make = Callable[..., FakeQemu]


@pytest.fixture(params=RUNNERS)
def make(request: pytest.FixtureRequest) -> Make:
    def make(*options: str, **settings: Any) -> FakeQemu:
        return FakeQemu(*NONE, *options, profile="10.0", runner=request.param, **settings)

    return make


@pytest.fixture
async def vm(make: Make) -> AsyncIterator[FakeQemu]:
    async with make() as machine:
        yield machine


async def test_commands_events_and_the_journal(vm: FakeQemu) -> None:
    assert (await vm.qmp("query-status"))["status"] == "running"
    await vm.qmp("stop")
    assert (await vm.wait_event("STOP")).name == "STOP"
    assert await vm.hmp("info status") == "VM status: paused\n"
    with pytest.raises(QmpError, match="The command nope has not been found"):
        await vm.qmp("nope")
    (call,) = vm.journal.commands("stop")
    assert (call.arguments, call.value, call.error) == ({}, {}, None)
    assert vm.journal.commands("nope")[0].error == {
        "class": "CommandNotFound",
        "desc": "The command nope has not been found",
    }
    assert "chardevs" in [step.name for step in vm.boot_log]
    assert (await vm.wait_for("runstate", "paused")).data == {"old": "running"}


async def test_clients_of_all_kinds(vm: FakeQemu) -> None:
    assert (await vm.client.execute("query-status"))["running"] is True
    reader, writer = await asyncio.open_unix_connection(vm.socket_path)
    assert (await reader.readline()).startswith(b'{"QMP"')
    writer.close()


async def test_stubs(vm: FakeQemu) -> None:
    told: list[dict[str, Any]] = []

    def name(arguments: dict[str, Any]) -> dict[str, Any]:
        told.append(arguments)
        return {"name": "from the test"}

    number = vm.stubs.replace("query-name", name)
    assert await vm.qmp("query-name") == {"name": "from the test"}
    assert told == [{}]
    vm.stubs.in_order("query-name", [{"name": "1"}, QapiError("out of order")])
    assert await vm.qmp("query-name") == {"name": "1"}
    with pytest.raises(QmpError, match="out of order"):
        await vm.qmp("query-name")
    assert await vm.qmp("query-name") == {"name": "from the test"}
    vm.stubs.remove(number)
    assert await vm.qmp("query-name") == {}

    vm.stubs.wrap("query-status", lambda _, value: {**value, "status": "guest-panicked"})
    assert await vm.qmp("query-status") == {"running": True, "status": "guest-panicked"}
    vm.stubs.clear()
    assert (await vm.qmp("query-status"))["status"] == "running"


async def test_stubs_are_checked_when_they_are_added(vm: FakeQemu) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'query-status'"):
        vm.stubs.replace("query-statu", {})
    with pytest.raises(SchemaViolation, match=r"query-status: return\.running is missing"):
        vm.stubs.replace("query-status", {"status": "running"})
    vm.stubs.once("query-status", {"status": "on holiday"}, schema=False)
    assert await vm.qmp("query-status") == {"status": "on holiday"}


async def test_a_functions_reply_is_checked_too(make: Make) -> None:
    vm = await make()
    vm.stubs.replace("query-name", lambda _: {"nam": "x"})
    with pytest.raises(SchemaViolation, match="nam is not in the schema"):
        await vm.qmp("query-name")
    with pytest.raises(SchemaViolation):
        await vm.stop()


async def test_events_at_any_time(vm: FakeQemu) -> None:
    vm.send_event("BALLOON_CHANGE", {"actual": 1 << 20})
    assert (await vm.wait_event("BALLOON_CHANGE")).data == {"actual": 1 << 20}
    with pytest.raises(UnknownNameError, match="did you mean 'BALLOON_CHANGE'"):
        vm.send_event("BALLOON_CHANGED")
    with pytest.raises(SchemaViolation, match="actual is missing"):
        vm.send_event("BALLOON_CHANGE", {})


async def test_time_is_the_tests_own(make: Make) -> None:
    async with make(clock="virtual") as vm:
        assert vm.now() == 0
        await vm.advance(3600)
        assert vm.now() == 3600
        assert await vm.run_until_idle() == 0
        assert not await vm.jump()
        await vm.qmp("stop")
        assert vm.journal.of("event", "STOP")[0].time == 3600 * 10**9
    async with make() as vm:
        with pytest.raises(Exception, match="clock='virtual'"):
            await vm.advance(1)


async def test_the_end(make: Make) -> None:
    async with make() as vm:
        await vm.qmp("quit")
        assert await vm.wait_exit() == 0
        assert vm.exit_code == 0


async def test_a_refused_start(make: Make) -> None:
    with pytest.raises(StartupError, match="'nonsense' is not a valid char driver name") as caught:
        async with make("-chardev", "nonsense,id=m"):
            pass
    assert caught.value.code == 1


async def test_mistakes_fail_at_the_end(make: Make) -> None:
    vm = await make(strict=True)
    for command in ("query-statu", "device_list_properties"):
        with pytest.raises(Exception, match="has not been found"):
            await vm.client.execute(command)
    with pytest.raises(QmpError):
        await vm.qmp("no-such-thing")  # the test is told: no mistake of the code under test
    with pytest.raises(StrictnessError) as caught:
        await vm.stop()
    text = str(caught.value)
    assert "2 mistakes" in text and "no-such-thing: " not in text
    assert '- {"execute": "query-statu"}\n   + {"execute": "query-status"}' in text
    assert 'command      query-statu' in text, "the journal's last lines"


async def test_allowed_mistakes(make: Make) -> None:
    async with make(strict=True, allow=["query-s*", "arguments"]) as vm:
        for command, arguments in (("query-statu", {}), ("query-name", {"x": 1})):
            with pytest.raises(Exception, match=r"not been found|unexpected"):
                await vm.client.execute(command, arguments)


async def test_deadlines_help(make: Make) -> None:
    async with make() as vm:
        vm.deadline = 0.02
        with pytest.raises(TimeoutError, match=r"event POWERDOWN never came .* the machine did"):
            await vm.wait_event("POWERDOWN")
        vm.deadline = 10


async def test_the_next_machine_can_have_its_images(make: Make, tmp_path: Path) -> None:
    disk = await image_with_snapshot(tmp_path / "d", *NONE)
    for _ in range(2):
        async with make(*disk) as vm:
            assert len(await vm.qmp("query-block")) == 1
            # meanwhile it is this one's
            with pytest.raises(StartupError, match='Failed to get "write" lock'):
                await FakeQemu(*NONE, *disk).start()


async def test_nothing_is_left_behind(make: Make) -> None:
    async with make():
        pass  # the fork server starts and stays
    fds = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async with make() as vm:
        await vm.client.execute("query-name")
        directory = vm.directory
    await asyncio.sleep(0)
    assert not directory.exists()
    assert set(os.listdir("/proc/self/fd")) == fds  # noqa: PTH208


# -- the synchronous API ------------------------------------------------------------------------


@pytest.fixture(params=("thread", "process", "fork"))
def sync_vm(request: pytest.FixtureRequest) -> Iterator[SyncFakeQemu]:
    with FakeQemu.sync(*NONE, profile="10.0", runner=request.param, clock="virtual") as machine:
        yield machine


def test_without_await(sync_vm: SyncFakeQemu) -> None:
    assert sync_vm.qmp("query-status")["running"] is True
    sync_vm.stubs.replace("query-name", lambda _: {"name": "sync"})
    assert sync_vm.qmp("query-name") == {"name": "sync"}
    assert sync_vm.hmp("info status") == "VM status: running\n"
    sync_vm.send_event("BALLOON_CHANGE", {"actual": 5})
    assert sync_vm.wait_event("BALLOON_CHANGE").data == {"actual": 5}
    sync_vm.advance(2.5)
    assert sync_vm.now() == 2.5
    assert sync_vm.run_until_idle() == 0
    assert sync_vm.wait_for("command", "query-name")
    sync_vm.qmp("quit")
    assert sync_vm.wait_exit() == 0


def test_a_sync_machine_is_strict_too() -> None:
    vm = SyncFakeQemu(*NONE, profile="10.0", strict=True).start()
    vm.expect("query-status")
    with pytest.raises(StrictnessError, match="expected at least once, came 0 times"):
        vm.stop()
    assert not Path(vm.socket_path).exists()


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'thread'"):
        FakeQemu(runner="threads")


@pytest.mark.parametrize("runner", ["loop", "thread"])
async def test_asking_again_and_again_lets_others_go_on(runner: str) -> None:
    """A test polls until the answer is another, which another task brings about."""
    async with FakeQemu(*NONE, profile="10.0", runner=runner) as vm:

        async def stop() -> None:
            await asyncio.sleep(0)
            await vm.qmp("stop")

        stopping = asyncio.create_task(stop())
        async with asyncio.timeout(10):
            while (await vm.qmp("query-status"))["running"]:
                pass
        await stopping
