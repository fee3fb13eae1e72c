"""Reported failures over all runners: a naive client shows them, a careful one copes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing import FakeQemu
from tests.support.raw_clients import RawClient
from tests.support.waiting import listens, until, until_elsewhere

RUNNERS = ("loop", "thread", "process", "fork")
#: more than a naive client waits
PATIENCE = 0.3
Q35 = ("-machine", "q35", "-nodefaults", "-display", "none", "-m", "64")
DOCS = Path(__file__).parents[2] / "docs" / "scenarios"

#: a fork server that has to be warmed up on a busy host needs more than the usual
pytestmark = pytest.mark.fakeqemu(deadline=40)
everywhere = pytest.mark.parametrize("runner", RUNNERS)


class Client:
    """Code under test: a QMP client that keeps events."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self.events: list[dict[str, Any]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, machine: FakeQemu) -> Any:
        client = cls(await RawClient.connect(machine, negotiate=True))
        try:
            yield client
        finally:
            client.raw.writer.close()

    async def ask(self, command: str, **arguments: Any) -> Any:
        """Its return. Raises RuntimeError for an error, EOFError at the end."""
        self.raw.send({"execute": command, "arguments": arguments})
        while True:
            line = await self.raw.line()
            if not line:
                raise EOFError
            message = json.loads(line)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise RuntimeError(message["error"]["desc"])
            else:
                return message["return"]

    async def event(self, name: str) -> dict[str, Any]:
        """The next event of that name, which has come or comes."""
        while True:
            for each in self.events:
                if each["event"] == name:
                    self.events.remove(each)
                    return each
            self.events.append(await self.raw.message())


@everywhere
async def test_a_full_disk_of_the_host(fakeqemu: Any, tmp_path: Path, runner: str) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    drive = f"file={image},format=raw,if=none,id=d,werror=enospc"
    async with fakeqemu(  # noqa: SIM117
        *Q35, "-drive", drive, "-device", "virtio-blk-pci,drive=d,id=vd",
        profile="10.0", runner=runner,
    ) as machine:  # fmt: skip
        async with Client.of(machine) as client:
            broken = {"device": "vd", "operation": "write", "errno": "ENOSPC"}
            (fault,) = machine.faults.add("io-error", **broken)
            error = (await client.event("BLOCK_IO_ERROR"))["data"]
            assert (error["action"], error["nospace"]) == ("stop", True)
            assert error["operation"] == "write"
            await client.event("STOP")
            # naive: `cont` succeeds, so the guest runs
            assert await client.ask("cont") == {}
            await client.event("BLOCK_IO_ERROR")
            assert (await client.ask("query-status"))["status"] == "io-error"
            # careful: mend what is wrong first, and look afterwards
            machine.faults.remove(fault)
            client.events.clear()
            await client.ask("cont")
            await client.event("RESUME")
            assert (await client.ask("query-status"))["status"] == "running"
            assert image.read_bytes() == bytes(1 << 20)
            with pytest.raises(ValueError, match="no disk 'vc'"):
                machine.faults.add("io-error", device="vc")


class AgentClient:
    """Code under test that talks to the guest agent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, command: str, **arguments: Any) -> None:
        request = {"execute": command, "arguments": arguments}
        self.writer.write(json.dumps(request).encode() + b"\n")

    async def reply(self) -> Any:
        async with asyncio.timeout(20):
            return json.loads((await self.reader.readline()).lstrip(b"\xff"))

    async def ask(self, command: str, **arguments: Any) -> Any:
        self.send(command, **arguments)
        return await self.reply()


@contextlib.asynccontextmanager
async def with_agent(fakeqemu: Any, tmp_path: Path, **settings: Any) -> Any:
    """A machine with an agent in its guest, and a client of that."""
    path = tmp_path / "ga"
    async with fakeqemu(
        *Q35, "-device", "virtio-serial-pci", "-chardev",
        f"socket,id=ga,path={path},server=on,wait=off", "-device",
        "virtserialport,chardev=ga,name=org.qemu.guest_agent.0",
        guest={"agent": "on"}, profile="10.0", **settings,
    ) as machine:  # fmt: skip
        client = AgentClient(*await asyncio.open_unix_connection(path))
        yield machine, client
        client.writer.close()


@everywhere
async def test_an_agent_that_fails_or_is_late(fakeqemu: Any, tmp_path: Path, runner: str) -> None:
    async with with_agent(fakeqemu, tmp_path, runner=runner) as (machine, client):
        desc = "failed to freeze /: Device or resource busy"
        machine.faults.add("error", command="guest-fsfreeze-freeze", desc=desc, count=1)
        reply = await client.ask("guest-fsfreeze-freeze")
        # naive: has frozen what it asked for
        assert "return" not in reply
        # careful: looks at the reply, and asks what is
        assert reply["error"]["desc"] == desc
        assert await client.ask("guest-fsfreeze-status") == {"return": "thawed"}

        (number,) = machine.faults.add("never-answer", command="guest-get-osinfo")
        client.send("guest-get-osinfo")
        # naive: takes the next reply for its own, and waits for ever
        client.send("guest-ping")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.readline(), PATIENCE)
        machine.faults.remove(number)
        assert "pretty-name" in (await client.reply())["return"]
        assert await client.reply() == {"return": {}}
        # careful: finds the place in the stream again
        assert await client.ask("guest-sync-delimited", id=7) == {"return": 7}

        machine.faults.add("drop", command="guest-ping", place="middle", count=1)
        client.send("guest-ping")
        async with asyncio.timeout(20):
            assert await client.reader.read() == b'{"retur'


@everywhere
async def test_what_an_agent_says_of_its_guest(
    fakeqemu: Any, tmp_path: Path, runner: str
) -> None:
    async with with_agent(fakeqemu, tmp_path, runner=runner) as (machine, client):
        address = {"ip-address": "10.0.2.15", "ip-address-type": "ipv4", "prefix": 24}
        found = [{"name": "eth0", "ip-addresses": [address]}]
        machine.stubs.replace("guest-network-get-interfaces", found)
        machine.stubs.once("guest-get-users", error="no users here")
        assert await client.ask("guest-network-get-interfaces") == {"return": found}
        assert (await client.ask("guest-get-users"))["error"]["desc"] == "no users here"
        assert await client.ask("guest-get-users") == {"return": []}
        with pytest.raises(ValueError, match="did you mean 'guest-get-users'"):
            machine.stubs.replace("guest-get-user", [])

        machine.guest.program("df", exit_code=3, output="full\n", errors="oh")
        run = await client.ask("guest-exec", path="/bin/df", **{"capture-output": True})
        pid = run["return"]["pid"]
        assert await client.ask("guest-exec-status", pid=pid) == {
            "return": {"exited": True, "exitcode": 3, "out-data": "ZnVsbAo=", "err-data": "b2g="}
        }
        again = await client.ask("guest-exec-status", pid=pid)
        assert again["error"]["desc"] == "PID ld does not exist"
        missing = await client.ask("guest-exec", path="/bin/none")
        assert "No such file or directory" in missing["error"]["desc"]


@everywhere
async def test_a_human_monitor_fails(fakeqemu: Any, tmp_path: Path, runner: str) -> None:
    path = tmp_path / "hmp"
    async with fakeqemu(
        *Q35, "-monitor", f"unix:{path},server=on,wait=off", profile="10.0", runner=runner
    ) as machine, Client.of(machine) as client:
        machine.faults.add("error", command="loadvm", desc="No such snapshot", count=2)
        line = {"command-line": "loadvm x"}
        text = await client.ask("human-monitor-command", **line)
        # naive: there is a return, so it has worked; careful: reads what it says
        assert text == "Error: No such snapshot\r\n"
        reader, writer = await asyncio.open_unix_connection(path)
        async with asyncio.timeout(20):
            await reader.readuntil(b"(qemu) ")
            writer.write(b"loadvm x\n")
            assert b"Error: No such snapshot\r\n" in await reader.readuntil(b"\n(qemu) ")

            (number,) = machine.faults.add("never-answer", command="info status")
            writer.write(b"info status\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readuntil(b"VM status"), PATIENCE)
            machine.faults.remove(number)
            await reader.readuntil(b"VM status: running\r\n(qemu) ")

            machine.faults.add("drop", command="info", place="before", count=1)
            writer.write(b"info name\ninfo status\n")
            assert b"VM status" not in await reader.read()
        writer.close()
        with pytest.raises(ValueError, match="did you mean 'loadvm'"):
            machine.faults.add("error", command="loadvn")
        with pytest.raises(ValueError, match="no character device 'monitor'"):
            machine.faults.add("silent", connection="monitor")


@everywhere
async def test_a_silent_human_monitor(fakeqemu: Any, tmp_path: Path, runner: str) -> None:
    path = tmp_path / "hmp"
    async with fakeqemu(
        *Q35, "-monitor", f"unix:{path},server=on,wait=off", profile="10.0", runner=runner
    ) as machine:
        machine.faults.add("silent")
        reader, writer = await asyncio.open_unix_connection(path)
        # naive: waits for the banner; careful: has a deadline
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), PATIENCE)
        machine.faults.continue_process()
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"(qemu) ")).startswith(b"QEMU 10.0")
        writer.close()


@everywhere
async def test_killed_as_seen_from_outside(fakeqemu: Any, tmp_path: Path, runner: str) -> None:
    path, pid_file = tmp_path / "qmp", tmp_path / "pid"
    options = (*Q35, "-qmp", f"unix:{path},server=on,wait=off", "-pidfile", str(pid_file))
    machine = await fakeqemu(*options, profile="10.0", runner=runner)
    machine.faults.exit(signal="KILL")
    assert await machine.wait_exit() == -9
    # naive: the socket's file and the pid file are there, so it lives
    assert path.is_socket() and pid_file.is_file()
    # careful: connects
    await until(lambda: not listens(path), "the end of the process")
    # what it has left does not hinder the next one
    async with fakeqemu(*options, profile="10.0", runner=runner):
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
    assert not pid_file.exists()


RETURN_PATH = [{"capability": "return-path", "state": True}]


@pytest.mark.parametrize("careful", [False, True])
@everywhere
async def test_the_destination_cannot_load(fakeqemu: Any, runner: str, careful: bool) -> None:
    src, dst = await fakeqemu.pair(profile="10.0", guest={"memory": "1G"}, runner=runner)
    if careful:
        for each in (src, dst):
            await each.qmp("migrate-set-capabilities", capabilities=RETURN_PATH)
    dst.faults.add("load-fails", section="timer", desc="Invalid argument")
    await src.qmp("migrate", uri=dst.migration_uri)
    await src.run_until_idle()
    assert await dst.wait_exit() == 1
    said = dst.stderr.getvalue()
    assert "error while loading state for instance 0x0 of device 'timer'" in said
    assert "load of migration failed: Invalid argument" in said
    # naive: the source has sent everything, and hears of nothing; careful: has a return path
    status = (await src.qmp("query-migrate"))["status"]
    assert status == ("failed" if careful else "completed")
    assert (await src.qmp("query-status"))["running"] == careful
    with pytest.raises(ValueError, match="did you mean 'Invalid argument'"):
        src.faults.add("load-fails", desc="Invalid arguments")


@everywhere
async def test_a_source_that_waits_for_an_answer(fakeqemu: Any, runner: str) -> None:
    src, dst = await fakeqemu.pair(profile="10.0", guest={"memory": "1G"}, runner=runner)
    for each in (src, dst):
        await each.qmp("migrate-set-capabilities", capabilities=RETURN_PATH)
    dst.faults.add("never-answer", channel=True)
    await src.qmp("migrate", uri=dst.migration_uri)
    await src.run_until_idle()
    # naive: waits until the status is an end
    assert (await src.qmp("query-migrate"))["status"] not in ("completed", "failed")
    # careful: breaks it off after a while; the guest goes on where it may
    await src.qmp("yank", instances=[{"type": "migration"}])
    await src.run_until_idle()
    assert (await src.qmp("query-migrate"))["status"] in ("failed", "completed")


@everywhere
async def test_a_process_that_lingers(fakeqemu: Any, runner: str) -> None:
    machine = await fakeqemu(*Q35, profile="10.0", runner=runner)
    machine.faults.add("late-exit", seconds=1)
    async with Client.of(machine) as client:
        await client.ask("quit")
        await client.event("SHUTDOWN")
        assert await client.raw.rest() == b""
        # naive: SHUTDOWN has come and the socket is closed, so it has gone
        assert machine.exit_code is None
        # careful: waits for the process
        assert await machine.wait_exit() == 0


def late(tmp_path: Path, more: str = "") -> subprocess.Popen[str]:
    """A process whose sockets appear late."""
    scenario = tmp_path / "late.toml"
    scenario.write_text(f'[[faults]]\nname = "late-socket"\nseconds = 1.5\n{more}\n')
    return subprocess.Popen(
        [sys.executable, "-m", "fakeqemu", "run", "--scenario", scenario, "--profile", "10.0",
         "--", *Q35, "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off"],
        cwd=DOCS.parents[1], text=True,
    )  # fmt: skip


@pytest.mark.parametrize(("more", "error"), [
    ("", FileNotFoundError), ("file = true", ConnectionRefusedError)
])  # fmt: skip
async def test_a_socket_that_is_late(
    tmp_path: Path, more: str, error: type[OSError]
) -> None:
    process = late(tmp_path, more)
    path = tmp_path / "qmp"
    try:
        if more:
            await until(path.exists, "the file")
        # naive: the process runs (or the file is there), so it can be connected to
        with pytest.raises(error):
            await asyncio.open_unix_connection(path)
        assert process.poll() is None
        # careful: tries again until a deadline
        await until_elsewhere(lambda: listens(path), "a listener")
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_unix_connection(path)
            assert b"QMP" in await reader.readline()
        writer.close()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("runner", RUNNERS)
async def test_a_start_that_is_late(fakeqemu: Any, tmp_path: Path, runner: str) -> None:
    scenario = tmp_path / "late.toml"
    scenario.write_text('[[faults]]\nname = "late-socket"\nseconds = 0.5\n')
    machine = fakeqemu(*Q35, profile="10.0", runner=runner, scenario=str(scenario))
    starting = asyncio.ensure_future(machine.start())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(starting), PATIENCE)
    await starting
    with pytest.raises(ValueError, match="the machine has started"):
        machine.faults.add("late-socket")


@everywhere
async def test_a_job_that_fails_late(fakeqemu: Any, runner: str) -> None:
    size = 64 << 20
    disks = [
        word
        for name in ("n", "t")
        for word in ("-blockdev", f"driver=null-co,node-name={name},size={size}")
    ]
    async with fakeqemu(
        *Q35, *disks, profile="10.0", runner=runner, clock="virtual"
    ) as machine, Client.of(machine) as client:
        machine.faults.add("job-error", job="b", percent=50, desc="Input/output error")
        await client.ask("blockdev-backup", **{
            "job-id": "b", "device": "n", "target": "t", "sync": "full", "speed": 16 << 20,
            "auto-dismiss": False})  # fmt: skip
        await machine.advance(1)
        # naive: it has begun, so it will be
        (job,) = await client.ask("query-jobs")
        assert job["status"] == "running"
        await machine.run_until_idle()
        # careful: follows it to its end, and reads the error
        (job,) = await client.ask("query-jobs")
        assert (job["status"], job["error"]) == ("concluded", "Input/output error")
        assert size // 2 <= job["current-progress"] < size
        states = [
            each["data"]["status"]
            for each in client.events
            if each["event"] == "JOB_STATUS_CHANGE"
        ]
        assert states[-2:] == ["aborting", "concluded"]


@everywhere
async def test_a_device_that_the_guest_ejects(fakeqemu: Any, tmp_path: Path, runner: str) -> None:
    scenario = tmp_path / "eject.toml"
    scenario.write_text(
        '[[stages]]\nwhen = { command = "device_add" }\n'
        'then = [ { guest = "unplug", device = "rng" } ]\n'
    )
    async with fakeqemu(  # noqa: SIM117
        *Q35, "-device", "pcie-root-port,id=rp,chassis=1", "-device", "virtio-balloon-pci,id=fixed",
        profile="10.0", runner=runner, scenario=str(scenario),
    ) as machine:  # fmt: skip
        async with Client.of(machine) as client:
            # naive: device_add has succeeded, so it is there
            await client.ask("device_add", driver="virtio-rng-pci", id="rng", bus="rp")
            # careful: listens for what the guest does
            while "device" not in (await client.event("DEVICE_DELETED"))["data"]:
                pass
            with pytest.raises(RuntimeError, match="not found"):
                await client.ask("device_del", id="rng")
            with pytest.raises(Exception, match="hotplugging"):
                machine.guest.unplug("fixed")


@everywhere
async def test_an_event_that_is_lost(fakeqemu: Any, runner: str) -> None:
    async with fakeqemu(*Q35, profile="10.0", runner=runner) as machine:  # noqa: SIM117
        async with Client.of(machine) as client:
            machine.faults.add("lost-event", event="STOP", count=1)
            await client.ask("stop")
            # naive: waits for the event that the stop must bring; careful: asks
            assert (await client.ask("query-status"))["status"] == "paused"
            assert not [each for each in client.events if each["event"] == "STOP"]
            await client.ask("cont")
            await client.ask("stop")
            await client.event("STOP")
            assert not [each for each in client.events if each["event"] == "STOP"]


def test_a_dirty_rate_needs_memory() -> None:
    for wrong, text in (
        ({"dirty-rate": "1G/s"}, "dirty-rate has no effect without memory"),
        ({"memory": "1G", "working-set": "1M"}, "working-set has no effect without dirty-rate"),
    ):
        with pytest.raises(ValueError, match=text):
            FakeQemu("-machine", "none", guest=wrong)
