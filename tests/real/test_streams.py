"""The same streams with a real QEMU at one end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.reader import StreamReader
from fakeqemu.formats.migration_stream.source import Source, SourceBlock
from tests.support.real import RealQemu
from tests.support.streams import TRAITS, expectation, lines, of, precopy, read_all


class Streams:
    """A real QEMU, to send and to load streams."""

    def __init__(self, real: RealQemu) -> None:
        self.command = real.binary
        self.version = real.version
        self.traits = TRAITS[self.version]

    def talk(self, argv: list[str], commands: list[dict[str, object]], until: str) -> list[dict]:
        """Run with QMP on standard input; repeat query-migrate until `until` or a failure."""
        process = subprocess.Popen(
            [self.command, *argv, "-display", "none", "-qmp", "stdio"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        assert process.stdin and process.stdout and process.stderr
        replies: list[dict] = []

        def ask(request: dict[str, object]) -> dict:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                reply = json.loads(line)
                if "return" in reply or "error" in reply:
                    return reply
            return {"error": {"desc": process.stderr.read()}}

        try:
            ask({"execute": "qmp_capabilities"})
            replies += [ask(command) for command in commands]
            state: dict = {}
            while state.get("return", {}).get("status") not in (until, "failed"):
                state = ask({"execute": "query-migrate"})
                assert "error" not in state, state
            replies += [state, ask({"execute": "query-status"})]
            ask({"execute": "quit"})
        finally:
            process.communicate(timeout=30)
        return replies

    def send(self, argv: list[str], path: Path) -> bytes:
        """The stream of a machine, migrated to a file."""
        migrate = {"execute": "migrate", "arguments": {"uri": f"exec:cat > {path}"}}
        replies = self.talk(argv, [migrate], "completed")
        assert replies[-2]["return"]["status"] == "completed", replies
        return path.read_bytes()

    def load(self, argv: list[str], path: Path) -> tuple[str, str]:
        """Status of the migration and run state after loading a file."""
        replies = self.talk([*argv, "-incoming", f"exec:cat {path}"], [], "completed")
        return replies[-2]["return"].get("status", ""), replies[-1]["return"]["status"]

    def refuse(self, argv: list[str], path: Path) -> list[str]:
        """The lines with which a file is refused."""
        done = subprocess.run(
            [self.command, *argv, "-display", "none", "-incoming", f"exec:cat {path}"],
            capture_output=True, text=True, timeout=30, check=False,
        )
        assert done.returncode == 1
        return [line.split(": ", 1)[1] for line in done.stderr.splitlines()]


@pytest.fixture
def real(real_qemu: RealQemu) -> Streams:
    return Streams(real_qemu)


@pytest.mark.parametrize(
    ("argv", "least"),
    [(["-machine", "none"], 2), (["-machine", "none", "-m", "64M"], 2), (["-machine", "q35"], 20)],
)
def test_real_to_reader(real: Streams, tmp_path: Path, argv: list[str], least: int) -> None:
    data = real.send(argv, tmp_path / "stream")
    machine = data[13 : 13 + int.from_bytes(data[9:13], "big")].decode()
    stream = StreamReader(expectation(real.version, machine), real.traits)
    said = read_all(stream, data, 65536)
    assert said[-1] == events.Loaded()
    assert len(of(said, events.DeviceState)) >= least
    (description,) = of(said, events.Description)
    assert description.value is not None
    assert description.mismatches == ()
    assert of(said, events.GlobalState)[0].runstate == "running"


@pytest.mark.parametrize("pages", [False, True])
@pytest.mark.parametrize("size", [0, 64 << 20])
def test_writer_to_real(real: Streams, tmp_path: Path, pages: bool, size: int) -> None:
    blocks = (SourceBlock("ram", size),) if size else ()
    file = tmp_path / "stream"
    file.write_bytes(precopy(real.traits, source=Source("none", blocks), pages=pages))
    argv = ["-machine", "none"] + (["-m", f"{size >> 20}M"] if size else [])
    assert real.load(argv, file) == ("completed", "running")


def test_writer_to_real_keeps_the_run_state(real: Streams, tmp_path: Path) -> None:
    file = tmp_path / "stream"
    file.write_bytes(precopy(real.traits, runstate="paused"))
    assert real.load(["-machine", "none"], file) == ("completed", "paused")


def test_real_refuses_what_the_reader_refuses(real: Streams, tmp_path: Path) -> None:
    file = tmp_path / "stream"
    data = precopy(real.traits)
    for size in (9, 30, 40, 66, data.index(b"timer") + 20, data.index(b"running")):
        file.write_bytes(data[:size])
        said = read_all(StreamReader(expectation(real.version), real.traits), data[:size])
        assert real.refuse(["-machine", "none"], file) == lines(said)
