"""Files that are written once: pipes that are read late, or never."""

from __future__ import annotations

import errno
import os
import resource
import threading
from pathlib import Path

import pytest

from fakeqemu.io.files import output
from fakeqemu.model.dump.output import Zeros

PIECES = [b"head", Zeros(1 << 20), b"tail"]


@pytest.mark.timeout(20)
def test_a_pipe_is_written_as_fast_as_it_is_read() -> None:
    reading, writing = os.pipe()
    got = bytearray()

    def read() -> None:
        with os.fdopen(reading, "rb") as file:
            got.extend(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    out = output.FdOutput(writing)
    assert not out.seekable
    out.write(PIECES)
    out.close()
    reader.join()
    assert bytes(got) == b"head" + bytes(1 << 20) + b"tail"


@pytest.mark.timeout(20)
def test_a_pipe_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_PATIENCE", 0.01)
    reading, writing = os.pipe()
    out = output.FdOutput(writing)
    with pytest.raises(OSError) as caught:
        out.write(PIECES)
    assert caught.value.errno == errno.ETIMEDOUT
    out.close()
    os.close(reading)


def test_holes_need_the_room_of_the_zeros_that_they_stand_for(tmp_path: Path) -> None:
    room = os.statvfs(tmp_path)
    out = output.create_output(os.open, str(tmp_path / "x"), 0o600)
    out.write([b"head", Zeros(1 << 20)])
    with pytest.raises(OSError) as caught:
        out.write([Zeros(room.f_blocks * room.f_frsize)])
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as caught:
        out.write([Zeros((1 << 64) - 1)])
    assert caught.value.errno == errno.EFBIG
    out.close()


def test_holes_fill_what_a_limit_on_the_size_leaves(tmp_path: Path) -> None:
    out = output.create_output(os.open, str(tmp_path / "x"), 0o600)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        out.write([b"head"])
        with pytest.raises(OSError) as caught:
            out.write([Zeros(20_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    out.close()
    assert caught.value.errno == errno.EFBIG
    assert out.written == (tmp_path / "x").stat().st_size == 10_000


def test_what_keeps_nothing_is_not_written_zeros() -> None:
    out = output.create_output(os.open, os.devnull, 0o600)
    out.write([Zeros(1 << 62), b"end"])
    out.close()
