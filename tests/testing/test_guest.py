"""A guest that does what it is told, and reacts as it was told to."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing import FakeQemu
from fakeqemu.testing.control.server import serve_control
from fakeqemu.testing.errors import QmpError

Q35 = ("-machine", "q35", "-nodefaults", "-display", "none")
PORT = ("-device", "pcie-root-port,id=rp,chassis=1,slot=1")
RNG = ("-device", "virtio-rng-pci,id=rng,bus=rp")


def names(vm: FakeQemu) -> list[str]:
    return [event.name for event in vm.events]


@pytest.mark.parametrize("runner", ["loop", "thread", "process", "fork"])
async def test_verbs_and_manners_work_wherever_the_machine_is(runner: str, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    options = ("-chardev", f"file,id=s,path={serial}", "-serial", "chardev:s")
    async with FakeQemu(
        *Q35, *PORT, *RNG, *options, profile="10.0", runner=runner,
        guest={"unplug": "acknowledge", "powerdown": "shutdown", "delay": 0},
    ) as vm:  # fmt: skip
        vm.guest.print("booted\n")
        await vm.qmp("device_del", id="rng")
        await vm.wait_event("DEVICE_DELETED", device="rng")
        await vm.qmp("system_powerdown")
        assert await vm.wait_exit() == 0
        assert (await vm.wait_event("SHUTDOWN")).data == {
            "guest": True, "reason": "guest-shutdown"
        }  # fmt: skip
    assert serial.read_text() == "booted\n"


async def test_left_alone_it_reacts_to_nothing() -> None:
    options = (*Q35, *PORT, *RNG, "-device", "virtio-balloon-pci")
    async with FakeQemu(*options, profile="10.0", clock="virtual") as vm:
        await vm.qmp("device_del", id="rng")
        await vm.qmp("system_powerdown")
        await vm.qmp("balloon", value=64 << 20)
        await vm.run_until_idle()
        assert names(vm) == ["RESUME", "POWERDOWN"]
        assert (await vm.qmp("query-balloon"))["actual"] == 128 << 20
        vm.guest.unplug("rng")
        assert names(vm)[-2:] == ["DEVICE_DELETED", "DEVICE_DELETED"]


async def test_it_reacts_after_a_while_in_which_it_runs() -> None:
    options = (*Q35, *PORT, *RNG)
    guest = {"unplug": "acknowledge", "delay": 2}
    async with FakeQemu(*options, profile="10.0", clock="virtual", guest=guest) as vm:
        await vm.qmp("device_del", id="rng")
        await vm.advance(1)
        await vm.qmp("stop")
        await vm.advance(5)
        assert "DEVICE_DELETED" not in names(vm)
        await vm.qmp("cont")
        await vm.advance(0.001)
        assert "DEVICE_DELETED" in names(vm)


async def test_a_refused_device_can_be_asked_for_again() -> None:
    guest = {"unplug": "refuse", "delay": 0.5}
    async with FakeQemu(*Q35, *PORT, *RNG, profile="10.0", clock="virtual", guest=guest) as vm:
        await vm.qmp("device_del", id="rng")
        with pytest.raises(QmpError, match="already in the process of unplug"):
            await vm.qmp("device_del", id="rng")
        await vm.advance(1)
        (error,) = [event for event in vm.events if event.name == "DEVICE_UNPLUG_GUEST_ERROR"]
        assert error.data == {"device": "rng", "path": "/machine/peripheral/rng"}
        vm.guest.behave(unplug="acknowledge")
        await vm.qmp("device_del", id="rng")
        await vm.advance(1)
        assert "DEVICE_DELETED" in names(vm)


async def test_the_balloon() -> None:
    options = (*Q35, "-m", "256", "-device", "virtio-balloon-pci")
    guest = {"balloon": "follow", "delay": 1}
    async with FakeQemu(*options, profile="10.0", clock="virtual", guest=guest) as vm:
        await vm.qmp("balloon", value=100 << 20)
        assert (await vm.qmp("query-balloon"))["actual"] == 256 << 20
        await vm.advance(1)
        assert (await vm.qmp("query-balloon"))["actual"] == 100 << 20
        assert vm.events[-1].data == {"actual": 100 << 20}
        vm.guest.balloon("64M")
        assert (await vm.qmp("query-balloon"))["actual"] == 64 << 20
        await vm.qmp("system_reset")
        assert (await vm.qmp("query-balloon"))["actual"] == 256 << 20


@pytest.mark.parametrize(
    ("verb", "event"),
    [
        ("reset", ("RESET", {"guest": True, "reason": "guest-reset"})),
        ("panic", ("GUEST_PANICKED", {"action": "pause"})),
        ("crash_loaded", ("GUEST_CRASHLOADED", {"action": "run"})),
        ("suspend", ("SUSPEND", None)),
        ("hibernate", ("SUSPEND_DISK", None)),
        ("watchdog", ("WATCHDOG", {"action": "reset"})),
    ],
)
async def test_what_it_does_by_itself(verb: str, event: tuple[str, Any]) -> None:
    options = (*Q35, "-action", "panic=pause,shutdown=pause")
    async with FakeQemu(*options, profile="10.0", clock="virtual") as vm:
        getattr(vm.guest, verb)()
        assert event in [(each.name, each.data) for each in vm.events]


async def test_a_guest_that_sleeps_is_woken() -> None:
    async with FakeQemu(*Q35, profile="10.0", clock="virtual") as vm:
        vm.guest.suspend()
        assert (await vm.qmp("query-status"))["status"] == "suspended"
        vm.guest.wakeup()
        assert names(vm)[-2:] == ["SUSPEND", "WAKEUP"]
        assert (await vm.qmp("query-status"))["status"] == "running"


async def test_dirtying_memory_changes_the_course_of_a_migration(fakeqemu: Any) -> None:
    src, dst = await fakeqemu.pair(
        profile="10.0", guest={"memory": "1G", "dirty-rate": 0, "zero-permille": 0,
                               "bandwidth": "100M/s"},
    )  # fmt: skip
    await src.qmp("migrate", uri=dst.migration_uri)
    src.guest.dirty_memory("1G/s", "128M")
    await src.advance(30)
    info = await src.qmp("query-migrate")
    assert info["status"] == "active"
    assert info["ram"]["dirty-sync-count"] > 2
    src.guest.dirty_memory(0)
    await src.run_until_idle()
    assert (await src.qmp("query-migrate"))["status"] == "completed"


async def test_writing_to_a_disk_marks_bitmaps_and_memory_is_read_back() -> None:
    disk = ("-blockdev", "null-co,node-name=n0,size=1048576,read-zeroes=on")
    device = ("-device", "virtio-blk-pci,id=vd0,drive=n0")
    async with FakeQemu(*Q35, *disk, *device, profile="10.0", clock="virtual") as vm:
        await vm.qmp("block-dirty-bitmap-add", node="n0", name="b")
        vm.guest.write_disk("/machine/peripheral/vd0/virtio-backend", size="128K")
        (node,) = await vm.qmp("query-named-block-nodes")
        assert node["dirty-bitmaps"][0]["count"] == 128 << 10
        vm.guest.write_memory(0x1000, "hello")
        assert vm.vm.guest_memory.read(0x1000, 5) == b"hello"


async def test_mistakes_name_what_would_have_been_right() -> None:
    async with FakeQemu(*Q35, profile="10.0", clock="virtual") as vm:
        with pytest.raises(AttributeError, match="did you mean 'panic'"):
            vm.guest.panik()
        with pytest.raises(TypeError, match="unexpected keyword argument 'sise'"):
            vm.guest.balloon(sise=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'size'"):
            vm.guest.balloon()  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="unplug is one of ignore, acknowledge, refuse"):
            vm.guest.behave(unplug="perhaps")
        with pytest.raises(Exception, match="no serial port"):
            vm.guest.print("hello")
    with pytest.raises(ValueError, match="did you mean 'unplug'"):
        FakeQemu(guest={"unplugg": "refuse"})


# -- the agent -----------------------------------------------------------------------------------


def agent_options(path: Path) -> tuple[str, ...]:
    name = "name=org.qemu.guest_agent.0"
    return (
        "-device", "virtio-serial",
        "-chardev", f"socket,id=ga,path={path},server=on,wait=off",
        "-device", f"virtserialport,id=channel0,chardev=ga,{name}",
    )  # fmt: skip


class AgentClient:
    """What a management tool has of the agent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, execute: str, **arguments: Any) -> Any:
        message = {"execute": execute, **({"arguments": arguments} if arguments else {})}
        self.send(json.dumps(message).encode() + b"\n")
        return json.loads(await self.line())

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def line(self) -> bytes:
        return await asyncio.wait_for(self._reader.readline(), 5)

    def close(self) -> None:
        self._writer.close()


async def connect(path: Path) -> AgentClient:
    return AgentClient(*await asyncio.open_unix_connection(path))


async def test_the_agent_answers(tmp_path: Path) -> None:
    path = tmp_path / "ga"
    options = (*Q35, *agent_options(path))
    guest = {"agent": "on", "delay": 0}
    async with FakeQemu(*options, profile="10.0", guest=guest) as vm:
        opened = await vm.wait_event("VSERPORT_CHANGE")
        assert opened.data == {"open": True, "id": "channel0"}
        (port,) = [each for each in await vm.qmp("query-chardev") if each["label"] == "ga"]
        assert port["frontend-open"] is True
        agent = await connect(path)
        assert await agent.ask("guest-ping") == {"return": {}}
        agent.send(b'\xff{"execute": "guest-sync-delimited", "arguments": {"id": 7}}\n')
        assert b"error" in await agent.line()
        assert await agent.line() == b'\xff{"return": 7}\n'
        assert await agent.ask("guest-sync", id=3) == {"return": 3}
        unknown = await agent.ask("guest-what")
        assert unknown["error"]["class"] == "CommandNotFound"
        assert (await agent.ask("guest-sync"))["error"]["desc"] == "Parameter 'id' is missing"
        agent.send(b'{"execute": "guest-shutdown"}\n')
        await vm.wait_exit()
        agent.close()


async def test_few_commands_are_taken_while_file_systems_are_frozen(tmp_path: Path) -> None:
    path = tmp_path / "ga"
    guest = {"agent": "on", "delay": 0}
    async with FakeQemu(*Q35, *agent_options(path), profile="11.1", guest=guest) as vm:
        await vm.wait_event("VSERPORT_CHANGE")
        agent = await connect(path)
        assert await agent.ask("guest-fsfreeze-freeze") == {"return": 0}
        assert await agent.ask("guest-fsfreeze-status") == {"return": "frozen"}
        assert (await agent.ask("guest-get-time"))["error"]["desc"] == (
            "Command guest-get-time has been disabled: the agent is in frozen state"
        )
        info = (await agent.ask("guest-info"))["return"]["supported_commands"]
        enabled = {each["name"] for each in info if each["enabled"]}
        assert enabled == {
            "guest-ping", "guest-info", "guest-sync", "guest-sync-delimited",
            "guest-fsfreeze-status", "guest-fsfreeze-thaw",
        }  # fmt: skip
        await agent.ask("guest-fsfreeze-thaw")
        assert "return" in await agent.ask("guest-get-time")
        agent.close()


@pytest.mark.parametrize("profile", ["7.2", "10.0"])
async def test_which_output_of_a_program_is_kept(tmp_path: Path, profile: str) -> None:
    path = tmp_path / "ga"
    guest = {"agent": "on", "delay": 0}
    async with FakeQemu(*Q35, *agent_options(path), profile=profile, guest=guest) as vm:
        vm.guest.program("df", output="o", errors="e")
        agent = await connect(path)

        async def run(capture: Any = None, **more: Any) -> Any:
            more |= {} if capture is None else {"capture-output": capture}
            answer = await agent.ask("guest-exec", path="df", **more)
            if "error" in answer:
                return answer["error"]["desc"]
            found = await agent.ask("guest-exec-status", pid=answer["return"]["pid"])
            return {name: data for name, data in found["return"].items() if "-data" in name}

        both = {"out-data": "bw==", "err-data": "ZQ=="}
        assert await run() == await run(capture=False) == {}
        assert await run(capture=True) == both
        kept = {
            "none": {}, "stdout": {"out-data": "bw=="}, "stderr": {"err-data": "ZQ=="},
            "separated": both, "merged": {"out-data": "b2U="},
            "all": "Parameter 'capture-output' does not accept value 'all'",
        }  # fmt: skip
        old = "Invalid parameter type for 'capture-output', expected: boolean"
        for mode, found in kept.items():
            assert await run(mode) == (old if profile == "7.2" else found)
        assert await run(**{"input-data": "a b"}) == "Base64 data contains invalid characters"
        text = "Invalid parameter type for 'env[1]', expected: string"
        assert await run(env=["A=b", 1]) == text
        given = await agent.ask("guest-exec", path="cat", **{
            "input-data": "YWJ\njZGVm=", "capture-output": True})  # fmt: skip
        found = await agent.ask("guest-exec-status", pid=given["return"]["pid"])
        assert found["return"]["out-data"] == "YWJjZGVm"
        # the guest has no files
        given = await agent.ask("guest-exec", path="/bin/cat", arg=["-", "/a"], **{
            "capture-output": True})  # fmt: skip
        found = await agent.ask("guest-exec-status", pid=given["return"]["pid"])
        assert found["return"]["exitcode"] == 1
        said = b64decode(found["return"]["err-data"])
        assert said == b"cat: /a: No such file or directory\n"
        agent.close()


async def test_without_an_agent_the_port_stays_closed_and_input_waits(tmp_path: Path) -> None:
    path = tmp_path / "ga"
    async with FakeQemu(*Q35, *agent_options(path), profile="10.0") as vm:
        (port,) = [each for each in await vm.qmp("query-chardev") if each["label"] == "ga"]
        assert port["frontend-open"] is False
        agent = await connect(path)
        agent.send(b'{"execute": "guest-ping"}\n')
        await vm.qmp("query-status")
        vm.guest.behave(agent="on")
        assert await agent.line() == b'{"return": {}}\n'
        await vm.qmp("system_reset")
        closed = await vm.wait_event("VSERPORT_CHANGE", open=False)
        assert closed.data == {"open": False, "id": "channel0"}
        agent.close()


async def test_a_closed_port_stays_closed_when_its_backend_is_changed(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    async with FakeQemu(*Q35, *agent_options(first), profile="10.0") as vm:
        address = {"type": "unix", "data": {"path": str(second)}}
        data = {"addr": address, "server": True, "wait": False}
        await vm.qmp("chardev-change", id="ga", backend={"type": "socket", "data": data})
        agent = await connect(second)
        agent.send(b'{"execute": "guest-ping"}\n')
        await vm.qmp("query-status")
        assert vm.vm.chardevs["ga"].wants_input is False
        vm.guest.behave(agent="on")
        assert await agent.line() == b'{"return": {}}\n'
        agent.close()


# -- scenario files and the control socket -------------------------------------------------------


async def test_a_scenario_tells_the_guest_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(
        """
        profile = "10.0"
        options = ["-machine", "q35", "-nodefaults", "-chardev", "ringbuf,id=s",
                   "-serial", "chardev:s"]
        [guest]
        powerdown = "shutdown"
        delay = 3
        [[stages]]
        when = { command = "query-name" }
        then = [{ guest = "print", text = "who asks?" }]
        """
    )
    async with FakeQemu(scenario=file, clock="virtual") as vm:
        await vm.qmp("query-name")
        await vm.run_until_idle()
        assert await vm.qmp("ringbuf-read", device="s", size=100) == "who asks?"
        await vm.qmp("system_powerdown")
        await vm.advance(2)
        assert vm.exit_code is None
        await vm.advance(1)
        assert vm.exit_code == 0


async def test_the_control_socket_passes_parameters(tmp_path: Path) -> None:
    from qemu.qmp import QMPClient

    path = tmp_path / "control"
    options = (*Q35, "-device", "virtio-balloon-pci")
    before_boot = [serve_control(f"unix:{path}")]
    async with FakeQemu(*options, profile="10.0", clock="virtual", before_boot=before_boot) as vm:
        control = QMPClient("control")
        await control.connect(str(path))
        await control.execute("guest", {"verb": "balloon", "parameters": {"size": "32M"}})
        assert (await vm.qmp("query-balloon"))["actual"] == 32 << 20
        with pytest.raises(Exception, match="did you mean"):
            await control.execute("guest", {"verb": "baloon"})
        await control.disconnect()
