"""A machine in the test's own loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakeqemu.clock import VirtualClock
from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu, QmpError
from tests.support.waiting import until

NONE = ("-machine", "none", "-nodefaults", "-display", "none")


@pytest.fixture
async def vm() -> AsyncIterator[FakeQemu]:
    async with FakeQemu(*NONE, profile="10.0") as machine:
        yield machine


async def test_commands_and_errors(vm: FakeQemu) -> None:
    assert (await vm.qmp("query-status"))["status"] == "running"
    await vm.qmp("stop")
    assert (await vm.qmp("query-status"))["status"] == "paused"
    with pytest.raises(QmpError) as caught:
        await vm.qmp("nope")
    assert caught.value.error_class == "CommandNotFound"
    assert caught.value.desc == "The command nope has not been found"


async def test_keywords_become_members(vm: FakeQemu) -> None:
    await vm.qmp("migrate-set-parameters", multifd_channels=5)
    assert vm.parameters["multifd-channels"] == 5
    await vm.qmp("migrate-set-parameters", {"multifd-channels": 6})
    assert vm.parameters["multifd-channels"] == 6
    with pytest.raises(QmpError, match="Parameter 'no-such' is unexpected"):
        await vm.qmp("query-status", no_such=1)


async def test_the_human_monitor(vm: FakeQemu) -> None:
    assert await vm.hmp("info status") == "VM status: running\n"


async def test_events_and_the_journal(vm: FakeQemu) -> None:
    await vm.qmp("stop")
    assert (await vm.wait_event("STOP")).name == "STOP"
    assert vm.events[-1].name == "STOP"
    assert vm.journal.of("command", "stop")
    assert [step.name for step in vm.boot_log].index("chardevs") > 0


async def test_a_connected_client(vm: FakeQemu) -> None:
    assert (await vm.client.execute("query-status"))["running"] is True
    labels = [each["label"] for each in await vm.client.execute("query-chardev")]
    assert labels == ["compat_monitor0"], "the tester's own monitor does not show"


async def test_a_machine_without_a_client() -> None:
    async with FakeQemu(*NONE, profile="10.0", client=False) as vm:
        with pytest.raises(RuntimeError, match="client=False"):
            assert vm.client


async def test_what_never_comes_is_explained() -> None:
    async with FakeQemu(*NONE, profile="10.0") as vm:
        vm.deadline = 0.01  # from now on: the boot may take what it takes
        with pytest.raises(TimeoutError, match=r"event POWERDOWN never came .* the machine did"):
            await vm.wait_event("POWERDOWN")


async def test_a_refused_start_raises_qemus_text() -> None:
    with pytest.raises(StartupError) as caught:
        async with FakeQemu("-chardev", "nonsense,id=m"):
            pass
    assert caught.value.message == (
        "-chardev nonsense,id=m: 'nonsense' is not a valid char driver name"
    )


async def test_it_ends_by_itself(vm: FakeQemu) -> None:
    path = vm.socket_path
    await vm.qmp("quit")
    assert await vm.wait_exit() == 0
    await asyncio.sleep(0)
    assert not Path(path).exists()


async def test_time_is_the_tests_own() -> None:
    clock = VirtualClock()
    async with FakeQemu(*NONE, profile="10.0", clock=clock) as vm:
        before = clock.now()
        await vm.advance(3600)
        assert clock.now() - before == 3600 * 10**9
        await vm.qmp("stop")
        assert vm.events[-1].realtime == clock.realtime()


async def test_nothing_is_left_behind() -> None:
    tasks = asyncio.all_tasks()
    fds = set(Path("/proc/self/fd").iterdir())
    async with FakeQemu(*NONE, profile="10.0") as vm:
        await vm.client.execute("query-name")
        await vm.qmp("query-status")
        directory = vm.directory
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert not directory.exists()
    assert set(Path("/proc/self/fd").iterdir()) == fds


async def test_many_at_once() -> None:
    machines = [FakeQemu(*NONE, profile="10.0") for _ in range(5)]
    await asyncio.gather(*(machine.start() for machine in machines))
    names = await asyncio.gather(*(machine.qmp("query-status") for machine in machines))
    assert len(names) == 5
    for machine in machines:
        await machine.stop()


async def test_a_machine_may_wait_for_its_client() -> None:
    path = f"/tmp/fq-wait-{os.getpid()}"
    machine = FakeQemu(*NONE, "-qmp", f"unix:{path},server=on,wait=on", profile="10.0")
    start = asyncio.ensure_future(machine.start())
    await until(Path(path).exists, "the QMP socket")
    assert not start.done()
    reader, writer = await asyncio.open_unix_connection(path)
    assert (await reader.readline()).startswith(b'{"QMP"')
    await start
    assert "QEMU waiting for connection on: disconnected:unix:" in machine.stderr.getvalue()
    writer.close()
    await machine.stop()
