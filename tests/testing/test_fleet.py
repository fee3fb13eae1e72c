"""Many machines in one process: they answer, they stop, nothing is left."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from qemu.qmp import QMPClient, QMPError

from fakeqemu.testing.fleet.file import FleetFile, parse_shard
from fakeqemu.testing.fleet.fleet import Fleet
from fakeqemu.testing.machine.settings import RunnerName
from fakeqemu.testing.scenarios.file import ScenarioError

NONE = ("-machine", "none", "-nodefaults", "-display", "none")
FILE = """
profile = "10.0"
options = ["-machine", "none", "-nodefaults", "-display", "none"]

[[machines]]
name = "vm-{:02}"
count = 6

[[machines]]
name = "old"
profile = "7.2"

[[rules]]
machines = "vm-0[13]"
faults = [{ name = "error", command = "query-name", desc = "told" }]

[[rules]]
machines = "old"
stages = [{ when = { command = "stop" }, then = [{ exit = 3 }] }]
"""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def status(path: Path) -> str:
    client = QMPClient("fleet")
    await client.connect(str(path))
    found: str = (await client.execute("query-status"))["status"]
    await client.disconnect()
    return found


async def name_of(path: Path) -> object:
    client = QMPClient("fleet")
    await client.connect(str(path))
    try:
        return await client.execute("query-name")
    finally:
        await client.disconnect()


@pytest.mark.timeout(60)
async def test_two_hundred_answer_and_leave_nothing() -> None:
    fds, tasks = descriptors(), len(asyncio.all_tasks())
    async with Fleet.of(200, *NONE, profile="10.0") as fleet:
        assert len(fleet) == 200
        directories = [machine.directory for machine in fleet]
        for name in fleet.names[::20]:
            assert await status(fleet.socket(name)) == "running"
        answers = await asyncio.gather(*(machine.qmp("query-name") for machine in fleet))
        assert answers == [{}] * 200
        place = fleet.directory
    assert not place.exists()
    assert not any(directory.exists() for directory in directories)
    await asyncio.sleep(0)
    assert descriptors() == fds
    assert len(asyncio.all_tasks()) == tasks


async def test_pairs_migrate() -> None:
    from fakeqemu.testing.fleet.file import FleetMember

    members = []
    for number in range(4):
        members.append(FleetMember(f"src-{number}", "10.0", (*NONE, "-m", "64M")))
        members.append(
            FleetMember(f"dst-{number}", "10.0", (*NONE, "-m", "64M", "-incoming", "defer"))
        )
    async with Fleet(FleetFile("pairs", tuple(members)), clock=None, speed=20.0) as fleet:
        await asyncio.gather(*(fleet.migrate(f"src-{n}", f"dst-{n}") for n in range(4)))
        for number in range(4):
            await fleet[f"dst-{number}"].wait_event("RESUME")
            reply = await fleet[f"src-{number}"].qmp("query-status")
            assert reply["status"] == "postmigrate"


async def test_a_file_with_rules_and_control(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(FILE)
    control = tmp_path / "control"
    async with Fleet(file, directory=tmp_path / "run", control=f"unix:{control}") as fleet:
        assert [path.name for path in sorted((tmp_path / "run").iterdir())] == [
            "old.qmp", *(f"vm-{n:02}.qmp" for n in range(6)),
        ]  # fmt: skip
        client = QMPClient("control")
        await client.connect(str(control))
        faults = await client.execute("query-faults", {"machine": "vm-*"})
        assert {name for name, each in faults.items() if each} == {"vm-01", "vm-03"}
        with pytest.raises(QMPError, match="told"):
            await name_of(fleet.socket("vm-03"))
        assert await name_of(fleet.socket("vm-02")) == {}
        assert await client.execute("guest", {"machine": "vm-0[0-2]", "verb": "reset"}) == {
            "vm-00": None, "vm-01": None, "vm-02": None,
        }  # fmt: skip
        await fleet["old"].qmp("stop")
        assert await fleet["old"].wait_exit() == 3
        machines = {each["name"]: each for each in await client.execute("query-machines")}
        assert machines["old"]["exit-code"] == 3 and machines["old"]["profile"] == "7.2"
        await client.disconnect()
        await fleet.stop_one("vm-02")
        assert not fleet.socket("vm-02").exists()
        await fleet.start_one("vm-02")
        assert await status(fleet.socket("vm-02")) == "running"
    assert list((tmp_path / "run").iterdir()) == []
    assert not control.exists()


def test_shards_share_the_work(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(FILE)
    whole = FleetFile.load(file)
    parts = [whole.shard(index, 3).members for index in range(3)]
    assert sorted(member.name for part in parts for member in part) == sorted(
        member.name for member in whole.members
    )
    assert parse_shard("2/3") == (2, 3)
    for text in ("3/3", "1", "a/b", "-1/3"):
        with pytest.raises(ValueError, match="a shard is I/N"):
            parse_shard(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("machine = 1", "no key 'machine'; did you mean 'machines'?"),
        ("[[machines]]\ncont = 2", "machines[1]: no key 'cont'; did you mean 'count'?"),
        ("[[machines]]\ncount = 0", "machines[1]: count must be at least 1"),
        ("[[machines]]\nname = 'a'\ncount = 2", "two machines are called 'a'"),
        ("[[stages]]\nwhn = 1", "stages[1]: no key 'whn'; did you mean 'when'?"),
        (
            "[[machines]]\n[[stages]]\nwhen = {time = 1}\nthen = [{guest = 'panik'}]",
            "stages[1]: no guest verb 'panik'; did you mean 'panic'?",
        ),
        (
            "[[machines]]\n[[stages]]\nwhen = {time = 1}\npick = 0\nthen = ['exit']",
            "stages[1]: pick must be at least 1",
        ),
        ("[[rules]]\nmachines = 'x-*'", "rules[1]: no machine is called 'x-*'"),
        (
            "[[machines]]\n[[rules]]\nmachines = '*'\nfaults = [{name = 'lat'}]",
            "rules[1]: faults[1]: no fault or scenario 'lat'",
        ),
    ],
)
def test_mistakes(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        FleetFile.load(file)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(f"{file}:")


STAGED = """
profile = "10.0"
seed = 3
options = ["-machine", "none", "-nodefaults", "-display", "none"]
[[machines]]
count = 40
[[stages]]
when = { time = 60 }
pick = 7
then = [{ exit = 1, signal = "KILL" }]
[[stages]]
when = { command = "stop" }
of = "vm-1"
machines = "vm-3?"
then = [{ event = "WATCHDOG", data = { action = "none" } }]
"""


def dead(fleet: Fleet) -> list[str]:
    return [machine.name for machine in fleet if machine.exit_code == -9]


async def test_many_fail_at_once(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(STAGED)

    async def killed(**settings: object) -> list[str]:
        async with Fleet(file, clock="virtual", **settings) as fleet:  # type: ignore[arg-type]
            await fleet.advance(59)
            assert dead(fleet) == []
            await fleet.advance(1)
            return dead(fleet)

    first = await killed()
    assert len(first) == 7
    assert await killed() == first, "the seed says who"
    assert await killed(seed=4) != first
    parts = [await killed(shard=(index, 3)) for index in range(3)]
    assert sorted(name for part in parts for name in part) == sorted(first), "on all hosts"


async def test_what_one_does_happens_to_others(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(STAGED)
    async with Fleet(file, clock="virtual") as fleet:
        await fleet["vm-2"].qmp("stop")
        assert fleet["vm-30"].events[-1].name != "WATCHDOG"
        await fleet["vm-1"].qmp("stop")
        for number in range(30, 40):
            await fleet[f"vm-{number}"].wait_event("WATCHDOG")
        assert [m.name for m in fleet if m.journal.of("event", "WATCHDOG")] == [
            f"vm-{number}" for number in range(30, 40)
        ]
        assert await fleet.run_until_idle() >= 1


async def test_failures_by_hand() -> None:
    async with Fleet.of(10, *NONE, profile="10.0", seed=1) as fleet:
        chosen = fleet.happen({"exit": 1, "signal": "KILL"}, machines="vm-[0-7]", pick=3)
        assert len(chosen) == 3
        assert dead(fleet) == chosen
        with pytest.raises(ValueError, match="did you mean 'drop-channels'"):
            fleet.happen("drop-chanel")
        with pytest.raises(ValueError, match=r"no machine 'db-\?'"):
            fleet.happen("drop-channels", machines="db-?")
        assert len(fleet.happen({"guest": "panic"})) == 7


@pytest.mark.parametrize("number", range(4))
async def test_works_beside_others_of_its_kind(number: int, tmp_path: Path) -> None:
    """Under pytest-xdist these run at the same time, each with sockets of its own."""
    async with Fleet.of(20, *NONE, profile="10.0", control=f"unix:{tmp_path}/control") as fleet:
        assert len({str(fleet.socket(name)) for name in fleet.names}) == 20
        assert await status(fleet.socket(f"vm-{number}")) == "running"


async def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(FILE)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fakeqemu", "fleet", str(file), "--shard", "1/2",
        "--directory", str(tmp_path / "run"),
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(15):
        assert b"3 machines" in await process.stdout.readline()
        assert await status(tmp_path / "run" / "vm-03.qmp") == "running"
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0
    assert list((tmp_path / "run").iterdir()) == []


async def test_of_long_journals_the_end_is_kept() -> None:
    async with Fleet.of(2, *NONE, profile="10.0", journal=50) as fleet:
        assert len(list(fleet)) == 2
        for machine in fleet:
            for _ in range(100):
                await machine.qmp("query-name")
            assert len(machine.journal) == 50
            assert machine.journal.dropped > 100


async def test_where_a_machine_of_a_fleet_listens() -> None:
    async with Fleet.of(2, "-machine", "none", profile="10.0") as fleet:
        path = Path(fleet["vm-1"].socket_path)
        assert path == fleet.socket("vm-1") and path.is_socket()
    async with Fleet.of(2, "-machine", "none", profile="10.0", socket=False) as fleet:
        assert not list(fleet.directory.iterdir())


@pytest.mark.parametrize("runner", ["thread", "process", "fork"])
@pytest.mark.timeout(120)
async def test_a_fleet_outside_its_loop(runner: RunnerName) -> None:
    """What the fleet does to its machines reaches them wherever they run."""
    fleet = Fleet.of(
        3, *NONE, profile="10.0", runner=runner, clock="virtual", seed=1, deadline=60, journal=50
    )
    async with fleet:
        assert await status(fleet.socket("vm-2")) == "running"
        assert fleet.happen({"event": "WAKEUP"}, "drop-connections", machines="vm-1") == ["vm-1"]
        await fleet["vm-1"].wait_event("WAKEUP")
        fleet["vm-0"].faults.add("error", command="query-name", desc="told")
        with pytest.raises(QMPError, match="told"):
            await name_of(fleet.socket("vm-0"))
        await fleet.advance(5)
        assert [vm.now() for vm in fleet] == [5, 5, 5]
        (died,) = fleet.happen({"exit": 1, "signal": "KILL"}, pick=1)
        assert await fleet[died].wait_exit() == -9
        await fleet.advance(5)
        assert {vm.now() for vm in fleet if vm.exit_code is None} == {10}
        assert all(len(list(vm.journal)) <= 50 for vm in fleet)
        await fleet.stop_one(died)
        assert (await (await fleet.start_one(died)).qmp("query-status"))["running"]
        if runner != "thread":
            with pytest.raises(RuntimeError, match=f"runs in a {runner}; ask it with qmp"):
                fleet["vm-0"].vm  # noqa: B018
    assert not fleet.directory.exists()


async def test_what_needs_the_loop_of_a_fleet(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(FILE)
    with pytest.raises(ValueError, match=r"faults, stages and guests .* leave runner out, or use"):
        Fleet(file, runner="fork")
    with pytest.raises(ValueError, match="control socket does not show a machine in a process"):
        Fleet.of(2, *NONE, runner="process", control=f"unix:{tmp_path}/c")


async def test_a_control_socket_on_a_port_of_the_hosts_choice() -> None:
    async with Fleet.of(1, "-machine", "none", profile="10.0", control="tcp:127.0.0.1:0") as fleet:
        address = fleet.control_address
        assert address is not None and not address.endswith(":0")
        _, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.close()
    assert fleet.control_address is None
