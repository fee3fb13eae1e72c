"""Something to read when a machine misbehaves: files, standard error, `fakeqemu journal`."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from fakeqemu.cli import main
from fakeqemu.clock import VirtualClock
from fakeqemu.journal import Journal
from fakeqemu.journal_kinds import KINDS
from fakeqemu.testing.report.journal_output import JournalFile

ROOT = Path(__file__).parents[2]
NONE = ("-machine", "none", "-nodefaults", "-display", "none")


class Machine:
    """An emulator with a QMP client on a descriptor."""

    def __init__(self, own: list[str], environment: dict[str, str]) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(20)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fakeqemu", "run", "--profile", "10.0", *own, "--", *NONE,
                 "-chardev", f"socket,id=m,fd={theirs.fileno()}", "-mon", "chardev=m,mode=control"],
                pass_fds=[theirs.fileno()], env={**os.environ, **environment}, cwd=ROOT,
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        self._lines = self._ours.makefile("r", encoding="utf-8")
        assert "QMP" in json.loads(self._lines.readline())
        self.ask("qmp_capabilities")

    def ask(self, command: str) -> None:
        """Run a command; returns when it has been answered."""
        self._ours.sendall(json.dumps({"execute": command}).encode())
        for line in self._lines:
            message = json.loads(line)
            if "event" not in message:
                assert "return" in message, message
                return

    def quit(self) -> str:
        """End it; what it said on standard error."""
        self.ask("quit")
        _, said = self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        return said

    def close(self) -> None:
        """Leave nothing behind."""
        self._lines.close()
        self._ours.close()
        self.process.kill()
        self.process.communicate()


@contextmanager
def machine(*own: str, **environment: str) -> Iterator[Machine]:
    made = Machine(list(own), environment)
    try:
        yield made
    finally:
        made.close()


def test_a_file_has_everything_when_it_has_happened(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    with machine("--journal", str(file), "--journal-entries", "1") as vm:
        vm.ask("stop")
        journal = Journal.load(file)
        assert [entry.name for entry in journal.of("runstate")][-1] == "paused"
        assert len(journal.of("boot")) > 10
        assert len(journal.of("reply", "stop")) == 1
        vm.quit()
    assert Journal.load(file).of("command", "quit")


def test_a_directory_in_the_environment(tmp_path: Path) -> None:
    with machine(FAKEQEMU_JOURNAL=str(tmp_path)) as vm:
        vm.quit()
        (file,) = tmp_path.iterdir()
        assert file.name == f"journal-{vm.process.pid}.jsonl"
    assert Journal.load(file).of("boot")


def test_a_full_disk_costs_the_journal_and_not_the_machine() -> None:
    with machine("--journal", "/dev/full") as vm:
        vm.ask("query-status")
        said = vm.quit()
    assert said == "fakeqemu: the journal ends: /dev/full: No space left on device\n"


def test_a_pipe_that_nobody_reads_from_loses_entries(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with machine("--journal", str(fifo)) as vm:
        for _ in range(800):
            vm.ask("query-version")
        text = b""
        while len(chunk := os.read(reader, 1 << 16)) == 1 << 16:
            text += chunk
        text += chunk
        vm.ask("stop")
        text += os.read(reader, 1 << 16)
        vm.quit()
    os.close(reader)
    journal = Journal.from_lines(text.decode().splitlines())
    # more than once where a short entry still had room when a longer one had not
    assert all(int(lost.name) > 0 for lost in journal.of("lost"))
    assert journal.of("lost")
    assert journal.of("runstate", "paused")


def test_all_that_a_slow_reader_loses_is_counted(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    journal = Journal(VirtualClock())
    JournalFile(str(fifo)).attach(SimpleNamespace(journal=journal))  # type: ignore[arg-type]
    # one size, so that none has room where another had not
    for number in range(2000):
        journal.note("boot", f"{number:04}", text="x" * 100)
    text = os.read(reader, 1 << 20)
    journal.note("boot", "last")
    text += os.read(reader, 1 << 20)
    os.close(reader)
    found = Journal.from_lines(text.decode().splitlines())
    (lost,) = found.of("lost")
    assert int(lost.name) + len(found.of("boot")) == 2001
    assert found.of("boot")[-1].name == "last"


@pytest.mark.parametrize(("flag", "everything"), [("-v", False), ("-vv", True)])
def test_on_standard_error(flag: str, everything: bool) -> None:
    with machine(flag) as vm:
        vm.ask("stop")
        said = vm.quit()
    assert all(line.startswith("fakeqemu: ") for line in said.splitlines())
    assert " runstate     paused" in said and " event        STOP" in said
    assert (" command      stop" in said) == everything
    assert (" boot " in said) == everything


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    file = tmp_path / "recorded.jsonl"
    file.write_text(
        '[1000000000, "command", "stop", {"arguments": {}}]\n[2, "runstate", "paused", {}]\n'
    )
    return file


def test_it_is_shown_from_a_file(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", str(recorded)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["1.000000", "command", "stop"]
    assert main(["journal", str(recorded), "--last", "1", "--json"]) == 0
    assert capsys.readouterr().out == '[2, "runstate", "paused", {}]\n'
    assert main(["journal", "--kind", "command", "--kind", "event", str(recorded)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def follow(address: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fakeqemu", "journal", address, "--follow", *more],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_it_is_followed_over_the_control_socket_to_its_end(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/control"
    with machine("--control", address) as vm:
        reader = follow(address, "--kind", "runstate")
        assert reader.stdout is not None
        assert "running" in reader.stdout.readline()
        vm.ask("stop")
        assert "paused" in reader.stdout.readline()
        vm.quit()
        rest, errors = reader.communicate(timeout=20)
    assert (reader.returncode, errors) == (0, "")
    assert "paused" not in rest


def test_a_file_is_followed(recorded: Path) -> None:
    reader = follow(str(recorded), "--last", "1")
    assert reader.stdout is not None
    assert "paused" in reader.stdout.readline()
    with recorded.open("a") as file:
        file.write('[3, "runstate", "run')
        file.flush()
        file.write('ning", {}]\n')
    assert "running" in reader.stdout.readline()
    reader.kill()
    reader.communicate()


def test_the_table_of_kinds_is_whole() -> None:
    """Every kind that is written somewhere stands in it."""
    written = set()
    for path in (ROOT / "fakeqemu").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute | ast.Name)
                and (getattr(node.func, "attr", "") or getattr(node.func, "id", "")) == "note"
                and len(node.args) > 1
                and isinstance(node.args[0], ast.Constant)
            ):
                written.add(node.args[0].value)
    assert len(written) > 30
    assert written <= set(KINDS)
    assert set(KINDS) - written <= {"stub", "scenario", "lost"}
