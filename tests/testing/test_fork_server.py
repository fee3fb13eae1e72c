"""A child of the fork server is a process like any other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu.testing.runners.forkclient import SERVER, ForkedProcess, _line
from fakeqemu.testing.runners.forkserver import Coming, send
from tests.support.waiting import block_until

ROOT = Path(__file__).parents[2]
NONE = ["run", "--profile", "10.0", "--", "-machine", "none", "-nodefaults", "-display", "none"]


def spawn(
    arguments: list[str], cwd: Path, *, fds: dict[int, int] | None = None, env: str = ""
) -> ForkedProcess:
    with (
        (cwd / "out").open("wb") as out,
        (cwd / "err").open("wb") as err,
        Path(os.devnull).open("rb") as null,
    ):
        return SERVER.spawn(
            arguments,
            {0: null.fileno(), 1: out.fileno(), 2: err.fileno(), **(fds or {})},
            cwd=cwd,
            env={**os.environ, "FAKEQEMU_PROFILE": env} if env else None,
        )


def test_output_directory_and_environment(tmp_path: Path) -> None:
    child = spawn(["run", "-version"], tmp_path, env="7.2")
    assert child.wait(20) == 0
    assert "version 7.2" in (tmp_path / "out").read_text()
    child = spawn([*NONE, "-pidfile", "pid", "-S", "-incoming", "nonsense"], tmp_path)
    assert child.wait(20) == 1
    assert "-incoming nonsense" in (tmp_path / "err").read_text()


def test_a_process_of_its_own(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        child = spawn(
            [*NONE, "-pidfile", "pid", "-chardev", "socket,id=m,fd=77", "-mon", "m,mode=control"],
            tmp_path,
            fds={77: theirs.fileno()},
        )
    with ours, ours.makefile("rb") as lines:
        assert lines.readline().startswith(b'{"QMP"'), "on the descriptor it was handed"
        ours.sendall(b'{"execute": "qmp_capabilities"}')
        assert lines.readline() == b'{"return": {}}\r\n'  # it is past its boot: signals are heard
        assert int((tmp_path / "pid").read_text()) == child.pid != os.getpid()
        assert child.poll() is None
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    assert f"terminating on signal 15 from pid {os.getpid()}" in (tmp_path / "err").read_text()


def test_signals_are_reported(tmp_path: Path) -> None:
    child = spawn(NONE, tmp_path)
    with pytest.raises(TimeoutError, match="still runs"):
        child.wait(0)
    child.kill()
    assert child.wait(20) == -signal.SIGKILL


def test_many_at_once(tmp_path: Path) -> None:
    children = [spawn(["run", "-version"], tmp_path) for _ in range(20)]
    assert len({child.pid for child in children}) == 20
    assert {child.wait(20) for child in children} == {0}


def test_descriptors_whose_numbers_overlap(tmp_path: Path) -> None:
    left, right = socket.socketpair()
    asked = {"argv": [], "env": {}, "cwd": "/", "fds": [7]}
    send(left, asked, [right.fileno()])
    coming = Coming()
    while (found := coming.read(right)) is None:
        pass
    request, fds = found
    assert request == asked and len(fds) == 1
    os.close(fds[0])
    left.close()
    right.close()


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "fakeqemu", "fork-server", str(path)], cwd=ROOT
    )
    try:
        block_until(lambda: path.exists() or server.poll() is not None, "the server's socket")
        assert server.poll() is None
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            request = {"argv": ["run", "-version"], "env": {}, "cwd": "/", "fds": [1]}
            with (tmp_path / "out").open("wb") as out:
                send(sock, request, [out.fileno()])
            message, rest = _line(sock, b"", 20, "late")
            assert message["pid"] != server.pid
            assert _line(sock, rest, 20, "late")[0] == {"status": 0}
        assert "QEMU emulator version" in (tmp_path / "out").read_text()
    finally:
        server.terminate()
        server.wait()


def test_a_bad_request_costs_only_its_client(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "fakeqemu", "fork-server", str(path)], cwd=ROOT
    )
    good = {"argv": ["run", "-version"], "env": {}, "cwd": "/", "fds": []}
    bad = [
        [], {}, {**good, "argv": "x"}, {**good, "argv": [1]}, {**good, "env": {"A": 1}},
        {**good, "cwd": None}, {**good, "fds": [1]},
    ]  # fmt: skip
    try:
        block_until(lambda: path.exists() or server.poll() is not None, "the server's socket")
        assert server.poll() is None
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(str(path))
            slow.sendall(b"\0\0")
            for request in bad:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(path))
                    send(sock, request, [])  # type: ignore[arg-type]
                    sock.settimeout(20)
                    assert sock.recv(1) == b""
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                send(sock, good, [])
                _, rest = _line(sock, b"", 20, "late")
                assert _line(sock, rest, 20, "late")[0] == {"status": 0}
    finally:
        server.terminate()
        server.wait()
