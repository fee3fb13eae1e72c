"""Migrations between two machines on one clock, the same wherever the two run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing import FakeQemu, GroupClock, SyncFakeQemu

RUNNERS = ("loop", "thread", "process", "fork")
BUSY = {"memory": "64G", "dirty-rate": "2G/s"}
EVENTS = [{"capability": "events", "state": True}]
Pair = Callable[..., Any]


@pytest.fixture(params=RUNNERS)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    made: list[FakeQemu] = []

    async def pair(*options: str, **settings: Any) -> tuple[FakeQemu, FakeQemu]:
        settings = {"profile": "10.0", "runner": request.param, **settings}
        machines = await FakeQemu.pair(*options, **settings)
        made.extend(machines)
        return machines

    yield pair
    for machine in made:
        await machine.stop()


async def status(machine: FakeQemu) -> str:
    return str((await machine.qmp("query-migrate")).get("status"))


async def test_cancel_at_last_moment(pair: Pair) -> None:
    src, dst = await pair(guest=BUSY)
    src.faults.add("cancel-at-last-moment")
    await src.client.execute("migrate", {"uri": dst.migration_uri})
    await src.run_until("migration-pass", "3")
    assert await status(src) == "active", "a guest that writes faster than the link never stops"
    await src.client.execute("migrate_cancel")
    assert (await src.wait_event("STOP")).name == "STOP", "it is paused, the naive conclude"
    await src.run_until("migration", "cancelled")
    assert [event.name for event in src.events][-2:] == ["STOP", "RESUME"]
    assert (await src.qmp("query-status"))["running"], "the careful ask"
    (call,) = src.journal.commands("migrate_cancel")
    assert call.error is None
    states = [entry.name for entry in src.journal.of("migration")]
    assert states == ["setup", "active", "device", "cancelling", "cancelled"]
    assert src.now() == dst.now() > 60


async def test_cancel_that_comes_too_early_waits_for_its_moment(pair: Pair) -> None:
    src, dst = await pair(guest=BUSY)
    src.faults.add("cancel-at-last-moment")
    await src.client.execute("migrate", {"uri": dst.migration_uri})
    cancel = asyncio.ensure_future(src.client.execute("migrate_cancel"))
    await src.wait_for("fault", "delay")
    await src.run_until_idle()
    assert await cancel == {}
    assert await status(src) == "cancelled"


async def test_a_migration_goes_through(pair: Pair) -> None:
    src, dst = await pair(guest={"memory": "8G", "dirty-rate": "64M/s"})
    await src.qmp("migrate", uri=dst.migration_uri)
    await src.run_until_idle()
    assert await status(src) == "completed"
    assert (await dst.qmp("query-status"))["status"] == "running"
    assert src.now() == dst.now() > 1


async def test_one_clock_whoever_moves_it(pair: Pair) -> None:
    src, dst = await pair()
    await src.advance(2.5)
    await dst.advance(1)
    assert src.now() == dst.now() == 3.5
    assert await src.run_until_idle() == 0
    assert not await dst.jump()
    with pytest.raises(TimeoutError, match="no timer is left"):
        await src.run_until("migration", "completed")
    src.deadline = 0.05
    with pytest.raises(TimeoutError, match=r"virtual and stands at 3\.5 s: advance, jump or run"):
        await src.wait_event("STOP")


async def test_the_channel_drops_in_the_third_pass(pair: Pair, tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(
        """
        [guest]
        memory = "1G"
        dirty-rate = "100M/s"
        bandwidth = "20M/s"
        zero-permille = 0
        [[stages]]
        when = { migration-pass = 3 }
        then = "drop-channels"
        """
    )
    src, dst = await pair(scenario=file, guest=None)
    for machine in (src, dst):
        await machine.qmp("migrate-set-capabilities", capabilities=EVENTS)
    await src.qmp("migrate", uri=dst.migration_uri)
    await src.run_until("migration", "failed")
    passes = [entry.name for entry in src.journal.of("migration-pass")]
    assert passes == ["1", "2", "3"]
    assert [e.data for e in src.events if e.name == "MIGRATION_PASS"][-1] == {"pass": 3}
    assert (await src.qmp("query-status"))["running"], "the guest goes on at the source"
    (stage,) = src.journal.of("scenario", "stage")
    assert stage.data == {"when": {"migration-pass": 3}}
    assert src.journal.of("fault", "drop-channels")[0].data == {"number": 1}


async def paused_postcopy(pair: Pair) -> tuple[FakeQemu, FakeQemu]:
    """A pair whose network breaks in postcopy."""
    src, dst = await pair(guest={"memory": "8G", "dirty-rate": "2G/s"})
    postcopy = [*EVENTS, {"capability": "postcopy-ram", "state": True}]
    for machine in (src, dst):
        await machine.qmp("migrate-set-capabilities", capabilities=postcopy)
    await src.qmp("migrate", uri=dst.migration_uri)
    await src.run_until("migration", "active", side="outgoing")
    await src.qmp("migrate-start-postcopy")
    await src.run_until("migration", "postcopy-active", side="outgoing")
    await dst.run_until("migration", "postcopy-active")
    await src.run_until("runstate", "finish-migrate")
    src.faults.drop_channels()
    await src.run_until("migration", "postcopy-paused")
    await dst.run_until("migration", "postcopy-paused")
    return src, dst


@pytest.mark.parametrize("side", ["source", "destination"])
async def test_stop_hangs_while_postcopy_is_paused(pair: Pair, side: str) -> None:
    src, dst = await paused_postcopy(pair)
    machine = src if side == "source" else dst
    machine.faults.add("postcopy-paused-stop-hangs")
    stop = asyncio.ensure_future(machine.client.execute("stop"))
    await machine.wait_for("fault", "never-answer", command="stop")
    after = asyncio.ensure_future(machine.client.execute("query-status"))
    done, _ = await asyncio.wait({stop, after}, timeout=0.05)
    assert not done, "and everything after it, the naive find"
    assert await status(machine) == "postcopy-paused", "the careful ask first"
    machine.faults.clear()
    async with asyncio.timeout(5):
        with contextlib.suppress(Exception):
            await stop
        await after


async def test_one_seed_gives_one_journal_everywhere() -> None:
    async def run(runner: str, seed: int) -> str:
        src, dst = await FakeQemu.pair(
            profile="10.0", guest={"memory": "4G", "dirty-rate": "64M/s"}, seed=seed, runner=runner
        )
        async with src, dst:
            for machine in (src, dst):
                machine.faults.add("error", command="query-name", probability=0.5)
                await machine.qmp("migrate-set-capabilities", capabilities=EVENTS)
            src.faults.add("lost-event", event="MIGRATION_PASS", probability=0.5)
            await src.client.execute("migrate", {"uri": dst.migration_uri})
            while await src.jump():
                for machine in (src, dst):
                    with contextlib.suppress(Exception):
                        await machine.client.execute("query-name")
            assert await status(src) == "completed"
        return src.journal.to_lines() + dst.journal.to_lines()

    first = await run("loop", 1)
    for runner in RUNNERS:
        assert await run(runner, 1) == first
    assert await run("loop", 2) != first


async def test_a_group_may_be_mixed() -> None:
    clock = GroupClock()
    src, dst = (
        FakeQemu("-machine", "q35", *more, profile="10.0", runner=runner, clock=clock)
        for runner, more in (("thread", ()), ("process", ("-incoming", "defer")))
    )
    async with src, dst:
        await dst.qmp("migrate-incoming", uri=dst.migration_uri)
        await src.qmp("migrate", uri=dst.migration_uri)
        await src.run_until("migration", "completed")
        assert src.now() == dst.now() > 0
        async with FakeQemu("-machine", "none", profile="10.0", clock=clock) as late:
            assert late.now() == src.now(), "who comes late has the group's time"
        await dst.qmp("quit")
        await src.advance(1)


@pytest.mark.parametrize("runner", ["thread", "process", "fork"])
def test_a_pair_without_await(runner: str) -> None:
    src, dst = SyncFakeQemu.pair(
        profile="10.0", guest=BUSY, runner=runner, seed=3, name="one", client=True
    )
    with src, dst:
        src.qmp("migrate", uri=dst.migration_uri)
        src.run_until("migration-pass", "2")
        # asked before the break: a destination whose incoming migration fails ends, at any moment
        assert src.now() == dst.now() > 0
        src.faults.drop_channels()
        assert src.journal.wait_for("fault", "drop-channels")
        assert src.run_until("migration", "failed").data["side"] == "outgoing"
        src.deadline = dst.deadline = 5
        assert src.directory.exists()
    assert not src.directory.exists() and not dst.directory.exists()


@pytest.mark.parametrize("runner", RUNNERS)
async def test_a_machine_may_end_while_time_passes(runner: str, tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text("[[stages]]\nwhen = { time = 30 }\nthen = { exit = 3 }")
    settings: dict[str, Any] = {"profile": "10.0", "runner": runner, "clock": "virtual"}
    machine = await FakeQemu("-machine", "none", scenario=file, **settings)
    await machine.advance(60)
    assert await machine.wait_exit() == 3
    await machine.stop()
