"""Faults and scenarios do the same to a machine wherever it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu, UnknownNameError
from tests.support.raw_clients import RawClient

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
RUNNERS = ("loop", "thread", "process", "fork")
Make = Callable[..., FakeQemu]


@pytest.fixture(params=RUNNERS)
def make(request: pytest.FixtureRequest) -> Make:
    def make(*options: str, **settings: Any) -> FakeQemu:
        settings = {"profile": "10.0", "client": False, "runner": request.param, **settings}
        return FakeQemu(*NONE, *options, **settings)

    return make


@pytest.fixture
async def machine(make: Make) -> AsyncIterator[FakeQemu]:
    async with make() as machine:
        yield machine


@pytest.fixture
async def client(machine: FakeQemu) -> AsyncIterator[RawClient]:
    client = await RawClient.connect(machine, negotiate=True)
    yield client
    client.close()


async def test_the_journal_has_what_was_done(machine: FakeQemu, client: RawClient) -> None:
    (number,) = machine.faults.add("error", command="query-name", desc="told", skip=1, count=1)
    replies = [await client.ask("query-name") for _ in range(3)]
    assert ["error" in each for each in replies] == [False, True, False]
    assert replies[1]["error"] == {"class": "GenericError", "desc": "told"}
    entry = await machine.journal.wait_for("fault", "error", command="query-name")
    assert entry.data["number"] == number
    assert [call.error is None for call in machine.journal.commands("query-name")] == [
        True, False, True,
    ]  # fmt: skip
    (fault,) = machine.faults.list()
    assert (fault["number"], fault["hits"]) == (number, 1)
    machine.faults.remove(number)
    assert machine.faults.list() == []


async def test_unknown_names(machine: FakeQemu) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'error'"):
        machine.faults.add("eror")
    with pytest.raises(UnknownNameError, match="did you mean 'query-name'"):
        machine.faults.add("error", command="query-nam")


async def test_the_client_of_the_handle_is_not_spared(make: Make) -> None:
    async with make(client=True) as machine:
        machine.faults.add("error", command="query-name", desc="told")
        with pytest.raises(Exception, match="told"):
            await machine.client.execute("query-name")
        assert await machine.qmp("query-name") == {}, "the tester's own calls are"
        machine.faults.add("lost-event", event="STOP", connection="client")
        await machine.client.execute("stop")
        await machine.client.execute("cont")
        async with asyncio.timeout(5):
            assert (await machine.client.events.get())["event"] == "RESUME"


async def test_what_is_held_up_does_not_hold_up_the_tester(
    machine: FakeQemu, client: RawClient
) -> None:
    (number,) = machine.faults.add("never-answer", command="stop")
    client.send("stop")
    await machine.wait_for("fault", "never-answer")
    assert (await machine.qmp("query-status"))["status"] == "running"
    client.send("query-name")
    assert await client.quiet(), "as it does all clients"
    machine.faults.remove(number)
    assert [(await client.message()).get("id", "event") for _ in range(3)] == [
        "event", "stop", "query-name",
    ]  # fmt: skip


async def test_wire_faults(machine: FakeQemu, client: RawClient) -> None:
    def only(name: str, **parameters: Any) -> None:
        machine.faults.clear()
        machine.faults.add(name, **parameters)

    reply = b'{"return": {}, "id": "query-name"}\r\n'
    only("split", size=4, gap=0.0002)
    assert await client.ask("query-name") == json.loads(reply)
    only("missing-id", command="query-name")
    assert await client.ask("query-name") == {"return": {}}
    only("wrong-id", command="query-name", id=7)
    assert await client.ask("query-name") == {"return": {}, "id": 7}
    only("duplicate-event", event="STOP")
    client.send("stop")
    assert [(await client.message()).get("event") for _ in range(3)] == [
        "STOP", "STOP", None,
    ]  # fmt: skip
    only("reorder", event="RESUME")
    client.send("cont")
    assert [(await client.message()).get("event") for _ in range(2)] == [None, "RESUME"]
    only("coalesce")
    client.send("stop")
    assert (await client.piece()).count(b"\r\n") == 2
    only("junk-bytes", size=3, command="query-name")
    client.send("query-name")
    junk = await client.line()
    assert junk[3:] == reply and min(junk[:3]) >= 0x80
    only("partial-utf8", command="query-name")
    client.send("query-name")
    with pytest.raises(UnicodeDecodeError):
        (await client.line()).decode()
    only("stale-event", before="reply", stale="RESET", data={
        "guest": False, "reason": "host-qmp-system-reset"})  # fmt: skip
    client.send("query-name")
    assert [(await client.message()).get("event") for _ in range(2)] == ["RESET", None]
    only("slow-reading", size=3, gap=0.0002)
    assert await client.ask("query-name") == json.loads(reply)
    only("drop", place="middle", command="query-name")
    client.send("query-name")
    assert await client.rest() == reply[: len(reply) // 2]


async def test_a_process_that_stands_still(machine: FakeQemu, client: RawClient) -> None:
    machine.faults.add("silent")
    client.send("query-name")
    assert await client.quiet()
    machine.faults.continue_process()
    assert (await client.message())["id"] == "query-name"


async def test_a_process_that_stands_still_can_be_stopped(make: Make) -> None:
    machine = await make(client=True)
    machine.faults.add("silent")
    await machine.stop()
    assert not machine.directory.exists()


async def test_exits(make: Make) -> None:
    with pytest.raises(StartupError, match="Cannot allocate memory"):
        await make(scenario="exit-before-socket")
    async with make(scenario="exit-after-greeting") as machine:
        client = await RawClient.connect(machine)
        assert (await client.rest()).count(b"\r\n") == 1
        assert await machine.wait_exit() == 1
        client.close()
    async with make() as machine:
        machine.faults.add("exit", command="query-name", signal="KILL")
        client = await RawClient.connect(machine, negotiate=True)
        client.send("query-name")
        assert await client.rest() == b""
        assert await machine.wait_exit() == -9
        client.close()


async def test_vanish(machine: FakeQemu) -> None:
    machine.faults.add("vanish")
    assert not Path(machine.socket_path).exists()
    assert (await machine.qmp("query-status"))["running"]


async def test_late_by_the_machines_clock(make: Make) -> None:
    async with make(clock="virtual") as machine:
        client = await RawClient.connect(machine, negotiate=True)
        machine.faults.add("late", command="query-name")
        client.send("query-name")
        await machine.wait_for("fault", "delay")
        await machine.advance(179)
        assert await client.quiet()
        await machine.advance(1)
        assert (await client.message())["id"] == "query-name"
        client.close()


async def test_chance_follows_the_seed_wherever_it_is(make: Make) -> None:
    async def run(seed: int) -> str:
        async with make(seed=seed, clock="virtual") as machine:
            machine.faults.add("error", command="query-name", probability=0.5)
            client = await RawClient.connect(machine, negotiate=True)
            outcome = [("error" in await client.ask("query-name")) for _ in range(16)]
            client.close()
            return "".join("x" if each else "." for each in outcome)

    assert await run(1) == "xxxx..xxx.xxxxxx", "which is the same in all ways"
    assert await run(2) != await run(1)


@pytest.mark.parametrize("scenario", ["silent", "late", "split", "never-answer"])
async def test_a_scenario_from_the_start_leaves_the_handle_alone(
    make: Make, scenario: str, tmp_path: Path
) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(f"[[faults]]\nname = '{scenario}'")
    machine = await make(client=True, scenario=file, clock="virtual")
    asking = asyncio.ensure_future(machine.client.execute("query-name"))
    done, _ = await asyncio.wait({asking}, timeout=0.05 if scenario != "split" else 5)
    assert bool(done) == (scenario == "split"), "its client is not spared once it is there"
    if done:
        (fault,) = machine.faults.list()
        assert fault["hits"] > 0
    asking.cancel()
    await machine.stop()
