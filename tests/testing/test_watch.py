"""`fakeqemu watch`: the view that journals give, in a terminal and as a page."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.cli import main
from fakeqemu.journal import JournalEntry
from fakeqemu.testing import FakeQemu, Fleet
from fakeqemu.testing.control.client import ControlClient
from fakeqemu.testing.control.server import serve_control
from fakeqemu.testing.control.watch import MachineView, Watcher, amount, bar, shown
from fakeqemu.testing.control.watch_web import WatchServer

ROOT = Path(__file__).parents[2]
NONE = ("-machine", "none", "-nodefaults", "-display", "none")


def folded(*entries: tuple[str, str, dict[str, Any]]) -> MachineView:
    view = MachineView("vm", "10.0", "running")
    for number, (kind, name, data) in enumerate(entries):
        view.add(number, JournalEntry(number * 10**9, kind, name, data))
    return view


def test_a_migration_under_way() -> None:
    view = folded(
        ("migration", "setup", {"side": "outgoing"}),
        ("migration-pass", "1", {"remaining": 4 << 30}),
        ("migration", "active", {"side": "outgoing"}),
        ("migration-pass", "2", {"remaining": 1 << 30}),
    )
    assert (view.share, view.passes, view.migrates) == (0.75, 2, True)
    assert list(view.plot) == [(10**9, 4 << 30), (3 * 10**9, 1 << 30)]
    text = "\n".join(shown({"vm": view}, 200))
    assert f"outgoing migration: active  {bar(0.75)} 1.0 GiB left, pass 2" in text
    view.add(4, JournalEntry(5, "migration", "completed", {"side": "outgoing"}))
    assert (view.left, view.migrates, view.next) == (0, False, 5)
    assert max(map(len, shown({"vm": view}, 30))) == 30


def test_jobs_faults_and_commands() -> None:
    view = folded(
        ("command", "stop", {"arguments": {}}),
        ("job", "b", {"type": "backup", "state": "running"}),
        ("job", "c", {"type": "commit", "state": "running"}),
        ("job", "c", {"type": "commit", "state": "concluded"}),
        ("fault", "delay", {"number": 1}),
    )
    assert view.jobs == {"b": ("backup", "running")}
    text = "\n".join(shown({"vm": view}, 200))
    assert text.startswith("1 of 1 machines, 0 commands/s, 1 faults struck\n")
    assert "job b: backup running" in text and "1 faults, last: delay at 4.000 s" in text
    assert text.count("\n    ") == 5, "the last lines of the journal"


def test_amounts() -> None:
    assert [amount(each) for each in (0, 1023, 1536, 5 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 TiB"
    ]  # fmt: skip
    assert bar(0).startswith("[....") and bar(1).endswith("####] 100%")


async def test_once_over_a_control_socket(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"unix:{tmp_path}/control"
    async with FakeQemu(*NONE, profile="10.0", before_boot=[serve_control(address)]) as machine:
        await machine.client.execute("stop")
        assert await asyncio.to_thread(main, ["watch", address, "--once"]) == 0
        said = capsys.readouterr().out
        assert said.startswith("1 of 1 machines, ")
        assert "machine  10.0  paused" in said and "reply        stop" in said
        before = len(machine.journal)
        await asyncio.to_thread(main, ["watch", address, "--once"])
        assert len(machine.journal) == before, "looking changes nothing"


async def test_a_fleet(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/control"
    async with Fleet.of(12, *NONE, profile="10.0", control=address) as fleet:

        def look() -> tuple[list[str], list[str]]:
            with ControlClient(address) as control:
                watcher = Watcher(control)
                before = shown(watcher.look(), 100)
                return before, shown(watcher.look(), 100)

        fleet.happen({"exit": 3}, machines="vm-7")
        before, after = await asyncio.to_thread(look)
        assert before[0].startswith("11 of 12 machines")
        assert len(before) == len(after)


@pytest.fixture
def server() -> Any:
    with WatchServer("tcp:127.0.0.1:0") as server:
        yield server


def get(url: str, **headers: str) -> Any:
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20)


async def test_a_machine_that_was_started_again(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'c'}"
    async with Fleet.of(2, *NONE, profile="10.0", control=address) as fleet:
        loop = asyncio.get_running_loop()
        following = subprocess.Popen(
            [sys.executable, "-m", "fakeqemu", "journal", address, "--machine", "vm-0", "--follow",
             "--kind", "command"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert following.stdout is not None
        try:
            with await loop.run_in_executor(None, ControlClient, address, "") as control:
                watcher = Watcher(control)
                for number in range(3):
                    for _ in range(number + 1):
                        await fleet["vm-0"].qmp("query-name")
                    views = await loop.run_in_executor(None, watcher.look)
                    assert (views["vm-0"].run, views["vm-0"].commands) == (number + 1, number + 1)
                    for _ in range(number + 1):
                        async with asyncio.timeout(20):
                            line = await loop.run_in_executor(None, following.stdout.readline)
                        assert "query-name" in line
                    # so quickly that the new one's journal is as long as the old one's
                    await fleet.stop_one("vm-0")
                    await fleet.start_one("vm-0")
        finally:
            following.kill()
            following.wait()
            following.stdout.close()


def test_the_page_gets_what_changes(server: WatchServer) -> None:
    with get(server.url) as page:
        assert b'new EventSource("events")' in page.read()
    server.show({"vm": folded(("fault", "delay", {}))})
    with get(f"{server.url}events") as events:
        assert events.headers["Content-Type"] == "text/event-stream"
        first = json.loads(events.readline().removeprefix(b"data: "))
        assert (first[0]["name"], first[0]["struck"]) == ("vm", 1)
        events.readline()
        server.show({"vm": folded(("fault", "delay", {}))})  # nothing new
        server.show({"vm": folded(("fault", "delay", {}), ("fault", "drop", {}))})
        second = json.loads(events.readline().removeprefix(b"data: "))
        assert second[0]["struck"] == 2


def test_the_page_is_for_this_host_alone(server: WatchServer) -> None:
    for other in ("evil.example:80", "evil.example", "127.0.0.1.evil.example"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(server.url, Host=other)
    for own in ("localhost:8000", "127.0.0.1"):
        with get(server.url, Host=own) as page:
            assert page.status == 200
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{server.url}x")
    for wrong in ("tcp:0.0.0.0:0", "unix:/x"):
        with pytest.raises(ValueError, match=r"--web takes tcp:127.0.0.1:PORT"):
            WatchServer(wrong)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["unix:/nonexistent/c"], "unix:/nonexistent/c: No such file or directory"),
        (["x", "--once", "--web", "tcp::0"], "--once prints and --web serves a page"),
    ],
)
def test_wrong_use(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"fakeqemu: {text}")


@pytest.mark.parametrize("command", [["watch", "--once"], ["journal"]])
def test_a_socket_that_hangs_up(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other"

    def serve(listener: socket.socket) -> None:
        listener.accept()[0].close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(20)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        assert main([*command, f"unix:{path}"]) == 2
        thread.join()
    said = f"fakeqemu: unix:{path} hung up before it answered\n"
    assert capsys.readouterr().err == said


async def test_it_ends_with_the_machine(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/control"
    async with FakeQemu(*NONE, profile="10.0", before_boot=[serve_control(address)]):
        watching = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fakeqemu", "watch", address, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert watching.stdout is not None
        async with asyncio.timeout(30):
            assert (await watching.stdout.readline()).startswith(b"1 of 1 machines")
    async with asyncio.timeout(30):
        _, said = await watching.communicate()
    assert (watching.returncode, said) == (0, b"fakeqemu: the control socket has ended\n")
