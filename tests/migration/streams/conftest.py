"""Streams of a known machine, and the real QEMU if there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.load_context import Expectation, LocalBlock
from fakeqemu.formats.migration_stream.reader import StreamReader
from fakeqemu.formats.migration_stream.vmstate.vmstate_fields import Field, Layout
from fakeqemu.formats.migration_stream.writer import (
    DeviceSection,
    Source,
    SourceBlock,
    StreamWriter,
)
from fakeqemu.traits import TRAITS, Traits

#: capabilities whose state matters to a stream, off
CAPABILITIES = {
    "7.2": {"compress": False, "x-ignore-shared": False, "postcopy-ram": False, "x-colo": False},
    "10.0": {"x-ignore-shared": False, "mapped-ram": False, "postcopy-ram": False, "x-colo": False},
    "11.1": {"x-ignore-shared": False, "mapped-ram": False, "postcopy-ram": False, "x-colo": False},
}
VERSIONS = tuple(CAPABILITIES)
RAM = SourceBlock("ram", 1 << 20)
#: a device whose state holds what looks like the beginning of its own footer
AWKWARD = DeviceSection(
    Layout("slirp", 4, (Field("data", "buffer", 24),), old_style=True),
    b"\x7e\0\0\0\x10\xff" + b"\x7e\0\0\0" + b"\x7e\0\0\0\x10\x7e\0\0\0\x10\xff\xff\xff\xff",
)


def expectation(version: str, machine: str = "none", **members: object) -> Expectation:
    on = members.pop("on", ())
    assert isinstance(on, tuple)
    capabilities = {name: name in on for name in CAPABILITIES[version]}
    return Expectation(machine, capabilities=capabilities, **members)  # type: ignore[arg-type]


def reader(version: str, **members: object) -> StreamReader:
    return StreamReader(expectation(version, **members), TRAITS[version])


def precopy(
    traits: Traits,
    *,
    source: Source | None = None,
    pages: bool = False,
    runstate: str = "running",
) -> bytes:
    """A whole precopy stream of `source` (an empty machine)."""
    writer = StreamWriter(source or Source("none"), traits)
    data = writer.header() + writer.ram_setup() + writer.footer()
    if pages:
        for piece in writer.zero_pages():
            data += writer.ram_part(piece) + writer.footer()
    data += writer.switchover_start() + writer.ram_end() + writer.footer()
    return data + writer.device_states(runstate, clock=1234) + writer.end()


def read_all(
    stream: StreamReader, data: bytes, chunk: int = 0, eof: bool = True
) -> list[events.Event]:
    said: list[events.Event] = []
    step = chunk or max(1, len(data))
    for at in range(0, len(data), step):
        said += stream.feed(data[at : at + step])
    return said + (stream.feed_eof() if eof else [])


def of(said: list[events.Event], kind: type) -> list[events.Event]:
    return [event for event in said if isinstance(event, kind)]


def lines(said: list[events.Event]) -> list[str]:
    """What QEMU would have printed."""
    text = [event.text for event in said if isinstance(event, events.Report)]
    last = said[-1]
    return text + (list(last.error.lines) if isinstance(last, events.Failed) else [])


def local(size: int) -> dict[str, LocalBlock]:
    return {"ram": LocalBlock(size)}


class RealQemu:
    """The real emulator, to send and to load streams."""

    def __init__(self, command: str) -> None:
        self.command = command
        text = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
        match = re.search(r"version (\d+)\.(\d+)", text.stdout)
        assert match
        numbers = (int(match[1]), int(match[2]))
        known = [(tuple(map(int, name.split("."))), name) for name in VERSIONS]
        fitting = [name for number, name in known if number <= numbers]
        self.version = fitting[-1] if fitting else VERSIONS[0]
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


@pytest.fixture(scope="session")
def real() -> RealQemu:
    command = os.environ.get("FAKEQEMU_REAL_QEMU") or shutil.which("qemu-system-x86_64")
    if not command:
        pytest.skip("no real QEMU: neither FAKEQEMU_REAL_QEMU nor qemu-system-x86_64 in PATH")
    return RealQemu(command)
