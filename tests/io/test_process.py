"""The process from outside: what a tool that starts an emulator relies on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ExecuteError, QMPClient

from fakeqemu.io.process.launcher import write_launcher
from tests.support.waiting import listens, until_elsewhere

NONE = ("-machine", "none", "-nodefaults", "-display", "none")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bin")
    return str(write_launcher(str(folder), "qemu-system-x86_64", "10.0", ["--check-replies"]))


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="fq-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


Start = Callable[..., Coroutine[Any, Any, asyncio.subprocess.Process]]


@pytest.fixture
async def start(emulator: str) -> AsyncIterator[Start]:
    started: list[asyncio.subprocess.Process] = []

    async def run(*options: str, **settings: Any) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            emulator,
            *NONE,
            *options,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **settings,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def connect(path: Path) -> QMPClient:
    await until_elsewhere(lambda: listens(path), f"a listener at {path}")
    client = QMPClient("test")
    await client.connect(str(path))
    return client


async def hang_up(client: QMPClient) -> None:
    """Disconnect; the client reports here that the other side went first."""
    with contextlib.suppress(EOFError, ConnectionError):
        await client.disconnect()


async def test_a_client_and_quit(start: Start, short: Path) -> None:
    process = await start("-qmp", f"unix:{short}/q,server=on,wait=off")
    client = await connect(short / "q")
    assert (await client.execute("query-status"))["status"] == "running"
    await client.execute("quit")
    assert await process.wait() == 0
    await hang_up(client)
    assert not (short / "q").exists()


async def test_a_signal_ends_it_and_is_reported(start: Start, short: Path) -> None:
    process = await start(
        "-no-shutdown", "-qmp", f"unix:{short}/q,server=on,wait=off", "-pidfile", f"{short}/pid"
    )
    client = await connect(short / "q")
    assert (short / "pid").read_text() == f"{process.pid}\n"
    process.terminate()
    _, error = await process.communicate()
    assert process.returncode == 0
    start_of_line = f"qemu-system-x86_64: terminating on signal 15 from pid {os.getpid()} ("
    assert error.decode().startswith(start_of_line)
    assert list(short.iterdir()) == []
    await hang_up(client)


async def test_being_killed_leaves_files(start: Start, short: Path) -> None:
    process = await start(
        "-qmp", f"unix:{short}/q,server=on,wait=off", "-pidfile", f"{short}/pid"
    )
    client = await connect(short / "q")
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert sorted(path.name for path in short.iterdir()) == ["pid", "q"]
    await hang_up(client)


async def test_a_late_fault_leaves_the_socket_file(start: Start, short: Path) -> None:
    process = await start(
        "-qmp", f"unix:{short}/q,server=on,wait=off", "-mon", "chardev=nope,mode=control"
    )
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.decode() == (
        'qemu-system-x86_64: -mon chardev=nope,mode=control: chardev "nope" not found\n'
    )
    assert (short / "q").exists()


async def test_a_failed_start_does_not_tell_of_connections(start: Start, short: Path) -> None:
    """They are made in threads, whose results the main loop tells: that never ran."""
    process = await start(
        "-chardev", f"socket,id=c,path={short}/nobody,reconnect-ms=1000",
        "-mon", "chardev=nope,mode=control",
    )
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.decode() == (
        'qemu-system-x86_64: -mon chardev=nope,mode=control: chardev "nope" not found\n'
    )


async def test_a_descriptor_that_was_not_passed_is_no_vhost(start: Start) -> None:
    device = "vhost-scsi-pci,wwpn=naa.1,vhostfd=6789"
    process = await start("-machine", "q35", "-device", device)
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.decode() == (
        f"qemu-system-x86_64: -device {device}: vhost_set_owner failed: Bad file descriptor\n"
    )


async def test_a_second_start_finds_the_pid_file_locked(start: Start, short: Path) -> None:
    await start("-qmp", f"unix:{short}/q,server=on,wait=off", "-pidfile", f"{short}/pid")
    client = await connect(short / "q")
    second = await start("-pidfile", f"{short}/pid")
    _, error = await second.communicate()
    assert (second.returncode, error.decode()) == (
        1,
        "qemu-system-x86_64: cannot create PID file: Cannot lock pid file:"
        " Resource temporarily unavailable\n",
    )
    await hang_up(client)


async def test_a_daemon_is_ready_when_its_parent_leaves(start: Start, short: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    process = await start(
        "-daemonize",
        "-qmp",
        f"unix:{short}/q,server=on,wait=off",
        "-pidfile",
        f"{short}/pid",
        pass_fds=[theirs.fileno()],
    )
    _, error = await process.communicate()
    assert (process.returncode, error) == (0, b"")
    pid = int((short / "pid").read_text())
    assert pid != process.pid
    for number in range(3):
        assert Path(f"/proc/{pid}/fd/{number}").readlink() == Path("/dev/null")
    inherited = Path(f"/proc/{pid}/fd/{theirs.fileno()}")
    assert str(inherited.readlink()).startswith("socket:")
    client = QMPClient("test")
    await client.connect(str(short / "q"))
    await client.execute("quit")
    await hang_up(client)
    await until_elsewhere(lambda: not (short / "pid").exists(), "the end of the daemon")
    ours.close()
    theirs.close()


async def test_a_daemon_in_mode_cpr_exec_serves_but_never_lets_its_parent_go(short: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fakeqemu", "run", "--profile", "11.1", "--", *NONE,
        "-daemonize", "-global", "migration.mode=cpr-exec", "-incoming", "defer",
        "-qmp", f"unix:{short}/q,server=on,wait=off", "-pidfile", f"{short}/pid",
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    client = await connect(short / "q")
    assert (await client.execute("query-status"))["status"] == "inmigrate"
    # it is past the end of its boot, and its parent still waits
    assert process.returncode is None
    pid = int((short / "pid").read_text())
    assert Path(f"/proc/{pid}/fd/2").readlink() != Path("/dev/null")
    await client.execute("quit")
    await hang_up(client)
    async with asyncio.timeout(20):
        assert await process.wait() == 1


async def test_a_daemon_that_fails_says_so_through_its_parent(start: Start) -> None:
    process = await start("-daemonize", "-qmp", "unix:/nowhere/q,server=on,wait=off")
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.decode() == (
        "qemu-system-x86_64: -qmp unix:/nowhere/q,server=on,wait=off:"
        " Failed to bind socket to /nowhere/q: No such file or directory\n"
    )


async def test_waiting_for_a_client_keeps_default_signals(start: Start, short: Path) -> None:
    process = await start("-qmp", f"unix:{short}/q,server=on,wait=on")
    assert process.stderr is not None
    line = await process.stderr.readline()
    assert b"info: QEMU waiting for connection on: disconnected:unix:" in line
    process.terminate()
    assert await process.wait() == -signal.SIGTERM
    assert (short / "q").exists()


async def test_a_client_that_listens(start: Start, short: Path) -> None:
    client = QMPClient("test")
    await client.start_server(str(short / "q"))
    process = await start(
        "-chardev", f"socket,id=m,path={short}/q", "-mon", "chardev=m,mode=control"
    )
    async with asyncio.timeout(10):
        await client.accept()
    assert (await client.execute("query-status"))["running"] is True
    await client.execute("quit")
    assert await process.wait() == 0
    await hang_up(client)


async def test_a_client_on_a_passed_descriptor(start: Start) -> None:
    ours, theirs = socket.socketpair()
    process = await start(
        "-chardev",
        f"socket,id=m,fd={theirs.fileno()}",
        "-mon",
        "chardev=m,mode=control",
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    client = QMPClient("test")
    async with asyncio.timeout(10):
        await client.connect(ours)
    assert (await client.execute("query-status"))["running"] is True
    await client.execute("quit")
    assert await process.wait() == 0
    await hang_up(client)


async def test_descriptors_sent_by_a_client(start: Start, short: Path) -> None:
    process = await start("-qmp", f"unix:{short}/q,server=on,wait=off")

    def holds_file() -> bool:
        fds = Path(f"/proc/{process.pid}/fd").iterdir()
        return short / "file" in [fd.readlink() for fd in fds]

    client = await connect(short / "q")
    with (short / "file").open("w") as file:
        client.send_fd_scm(file.fileno())
        await client.execute("getfd", {"fdname": "f"})
    assert holds_file()
    await client.execute("closefd", {"fdname": "f"})
    assert not holds_file()
    await hang_up(client)


def test_the_shell_of_qemu_qmp(emulator: str, short: Path) -> None:
    """`qmp-shell` runs a command it reads from its standard input."""
    process = subprocess.Popen(
        [emulator, *NONE, "-qmp", f"unix:{short}/q,server=on,wait=off"],
        stdin=subprocess.DEVNULL,
    )
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            while probe.connect_ex(str(short / "q")):
                os.sched_yield()
        done = subprocess.run(
            [sys.executable, "-m", "qemu.qmp.qmp_shell", str(short / "q")],
            input="query-status\nmigrate-set-parameters multifd-channels=3\nquit\n",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert "Connected to QEMU 10.0.13" in done.stdout
        assert json.dumps({"return": {"status": "running", "running": True}})[:10] in done.stdout
        assert '"running": true' in done.stdout
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_starting_is_quick_because_little_is_imported(emulator: str) -> None:
    """The process needs neither asyncio nor the client library."""
    command = Path(emulator).read_text().splitlines()[-1]
    assert command.startswith("exec ")
    interpreter = command.split(" ")[1]
    root = str(Path(__file__).parents[2])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); import fakeqemu.io.process.process,"
        "fakeqemu.qmp.monitor, fakeqemu.commands; print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [interpreter, "-IS", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "qemu", "subprocess", "threading", "argparse", "ctypes"}


_BECOMES = """
import sys
from fakeqemu.cli import main
from fakeqemu.io.process import privileges
from fakeqemu.qapi.errors import QapiError

def become(user):
    # from now on nothing can be imported
    sys.meta_path.clear()
    raise QapiError("as " + user)

privileges.become = become
sys.exit(main())
"""


def test_a_user_out_of_whose_reach_python_is() -> None:
    argv = ("run", "--profile", "10.0", "--", *NONE, "-run-with", "user=root")
    ended = subprocess.run(
        [sys.executable, "-c", _BECOMES, *argv],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert [line.partition(": ")[2] for line in ended.stderr.splitlines()] == ["as root"]


async def test_it_runs_under_asyncios_debug_mode(short: Path) -> None:
    """asyncio then checks threads and callbacks, and says what it does not like."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fakeqemu", "run", "--profile", "10.0", "--", *NONE,
        "-qmp", f"unix:{short}/q,server=on,wait=off", "-chardev", "pty,id=p",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
    )  # fmt: skip
    client = await connect(short / "q")
    assert (await client.execute("query-status"))["status"] == "running"
    process.terminate()
    _, error = await process.communicate()
    assert process.returncode == 0
    lines = error.decode().splitlines()
    # slow callbacks are named too; how slow they are is the host's affair
    assert [line for line in lines if not line.startswith("Executing ")] == [lines[-1]]
    assert "terminating on signal 15" in lines[-1]
    await hang_up(client)


_LEAKS = """
import sys
from fakeqemu.io.process.process import ProcessOptions, run_process
from fakeqemu.profile import Profile

def prepare(vm):
    vm.process.on_main_loop.append(lambda: vm.host.loop.call_soon(lambda: 1 // 0))
    vm.runstate.listen(lambda _old, new: [][0] if new == "paused" else None)

sys.exit(run_process(sys.argv[1:], Profile.load("10.0"), ProcessOptions(before_boot=[prepare])))
"""


async def test_a_bug_is_a_line_on_standard_error_and_ends_nothing(short: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LEAKS, *NONE, "-qmp", f"unix:{short}/q,server=on,wait=off",
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    client = await connect(short / "q")
    with pytest.raises(ExecuteError, match="internal error of fakeqemu"):
        await client.execute("stop")
    await client.execute("quit")
    _, error = await process.communicate()
    assert process.returncode == 0
    start = "qemu-system-x86_64: fakeqemu: internal error: "
    assert error.decode().splitlines() == [
        f"{start}ZeroDivisionError at <string>:7 (<lambda>)",
        f"{start}IndexError at <string>:8 (<lambda>)",
    ]
    await hang_up(client)


_FAILS = """
import sys
from fakeqemu import cli
from fakeqemu.WHERE import NAME as owner

def broken(*_args, **_keywords):
    raise KeyError("secret")

owner.METHOD = broken
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("where", "name", "method"),
    [
        ("io.process", "process", "parse_command_line"),
        ("boot.sequence", "Boot", "_walk"),
        ("boot.sequence", "Boot", "finish"),
    ],
)
async def test_a_bug_of_the_start_is_a_line_and_an_exit_status(
    where: str, name: str, method: str
) -> None:
    code = _FAILS.replace("WHERE", where).replace("NAME", name).replace("METHOD", method)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code, "run", "--profile", "10.0", "--", *NONE],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("qemu-system-x86_64: fakeqemu: internal error: KeyError at <string>:")
    assert "secret" not in line


async def test_input_as_deep_as_qemu_takes_it_is_no_bug(start: Start, short: Path) -> None:
    await start("-qmp", f"unix:{short}/q,server=on,wait=off")
    client = await connect(short / "q")
    deep = ".".join(["a"] * 1500)
    line = {"command-line": f"object_add secret,id=a,{deep}=1"}
    said = await client.execute("human-monitor-command", line)
    assert said == "Error: Parameter 'a' is unexpected\r\n"
    await client.execute("quit")
    await hang_up(client)


async def test_clients_that_come_and_go_leave_nothing_behind() -> None:
    script = Path(__file__).parents[2] / "scripts" / "soak"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(script), "--connections", "200"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 connections" in done.stdout


async def test_without_descriptors_only_what_needs_one_fails(start: Start, short: Path) -> None:
    process = await start("-qmp", f"unix:{short}/q,server=on,wait=off")
    client = await connect(short / "q")
    with pytest.raises(ExecuteError, match="File descriptor named 'x' not found"):
        await client.execute("closefd", {"fdname": "x"})
    used = {int(each.name) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
    free = next(number for number in range(len(used) + 1) if number not in used)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (free, free + 1))
    # modules and recorded data that were not needed before
    text = await client.execute("human-monitor-command", {"command-line": "help info"})
    assert "info version" in text
    create = {"job-id": "j", "options": {"driver": "file", "filename": f"{short}/x", "size": 0}}
    await client.execute("blockdev-create", create)
    (job,) = await client.execute("query-jobs")
    assert job["error"] == f"Could not create '{short}/x': Too many open files"
    # a client that does not wait for its answers is not read from, its going is seen all the same
    for _ in range(20):
        await client.execute("query-status")
    process.terminate()
    _, error = await process.communicate()
    assert b"internal error" not in error
    await hang_up(client)
