"""The control socket: QMP on the outside, a tester's verbs on the inside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import QMPClient
from qemu.qmp.error import QMPError

from fakeqemu.testing import FakeQemu
from fakeqemu.testing.control.commands import COMMANDS, entries
from fakeqemu.testing.control.server import control_address, serve_control
from tests.support.waiting import listens, until_elsewhere

NONE = ("-machine", "none", "-nodefaults", "-display", "none")


@pytest.fixture
async def pair(tmp_path: Path) -> Any:
    """A machine with a virtual clock, and a client on its control socket."""
    path = tmp_path / "control"
    async with FakeQemu(
        *NONE, profile="10.0", clock="virtual", before_boot=[serve_control(f"unix:{path}")]
    ) as machine:
        client = QMPClient("control")
        await client.connect(str(path))
        yield machine, client
        with contextlib.suppress(EOFError):
            await client.disconnect()
    assert not path.exists()


async def test_it_describes_itself(pair: Any) -> None:
    _, control = pair
    assert control.greeting.QMP.version["package"] == "fakeqemu control"
    assert await control.execute("query-qmp-schema") == entries()
    names = {entry["name"] for entry in await control.execute("query-commands")}
    assert names == set(COMMANDS)
    assert (await control.execute("query-machines"))[0]["status"] == "running"


async def test_help(pair: Any) -> None:
    (told,) = await pair[1].execute("help", {"command": "advance"})
    assert told == {
        "name": "advance",
        "arguments": {"machine": "str?", "seconds": "number"},
        "help": "move a virtual clock so many seconds on; nanoseconds of the clock then",
    }
    everything = await pair[1].execute("help")
    assert {each["name"] for each in everything} == set(COMMANDS)
    assert all(each["help"] for each in everything)


QMP_SHELL = shutil.which("qmp-shell", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(QMP_SHELL is None, reason="qmp-shell comes with qemu.qmp")
async def test_qmp_shell_drives_it(pair: Any, tmp_path: Path) -> None:
    machine, _ = pair
    lines = (
        "fault name=error parameters={'command':'query-name','desc':'told'}",
        "event name=BALLOON_CHANGE data={'actual':4096}",
        "advance seconds=1.5",
        "query-machines",
        "guest verb=panik",
    )
    assert QMP_SHELL is not None
    shell = await asyncio.create_subprocess_exec(
        QMP_SHELL, "-p", str(tmp_path / "control"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    async with asyncio.timeout(20):
        out, errors = await shell.communicate("\n".join(lines).encode() + b"\n")
    said = out.decode()
    assert "did you mean 'panic'?" in said, errors
    assert '"profile": "10.0"' in said
    assert machine.now() == 1.5
    assert machine.events[-1].data == {"actual": 4096}
    machine.verifier.allow.append("query-name")
    with pytest.raises(QMPError, match="told"):
        await machine.client.execute("query-name")
    with pytest.raises(QMPError):
        await machine.client.execute("fault", {"name": "late"})  # QMP itself stays clean


async def test_a_pattern_waits_for_all_that_it_matches(pair: Any) -> None:
    _, control = pair
    ends = await control.execute("advance", {"machine": "m*", "seconds": 1})
    assert ends == {"machine": 10**9}


async def test_faults(pair: Any) -> None:
    machine, control = pair
    (added,) = await control.execute("fault", {"name": "late", "parameters": {"count": 1}})
    (fault,) = await control.execute("query-faults")
    assert fault == added == {
        "number": 1, "name": "delay", "hits": 0, "seconds": 180.0, "count": 1
    }  # fmt: skip
    await control.execute("remove-fault", {"number": added["number"]})
    assert machine.faults.list() == []
    error = {"name": "error", "parameters": {"command": "query-name", "desc": "told"}}
    (added,) = await control.execute("fault", error)
    with pytest.raises(QMPError, match="told"):
        await machine.client.execute("query-name")
    await control.execute("remove-fault", {"number": added["number"]})
    assert await machine.client.execute("query-name") == {}
    machine.verifier.allow.append("query-name")


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("fault", {"name": "lat"}, "no fault or scenario 'lat'; did you mean 'late'?"),
        ("faul", {}, "The command faul has not been found"),
        ("fault", {"nam": "x"}, "Parameter 'name' is missing"),
        ("remove-fault", {"number": 9}, "no fault with number 9"),
        ("event", {"name": "STOPP"}, "did you mean 'STOP'?"),
        ("guest", {"verb": "panik"}, "no guest verb 'panik'; did you mean 'panic'?"),
        ("event", {"name": "BALLOON_CHANGE", "data": {}}, "actual is missing"),
        ("stub", {"command": "query-name", "return": {"nam": 1}}, "nam is not in the schema"),
        ("event", {"name": "RTC_CHANGE"}, "data is no object: null"),
        ("advance", {"seconds": 1e300}, "seconds is more than a clock counts"),
        ("stop-process", {"seconds": 1e300}, "seconds is more than a clock counts"),
        (
            "fault",
            {"name": "delay", "parameters": {"command": "stop", "seconds": 1e300}},
            "seconds of fault 'delay' is more than a clock counts",
        ),
        (
            "stage",
            {"when": {"time": 1e300}, "then": ["clear-faults"]},
            "time takes a number from 0 to 9223372036",
        ),
        ("help", {"command": "faul"}, "no command 'faul'; did you mean 'fault'?"),
        ("now", {"machine": "mchine"}, "no machine 'mchine'; did you mean 'machine'?"),
    ],
)
async def test_mistakes(pair: Any, command: str, arguments: Any, text: str) -> None:
    with pytest.raises(QMPError) as caught:
        await pair[1].execute(command, arguments)
    assert text in str(caught.value)


async def test_events_time_guest_stubs_journal(pair: Any) -> None:
    machine, control = pair
    await control.execute("event", {"name": "WAKEUP"})
    assert machine.events[-1].name == "WAKEUP"
    before = await control.execute("now")
    await control.execute("advance", {"seconds": 2.5})
    assert await control.execute("now") == before + 2_500_000_000
    number = await control.execute("stub", {"command": "query-name", "return": {"name": "x"}})
    assert await machine.qmp("query-name") == {"name": "x"}
    await control.execute("remove-stub", {"number": number})
    await control.execute("stub", {"command": "stop", "desc": "No", "times": 1})
    with pytest.raises(Exception, match="No"):
        await machine.qmp("stop")
    assert await machine.qmp("query-name") == {}
    stage = {"when": {"event": "STOP"}, "then": [{"event": "RTC_CHANGE", "data": {
        "offset": 1, "qom-path": "/machine"}}]}
    await control.execute("stage", stage)
    await machine.qmp("stop")
    await machine.wait_event("RTC_CHANGE")
    journal = await control.execute("query-journal", {"kind": "command", "name": "stop"})
    assert len(journal) == 2
    await control.execute("run-until-idle")
    assert await control.execute("run-until-idle") == 0
    await control.execute("guest", {"verb": "shutdown"})
    await machine.wait_event("SHUTDOWN")


def test_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert control_address("unix:/x") == ("unix", "/x")
    assert control_address("tcp::5") == ("tcp", ("127.0.0.1", 5))
    assert control_address("tcp:[::1]:5") == ("tcp", ("::1", 5))
    for wrong in ("/x", "unix:", "tcp:x", "tcp:127.0.0.1:70000"):
        with pytest.raises(ValueError, match="unix:PATH or tcp:HOST:PORT"):
            control_address(wrong)
    monkeypatch.delenv("FAKEQEMU_CONTROL_TOKEN", raising=False)
    for open_to_others in ("tcp:0.0.0.0:5", "tcp:[::]:5", "tcp:example.org:5"):
        with pytest.raises(ValueError, match="FAKEQEMU_CONTROL_TOKEN"):
            control_address(open_to_others)
    monkeypatch.setenv("FAKEQEMU_CONTROL_TOKEN", "x")
    assert control_address("tcp:0.0.0.0:5") == ("tcp", ("0.0.0.0", 5))


class Tcp:
    """A machine whose control socket is TCP, and who speaks to it in lines."""

    def __init__(self, machine: FakeQemu) -> None:
        said = machine.stderr.getvalue()
        self.port = int(said.split("control socket at tcp:127.0.0.1:")[1].split()[0])

    async def say(self, *lines: str) -> list[dict[str, Any]]:
        """What comes back until it hangs up, or a reply to each line."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\n".join((*lines, "")).encode())
        read = [await reader.readline() for _ in range(len(lines) + 1)]
        found = [json.loads(line) for line in read if line]
        if len(found) <= len(lines):
            assert await reader.read() == b""
        writer.close()
        return found


@pytest.fixture
async def tcp() -> Any:
    prepare = serve_control("tcp:127.0.0.1:0")
    async with FakeQemu(*NONE, profile="10.0", before_boot=[prepare], client=False) as machine:
        yield Tcp(machine)


async def test_over_tcp_on_the_loopback(tcp: Tcp) -> None:
    said = await tcp.say('{"execute": "qmp_capabilities"}', '{"execute": "query-machines"}')
    assert said[-1]["return"][0]["name"] == "machine"


async def test_a_token_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKEQEMU_CONTROL_TOKEN", "secr\u00e9t")
    prepare = serve_control("tcp:127.0.0.1:0")
    query = '{"execute": "query-machines"}'
    async with FakeQemu(*NONE, profile="10.0", before_boot=[prepare], client=False) as machine:
        tcp = Tcp(machine)
        for wrong in ("", '"token": "secret"', '"token": ""'):
            negotiate = f'{{"execute": "qmp_capabilities", "arguments": {{{wrong}}}}}'
            said = await tcp.say(negotiate, query, query)
            assert "token" in said[1]["error"]["desc"]
            assert all("return" not in each for each in said)
        # what a browser can be made to send
        assert len(await tcp.say("POST / HTTP/1.1", "", query, query)) < 4
        right = '{"execute": "qmp_capabilities", "arguments": {"token": "secr\u00e9t"}}'
        assert "return" in (await tcp.say(right, query))[-1]


async def test_the_journal_as_it_grows(pair: Any) -> None:
    machine, control = pair
    (last,) = await control.execute("query-journal", {"last": 1})
    assert (await control.execute("query-journal", {"last": 3}))[-1] == last
    asked = asyncio.ensure_future(
        control.execute("query-journal", {"first": last["number"] + 1, "wait": 20})
    )
    for _ in range(20):  # it has been asked, and is not answered
        await asyncio.sleep(0)
    assert not asked.done()
    machine.send_event("RESUME")
    assert [each["name"] for each in await asked] == ["RESUME"]
    late = {"kind": "event", "name": "STOP", "wait": 0.05}
    assert await control.execute("query-journal", late) == []
    for wrong, text in (({"kind": "evnt"}, "did you mean 'event'"), ({"last": -1}, "negative")):
        with pytest.raises(QMPError, match=text):
            await control.execute("query-journal", wrong)


async def test_beside_a_process(tmp_path: Path) -> None:
    control, qmp = tmp_path / "control", tmp_path / "qmp"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fakeqemu", "run", "--control", f"unix:{control}", "--",
        *NONE, "-qmp", f"unix:{qmp},server=on,wait=off",
        stderr=subprocess.PIPE,
    )  # fmt: skip
    await until_elsewhere(lambda: listens(qmp), "the QMP socket")
    async with asyncio.timeout(20):
        client = QMPClient("control")
        await client.connect(str(control))
        await client.execute("fault", {"name": "error", "parameters": {"command": "stop"}})
        reader, writer = await asyncio.open_unix_connection(qmp)
        await reader.readline()
        writer.write(b'{"execute": "qmp_capabilities"}{"execute": "stop"}')
        await reader.readline()
        assert json.loads(await reader.readline())["error"]["desc"] == "Input/output error"
        writer.close()
        # a stopped process is really stopped
        await client.execute("stop-process", {"seconds": 0.05})
        await client.execute("query-machines")
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert b"terminating on signal 15" in errors
    assert not control.exists()
    with pytest.raises(Exception):  # noqa: B017
        await client.disconnect()
