"""The same streams with a real QEMU at one end."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.reader import StreamReader
from fakeqemu.formats.migration_stream.writer import Source, SourceBlock

from .conftest import RealQemu, expectation, lines, of, precopy, read_all

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("argv", "least"),
    [(["-machine", "none"], 2), (["-machine", "none", "-m", "64M"], 2), (["-machine", "q35"], 20)],
)
def test_real_to_reader(real: RealQemu, tmp_path: Path, argv: list[str], least: int) -> None:
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
def test_writer_to_real(real: RealQemu, tmp_path: Path, pages: bool, size: int) -> None:
    blocks = (SourceBlock("ram", size),) if size else ()
    file = tmp_path / "stream"
    file.write_bytes(precopy(real.traits, source=Source("none", blocks), pages=pages))
    argv = ["-machine", "none"] + (["-m", f"{size >> 20}M"] if size else [])
    assert real.load(argv, file) == ("completed", "running")


def test_writer_to_real_keeps_the_run_state(real: RealQemu, tmp_path: Path) -> None:
    file = tmp_path / "stream"
    file.write_bytes(precopy(real.traits, runstate="paused"))
    assert real.load(["-machine", "none"], file) == ("completed", "paused")


def test_real_refuses_what_the_reader_refuses(real: RealQemu, tmp_path: Path) -> None:
    file = tmp_path / "stream"
    data = precopy(real.traits)
    for size in (9, 30, 40, 66, data.index(b"timer") + 20, data.index(b"running")):
        file.write_bytes(data[:size])
        said = read_all(StreamReader(expectation(real.version), real.traits), data[:size])
        assert real.refuse(["-machine", "none"], file) == lines(said)
