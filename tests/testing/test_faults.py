"""Every fault of the closed set, and the rules that all of them share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fakeqemu.clock import SECOND, VirtualClock
from fakeqemu.testing import FakeQemu
from fakeqemu.testing.faults.injector import Faults
from fakeqemu.testing.faults.model import FAULTS, Coalesce, Delay, Drop, Error, Fault, Split
from fakeqemu.testing.names import UnknownNameError
from tests.support.raw_clients import RawClient

NONE = ("-machine", "none", "-nodefaults", "-display", "none")


def faults_of(machine: FakeQemu) -> Faults:
    return Faults.of(machine.vm)


@pytest.fixture
async def machine() -> AsyncIterator[FakeQemu]:
    clock = VirtualClock()
    async with FakeQemu(*NONE, profile="10.0", clock=clock, client=False) as machine:
        faults_of(machine)
        yield machine


@pytest.fixture
async def client(machine: FakeQemu) -> AsyncIterator[RawClient]:
    client = await RawClient.connect(machine, negotiate=True)
    yield client
    client.close()


def test_faults_have_names_and_defaults() -> None:
    assert len(FAULTS) == 25
    for name, kind in FAULTS.items():
        assert kind().name == name
        assert kind.stages


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("dely", {}, "no fault or scenario 'dely'; did you mean 'delay'?"),
        ("delay", {"secnds": 1}, "called 'secnds'; did you mean 'seconds'?"),
        ("error", {"command": "query-staus"}, "'query-staus'; did you mean 'query-status'?"),
        ("lost-event", {"event": "STOPP"}, "no event 'STOPP'; did you mean 'STOP'?"),
        ("drop", {"place": "midle"}, "no place 'midle'; did you mean 'middle'?"),
        ("error", {"runstate": "pausd"}, "no run state 'pausd'; did you mean 'paused'?"),
        ("delay", {"seconds": "3"}, "seconds of fault 'delay' must be float, not '3'"),
        ("error", {"probability": 2}, "probability must be between 0 and 1"),
        ("wrong-id", {"channel": True}, "does not apply to a migration channel"),
    ],
)
async def test_what_is_unknown_is_refused(
    machine: FakeQemu, name: str, parameters: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError) as caught:
        faults_of(machine).add(name, **parameters)
    assert text in str(caught.value)
    assert not list(faults_of(machine)), "nothing is added by half"


async def test_the_nearest_name_is_part_of_the_error(machine: FakeQemu) -> None:
    with pytest.raises(UnknownNameError) as caught:
        faults_of(machine).add("dely")
    assert caught.value.nearest == "delay"


async def test_delay_follows_the_machines_clock(machine: FakeQemu, client: RawClient) -> None:
    faults_of(machine).add(Delay(command="query-name", seconds=180))
    client.send({"execute": "query-name"})
    assert await client.quiet()
    machine.vm.clock.advance(179 * SECOND)  # type: ignore[attr-defined]
    assert await client.quiet(0.01)
    machine.vm.clock.advance(SECOND)  # type: ignore[attr-defined]
    assert await client.message() == {"return": {}}


async def test_error_and_ignore(machine: FakeQemu, client: RawClient) -> None:
    faults = faults_of(machine)
    faults.add(Error(command="stop", desc="No", error_class="DeviceNotFound", count=1))
    client.send({"execute": "stop"})
    assert await client.message() == {"error": {"class": "DeviceNotFound", "desc": "No"}}
    faults.add("ignore", command="stop", count=1)
    client.send({"execute": "stop"})
    assert await client.message() == {"return": {}}
    assert machine.vm.runstate.running, "neither was carried out"
    first, second = machine.journal.commands("stop")
    assert first.error == {"class": "DeviceNotFound", "desc": "No"}
    assert second.error is None, "the journal has both all the same"
    client.send({"execute": "stop"})
    assert (await client.message())["event"] == "STOP"


async def test_never_answer_until_it_is_taken_away(machine: FakeQemu, client: RawClient) -> None:
    (active,) = faults_of(machine).add("never-answer", command="stop")
    client.send({"execute": "stop", "id": 1}, {"execute": "query-name", "id": 2})
    await machine.wait_for("fault", "never-answer", command="stop")
    assert await client.quiet()
    faults_of(machine).remove(active)
    assert (await client.message())["event"] == "STOP"
    assert [(await client.message())["id"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("place", "left"), [("before", 0.0), ("middle", 0.5), ("after", 1.0)]
)
async def test_drop(machine: FakeQemu, client: RawClient, place: str, left: float) -> None:
    faults_of(machine).add(Drop(command="query-name", place=place))
    client.send({"execute": "query-name", "id": 1})
    whole = b'{"return": {}, "id": 1}\r\n'
    assert await client.rest() == whole[: int(len(whole) * left)]
    again = await RawClient.connect(machine)
    await again.negotiate()
    again.close()


async def test_split_keeps_all_bytes_in_order(machine: FakeQemu, client: RawClient) -> None:
    faults_of(machine).add(Split(size=3, gap=0.0005))
    client.send({"execute": "stop", "id": 1}, {"execute": "cont", "id": 2})
    first = await client.piece()
    assert first == b'{"t'
    lines = [first + await client.line()] + [await client.line() for _ in range(3)]
    kinds = [json.loads(line).get("event", "reply") for line in lines]
    assert kinds == ["STOP", "reply", "RESUME", "reply"]


@pytest.mark.parametrize(
    "fault",
    [
        Split(size=1, gap=0.001, greeting=True),
        Delay(seconds=1e-3, greeting=True),
        Coalesce(wait=0.005, greeting=True),
    ],
    ids=lambda fault: fault.name,
)
async def test_what_waits_for_a_client_that_left_is_not_sent_to_the_next(
    machine: FakeQemu, fault: Fault
) -> None:
    faults = faults_of(machine)
    faults.add(fault)
    await (await RawClient.connect(machine)).hang_up()
    await machine.wait_for("fault", fault.name)
    faults.clear()
    client = await RawClient.connect(machine)
    machine.vm.clock.advance(SECOND)  # type: ignore[attr-defined]
    assert "QMP" in await client.message()
    assert await client.ask("qmp_capabilities") == {"return": {}, "id": "qmp_capabilities"}
    assert await client.quiet()
    client.close()


async def test_what_is_read_slowly_is_not_taken_for_the_next_client(
    machine: FakeQemu, client: RawClient
) -> None:
    faults_of(machine).add("slow-reading", size=1, gap=0.001, count=1)
    client.send("stop")
    await machine.wait_for("fault", "slow-reading")
    client.close()
    following = await RawClient.connect(machine, negotiate=True)
    assert await following.quiet()
    following.close()


async def test_coalesce_and_reorder(machine: FakeQemu, client: RawClient) -> None:
    faults = faults_of(machine)
    (active,) = faults.add("coalesce", messages=2)
    client.send({"execute": "stop", "id": 1})
    together = await client.piece()
    assert together.count(b"\r\n") == 2
    faults.remove(active)
    faults.add("reorder", event="RESUME")
    client.send({"execute": "cont", "id": 2})
    assert (await client.message()).get("id") == 2
    assert (await client.message())["event"] == "RESUME"


async def test_ids(machine: FakeQemu, client: RawClient) -> None:
    faults = faults_of(machine)
    faults.add("wrong-id", count=1)
    faults.add("missing-id", skip=1, count=1)
    ids = []
    for number in range(3):
        client.send({"execute": "query-name", "id": number})
        ids.append((await client.message()).get("id", "none"))
    assert ids == ["qmp_capabilities", "none", 2]


async def test_events_twice_or_never(machine: FakeQemu, client: RawClient) -> None:
    faults = faults_of(machine)
    faults.add("duplicate-event", event="STOP")
    faults.add("lost-event", event="RESUME")
    client.send({"execute": "stop"}, {"execute": "cont"})
    kinds = [(await client.message()).get("event", "reply") for _ in range(4)]
    assert kinds == ["STOP", "STOP", "reply", "reply"]


async def test_junk_is_the_same_for_a_seed(machine: FakeQemu) -> None:
    async def junk(seed: int) -> bytes:
        faults_of(machine).clear()
        faults_of(machine).add("junk-bytes", greeting=True, size=6, seed=seed)
        client = await RawClient.connect(machine)
        line = await client.line()
        await client.hang_up()
        return line

    first, same, other = await junk(1), await junk(1), await junk(2)
    assert first == same != other
    with pytest.raises(UnicodeDecodeError):
        first.decode()


async def test_partial_utf8(machine: FakeQemu) -> None:
    faults_of(machine).add("partial-utf8", greeting=True)
    client = await RawClient.connect(machine)
    with pytest.raises(UnicodeDecodeError, match="invalid continuation byte"):
        (await client.line()).decode()
    client.close()


async def test_slow_reading_still_reads_all(machine: FakeQemu, client: RawClient) -> None:
    faults_of(machine).add("slow-reading", size=7, gap=0.0005)
    client.send({"execute": "query-name", "id": 1}, {"execute": "query-status", "id": 2})
    assert [(await client.message())["id"] for _ in range(2)] == [1, 2]


async def test_stopped_process_goes_on(machine: FakeQemu, client: RawClient) -> None:
    faults_of(machine).stop_process()
    client.send({"execute": "query-name", "id": 1})
    assert await client.quiet()
    faults_of(machine).continue_process()
    client.send({"execute": "query-name", "id": 2})
    assert [(await client.message())["id"] for _ in range(2)] == [1, 2]


async def test_scopes(machine: FakeQemu, client: RawClient) -> None:
    faults = faults_of(machine)
    faults.add(Error(command="query-name", runstate="paused"))
    await machine.qmp("chardev-add", id="other", backend={"type": "null", "data": {}})
    faults.add(Error(command="query-uuid", connection="other"))
    client.send({"execute": "query-name"}, {"execute": "query-uuid"})
    assert "return" in await client.message()
    assert "return" in await client.message()
    client.send({"execute": "stop"}, {"execute": "query-name"})
    kinds = [next(iter(await client.message())) for _ in range(3)]
    assert kinds == ["timestamp", "return", "error"]
    assert [entry.data for entry in machine.journal.of("fault", "error")]


async def test_the_testers_own_monitor_is_spared(machine: FakeQemu, client: RawClient) -> None:
    faults_of(machine).add(Error())
    assert "error" in await client.ask("query-name")
    assert await machine.qmp("query-name") == {}


async def test_chance_follows_the_seed(machine: FakeQemu, client: RawClient) -> None:
    async def run(seed: int) -> list[bool]:
        faults_of(machine).clear()
        faults_of(machine).add(Error(probability=0.5, seed=seed))
        outcome = []
        for _ in range(12):
            client.send({"execute": "query-name"})
            outcome.append("error" in await client.message())
        return outcome

    first, same, other = await run(7), await run(7), await run(8)
    assert first == same != other
    assert 0 < sum(first) < 12


async def test_exit_with_a_signal(machine: FakeQemu, client: RawClient) -> None:
    faults_of(machine).add("exit", command="query-name", signal="KILL")
    client.send({"execute": "query-name"})
    assert await client.rest() == b""
    assert machine.vm.process.exit_code == -9


@pytest.mark.parametrize("runner", ["loop", "thread", "process"])
async def test_the_same_everywhere(runner: str) -> None:
    async with FakeQemu(*NONE, profile="10.0", runner=runner, client=False) as machine:
        (number,) = machine.faults.add("error", command="query-name", desc="told")
        client = await RawClient.connect(machine)
        await client.negotiate()
        client.send({"execute": "query-name"})
        assert (await client.message())["error"]["desc"] == "told"
        (fault,) = machine.faults.list()
        assert (fault["number"], fault["hits"]) == (number, 1)
        machine.faults.remove(number)
        client.send({"execute": "query-name"})
        assert await client.message() == {"return": {}}
        client.close()
        with pytest.raises(UnknownNameError):
            machine.faults.add("eror")
        assert await machine.wait_for("fault", "error")


async def test_two_runs_with_one_seed_give_one_journal() -> None:
    async def run(seed: int) -> str:
        async with FakeQemu(
            *NONE, profile="10.0", clock="virtual", client=False, seed=seed
        ) as machine:
            machine.faults.add("error", command="query-name", probability=0.5)
            machine.faults.add("junk-bytes", event="STOP", probability=0.5)
            client = await RawClient.connect(machine)
            await client.negotiate()
            for _ in range(10):
                client.send({"execute": "query-name"})
                await client.line()
                client.send({"execute": "stop"})
                await client.line()
                await client.line()
                client.send({"execute": "cont"})
                await client.line()
                await client.line()
            client.close()
            return machine.journal.to_lines()

    first, same, other = await run(1), await run(1), await run(2)
    assert first == same
    assert first != other


async def migrating(path: str) -> FakeQemu:
    """A machine with a client that is about to migrate to a socket that takes everything."""
    machine = await FakeQemu(*NONE, "-m", "64M", profile="10.0", client=False)
    await machine.qmp(
        "migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}]
    )
    return machine


@pytest.mark.parametrize(
    ("fault", "status"), [("drop", "failed"), ("never-answer", "completed")]
)
async def test_a_faulty_migration_channel_carries_the_beginning_alone(
    fault: str, status: str, tmp_path: Any
) -> None:
    machine = await migrating(str(tmp_path))
    faults_of(machine).add(fault, channel=True, skip=1)
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_unix_server(served, machine.directory / "mig")
    await machine.qmp("migrate", uri=f"unix:{machine.directory / 'mig'}")
    await machine.wait_event("MIGRATION", status=status)
    if fault == "never-answer":
        # the channel's end is swallowed, too
        assert not received.done()
        await machine.stop()
    async with asyncio.timeout(5):
        content = await received
    assert content.startswith(b"QEVM")
    assert b"page_size" not in content, "the stream's description comes at its end"
    server.close()
    await machine.stop()


async def test_exit_in_the_middle_of_a_migration(tmp_path: Any) -> None:
    machine = await migrating(str(tmp_path))
    faults_of(machine).add("exit", at="mid-migration", code=7)
    await machine.qmp("migrate", uri="exec:cat >/dev/null")
    assert await machine.wait_exit() == 7
    await machine.stop()
