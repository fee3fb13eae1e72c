"""Each named scenario: a naive client shows the symptom of the report, a careful one survives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.clock import SECOND, VirtualClock
from fakeqemu.migration.object import current_migration
from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu
from fakeqemu.testing.faults.injector import Faults
from fakeqemu.testing.scenarios.catalog import SCENARIOS
from tests.support.processes import QemuProcess, fake

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
DOCS = Path(__file__).parents[2] / "docs" / "scenarios"
#: a deadline that the naive never have
PATIENCE = 0.05


class Naive:
    """One read is one message, the first message is the greeting, the next one is the reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, machine: FakeQemu) -> Any:
        client = cls(*await asyncio.open_unix_connection(machine.socket_path))
        try:
            await client.greeting()
            await client.execute("qmp_capabilities")
        except Exception:
            await client.hang_up()
            raise
        except asyncio.CancelledError:
            client.close()
            raise
        return client

    async def greeting(self) -> None:
        assert "QMP" in await self.message()

    async def message(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.reader.read(65536))
        return message

    async def execute(self, command: str, **arguments: Any) -> Any:
        request = {"execute": command, "arguments": arguments} if arguments else {
            "execute": command
        }
        self.writer.write(json.dumps(request).encode())
        return (await self.message())["return"]

    async def hang_up(self) -> None:
        """End the connection and wait until QEMU has seen it."""
        with contextlib.suppress(ConnectionError):
            self.writer.write_eof()
            async with asyncio.timeout(20):
                await self.reader.read()
        self.close()

    def close(self) -> None:
        self.writer.close()


class Careful(Naive):
    """Lines, ids, events apart, and a deadline for everything."""

    def __init__(self, *streams: Any) -> None:
        super().__init__(*streams)
        self.events: list[dict[str, Any]] = []
        self.last = 0
        self.deadline = 5.0

    async def greeting(self) -> None:
        while "QMP" not in await self.message():
            pass

    async def message(self) -> dict[str, Any]:
        async with asyncio.timeout(self.deadline):
            line = await self.reader.readline()
        if not line:
            raise ConnectionError("QEMU has hung up")
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append(message)
        return message

    async def execute(self, command: str, **arguments: Any) -> Any:
        self.last += 1
        number = self.last
        request: dict[str, Any] = {"execute": command, "id": number}
        if arguments:
            request["arguments"] = arguments
        self.writer.write(json.dumps(request).encode())
        while True:
            message = await self.message()
            if "event" in message or message.get("id", number) != number:
                if "event" not in message and message["id"] not in range(1, number):
                    raise ValueError(f"a reply to nobody: {message}")
                continue
            return message["return"]


@pytest.fixture
async def machine() -> AsyncIterator[FakeQemu]:
    async with FakeQemu(
        *NONE, "-m", "64M", profile="10.0", clock=VirtualClock(), client=False
    ) as machine:
        Faults.of(machine.vm)
        yield machine


def begin(machine: FakeQemu, name: str, **parameters: Any) -> Faults:
    faults = Faults.of(machine.vm)
    faults.clear()
    faults.add(name, **parameters)
    return faults


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_has_its_page(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}: ")
    assert "<https://" in page, "the report it comes from"
    assert f"| [`{name}`]({name}.md) | {SCENARIOS[name].symptom} |" in (
        DOCS / "README.md"
    ).read_text()


async def test_silent(machine: FakeQemu) -> None:
    faults = begin(machine, "silent")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await Naive.connect(machine)  # without our deadline: for ever
    reader, writer = await asyncio.open_unix_connection(machine.socket_path)
    careful = Careful(reader, writer)
    careful.deadline = PATIENCE
    with pytest.raises(TimeoutError):
        await careful.greeting()
    writer.close()
    faults.continue_process()


async def test_vanish(machine: FakeQemu) -> None:
    client = await Careful.connect(machine)
    begin(machine, "vanish")
    with pytest.raises(FileNotFoundError):
        await Naive.connect(machine)  # "it has ended", the naive conclude
    assert (await client.execute("query-status"))["running"], "it has not"
    client.close()


async def test_late(machine: FakeQemu) -> None:
    naive = await Naive.connect(machine)
    faults = begin(machine, "late", command="query-status")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await naive.execute("query-status")
    asking = asyncio.ensure_future(naive.execute("query-name"))
    await asyncio.sleep(0)
    machine.vm.clock.advance(180 * SECOND)  # type: ignore[attr-defined]
    with pytest.raises((json.JSONDecodeError, AssertionError)):
        # both replies, or the wrong one: never the answer to query-name
        assert await asking == {}
    await naive.hang_up()
    faults.clear()
    careful = await Careful.connect(machine)
    faults.add("late", command="query-status")
    careful.deadline = PATIENCE
    with pytest.raises(TimeoutError):
        await careful.execute("query-status")
    careful.deadline = 5
    answer = asyncio.ensure_future(careful.execute("query-name"))
    await asyncio.sleep(0)
    machine.vm.clock.advance(180 * SECOND)  # type: ignore[attr-defined]
    assert await answer == {}
    careful.close()


async def test_exit_before_socket(tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fakeqemu", "run", "--scenario", "exit-before-socket", "--",
        *NONE, "-qmp", f"unix:{path},server=on,wait=off",
        stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    assert not path.exists(), "the naive wait for it for ever"
    assert process.returncode == 1
    assert b"Cannot allocate memory" in errors


async def test_exit_before_socket_in_the_loop() -> None:
    with pytest.raises(StartupError, match="Cannot allocate memory"):
        await FakeQemu(*NONE, scenario="exit-before-socket")


@pytest.mark.parametrize(
    ("kind", "error"), [(Naive, json.JSONDecodeError), (Careful, ConnectionError)]
)
async def test_exit_after_greeting(machine: FakeQemu, kind: Any, error: Any) -> None:
    begin(machine, "exit-after-greeting")
    with pytest.raises((error, ConnectionError)):
        await kind.connect(machine)
    assert machine.vm.process.exit_code == 1


async def test_split(machine: FakeQemu) -> None:
    begin(machine, "split", gap=0.0005)
    with pytest.raises(json.JSONDecodeError):
        await Naive.connect(machine)
    faults = begin(machine, "split", gap=0.0001, size=64)
    careful = await Careful.connect(machine)
    assert await careful.execute("query-name") == {}
    careful.close()
    faults.clear()


async def test_coalesce(machine: FakeQemu) -> None:
    naive = await Naive.connect(machine)
    begin(machine, "coalesce")
    with pytest.raises(json.JSONDecodeError, match="Extra data"):
        await naive.execute("stop")
    await machine.wait_for("fault", "coalesce")  # not by the chance of two writes in one read
    await naive.hang_up()
    careful = await Careful.connect(machine)
    assert await careful.execute("cont") == {}
    assert [event["event"] for event in careful.events] == ["RESUME"]
    careful.close()


async def test_interleave(machine: FakeQemu) -> None:
    naive = await Naive.connect(machine)
    begin(machine, "interleave")
    with pytest.raises((KeyError, json.JSONDecodeError)):
        await naive.execute("query-name")
    await naive.hang_up()
    careful = await Careful.connect(machine)
    assert await careful.execute("query-name") == {}
    assert careful.events
    careful.close()


async def test_wrong_id(machine: FakeQemu) -> None:
    naive = await Naive.connect(machine)
    begin(machine, "wrong-id", id="somebody else's")
    assert await naive.execute("query-name") == {}, "takes it without a look"
    await naive.hang_up()
    with pytest.raises((ValueError, ConnectionError)):
        await Careful.connect(machine)


async def test_reorder(machine: FakeQemu) -> None:
    naive = await Naive.connect(machine)
    begin(machine, "reorder", event="STOP")
    naive.writer.write(b'{"execute": "stop"}')
    first, second = [json.loads(await naive.reader.readline()) for _ in range(2)]
    with pytest.raises(KeyError):
        assert first["event"] == "STOP", "the naive look for what the event did before the reply"
    assert "return" in first and second["event"] == "STOP"
    await naive.hang_up()
    careful = await Careful.connect(machine)
    assert await careful.execute("cont") == {}
    careful.close()


async def test_stale_events(machine: FakeQemu) -> None:
    begin(machine, "stale-events")
    with pytest.raises((AssertionError, json.JSONDecodeError)):
        await Naive.connect(machine)
    Faults.of(machine.vm)
    careful = await Careful.connect(machine)
    assert len(careful.events) == 2
    careful.close()


async def test_unplug_never() -> None:
    async with FakeQemu(
        "-machine", "q35", "-nodefaults", "-display", "none",
        "-device", "pcie-root-port,id=port", "-device", "virtio-rng-pci,bus=port,id=rng",
        profile="10.0", client=False, guest={"unplug": "acknowledge"},
    ) as machine:  # fmt: skip
        begin(machine, "unplug-never")
        client = await Careful.connect(machine)
        assert await client.execute("device_del", id="rng") == {}
        client.deadline = PATIENCE
        with pytest.raises(TimeoutError):
            while True:
                await client.message()  # DEVICE_DELETED, the naive wait without a deadline
        client.deadline = 5
        assert not machine.vm.devices.find("rng").unplug_pending
        devices = await client.execute("qom-list", path="/machine/peripheral")
        assert "rng" in {device["name"] for device in devices}
        client.close()


async def test_postcopy_paused_stop_hangs(machine: FakeQemu) -> None:
    faults = begin(machine, "postcopy-paused-stop-hangs")
    client = await Careful.connect(machine)
    assert await client.execute("stop") == {}, "as long as postcopy is not paused"
    migration = current_migration(machine.vm)
    assert migration is not None
    for status in ("setup", "active", "device", "postcopy-active", "postcopy-paused"):
        migration.outgoing.state.move(status)
    client.deadline = PATIENCE
    with pytest.raises(TimeoutError):
        await client.execute("stop")
    with pytest.raises(TimeoutError):
        await client.execute("query-status")  # and everything after it
    client.close()
    faults.clear()
    reader, writer = await asyncio.open_unix_connection(machine.socket_path)
    faults.add("postcopy-paused-stop-hangs")
    careful = Careful(reader, writer)
    await careful.greeting()
    await careful.execute("qmp_capabilities", enable=["oob"])
    careful.deadline = PATIENCE
    with pytest.raises(TimeoutError):
        await careful.execute("stop")
    careful.deadline = 5
    writer.write(b'{"exec-oob": "migrate-pause", "id": "oob"}')
    assert (await careful.message())["id"] == "oob", "out of band it still answers"
    writer.close()


async def test_cancel_at_last_moment() -> None:
    async with FakeQemu(*NONE, "-m", "64M", profile="10.0", client=False) as machine:
        capabilities = [
            {"capability": name, "state": True} for name in ("events", "pause-before-switchover")
        ]
        await machine.qmp("migrate-set-capabilities", capabilities=capabilities)
        begin(machine, "cancel-at-last-moment")
        client = await Careful.connect(machine)
        await client.execute("migrate", uri="exec:cat >/dev/null")
        client.writer.write(b'{"execute": "migrate_cancel", "id": "cancel"}')
        async with asyncio.timeout(5):
            message: dict[str, Any] = {}
            while message.get("id") != "cancel":
                message = await client.message()
        names = [event["event"] for event in client.events]
        assert "STOP" in names, "so the guest is paused, the naive conclude"
        await machine.wait_event("RESUME")
        client.deadline = PATIENCE
        with pytest.raises(TimeoutError):
            while (await client.message()).get("event") != "STOP":
                pass  # and wait for another
        client.deadline = 5
        assert (await client.execute("query-status"))["status"] == "running"
        assert (await client.execute("query-migrate"))["status"] == "cancelled"
        client.close()


async def test_ignore_sigterm(tmp_path: Path) -> None:
    command = fake("10.0", "--scenario", "ignore-sigterm")
    async with QemuProcess(command, ("-machine", "none", "-nodefaults"), tmp_path) as machine:
        machine.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            machine.process.wait(PATIENCE)  # the naive wait on
        assert (await machine.qmp("query-status"))["running"]
