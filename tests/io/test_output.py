"""Files that are written once: pipes that are read late, or never."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from fakeqemu.io import output
from fakeqemu.model.output import Zeros

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
