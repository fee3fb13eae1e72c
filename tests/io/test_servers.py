"""Serving clients over real sockets, and writing files once."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.io.files.output import FdOutput
from fakeqemu.io.loop import Loop
from fakeqemu.io.servers import adopt, serve
from fakeqemu.model.dump.output import Zeros
from fakeqemu.qapi.errors import QapiError
from tests.support.waiting import until

MIB = 1 << 20


@pytest.mark.parametrize("leave", [True, False])
async def test_a_client_becomes_a_stream(loop: Loop, tmp_path: Path, leave: bool) -> None:
    path = tmp_path / "s"
    came: list[Any] = []
    (server,) = serve(
        loop, {"type": "unix", "path": str(path)}, lambda *a: came.append(a), leave_file=leave
    )
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    await until(lambda: bool(came))
    stream, peer = came[0]
    assert peer == {"type": "unix", "path": ""}
    got: list[bytes] = []
    stream.on_data = got.append
    stream.write(b"hello")
    assert client.recv(5) == b"hello"
    client.send(b"you")
    await until(lambda: bool(got))
    assert got == [b"you"]
    stream.close()
    client.close()
    server.abort()
    assert path.exists() == leave


async def test_every_address_of_a_name_is_served(loop: Loop) -> None:
    servers = serve(
        loop, {"type": "inet", "host": "127.0.0.1", "port": "0"}, print, leave_file=False
    )
    assert [each.address["host"] for each in servers] == ["127.0.0.1"]
    taken = servers[0].address["port"]
    with pytest.raises(QapiError, match="Failed to find an available port"):
        serve(loop, {"type": "inet", "host": "127.0.0.1", "port": taken}, print, leave_file=False)
    to = str(int(taken) + 5)
    address = {"type": "inet", "host": "127.0.0.1", "port": taken, "to": int(to)}
    (other,) = serve(loop, address, print, leave_file=False)
    assert int(taken) < int(other.address["port"]) <= int(to)
    for each in (*servers, other):
        each.close()


async def test_only_sockets_are_adopted(loop: Loop, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "f", os.O_CREAT | os.O_RDWR)
    with pytest.raises(QapiError, match="is not a socket"):
        adopt(loop, fd)
    os.close(fd)


def test_zeros_become_holes_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    output = FdOutput(os.open(path, os.O_CREAT | os.O_WRONLY))
    assert output.seekable
    output.write([b"head", Zeros(64 * MIB), b"tail", Zeros(10)])
    output.close()
    assert path.stat().st_size == 64 * MIB + 18
    assert path.stat().st_blocks * 512 < MIB
    with path.open("rb") as file:
        assert file.read(8) == b"head\0\0\0\0"
        file.seek(64 * MIB + 4)
        assert file.read() == b"tail" + bytes(10)


def test_zeros_overwrite_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10)
    output = FdOutput(os.open(path, os.O_WRONLY))
    output.write([b"a", Zeros(3), b"b"])
    output.close()
    assert path.read_bytes() == b"a\0\0\0bxxxxx"


def test_a_pipe_gets_every_zero() -> None:
    read, write = os.pipe()
    output = FdOutput(write)
    assert not output.seekable
    output.write([b"a", Zeros(1000), b"b"])
    output.close()
    with os.fdopen(read, "rb") as file:
        assert file.read() == b"a" + bytes(1000) + b"b"
