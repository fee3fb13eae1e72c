"""Migration channels over real sockets, pipes, commands and files."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.io.loop import Loop
from fakeqemu.io.migration.channels import OpeningChannel, SocketListener, open_local
from fakeqemu.qapi.errors import QapiError
from tests.support.waiting import until


class Heard:
    """What a stream said."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.data = b""
        self.ends: list[str | None] = []
        stream.on_close = self.ends.append
        stream.on_data = self._came

    def _came(self, data: bytes) -> None:
        self.data += data


@pytest.fixture
def outgoing(loop: Loop) -> Callable[[dict[str, Any]], Awaitable[tuple[Any, str]]]:
    async def connect(address: dict[str, Any]) -> tuple[Any, str]:
        found: list[tuple[Any, str]] = []
        OpeningChannel(loop, address, lambda stream, error: found.append((stream, error)))
        assert not found, "the answer must not come before the call returns"
        await until(lambda: bool(found))
        return found[0]

    return connect


def unix(path: Path) -> dict[str, Any]:
    return {"transport": "socket", "type": "unix", "path": str(path)}


def inet(port: int) -> dict[str, Any]:
    return {"transport": "socket", "type": "inet", "host": "127.0.0.1", "port": str(port)}


async def test_a_unix_socket_both_ways(loop: Loop, tmp_path: Path, outgoing: Any) -> None:
    path = Path(os.path.relpath(tmp_path)) / "m"
    arrived: list[Heard] = []
    listener = SocketListener(loop, unix(path), lambda s: arrived.append(Heard(s)), 1)
    assert listener.address == {"type": "unix", "path": str(path)}
    stream, error = await outgoing(unix(path))
    assert error == ""
    source = Heard(stream)
    big = b"state" * 400_000
    stream.write(big)
    await until(lambda: bool(arrived) and len(arrived[0].data) == len(big))
    arrived[0].stream.write(b"return path")
    await until(lambda: source.data == b"return path")
    stream.write(b"last")
    stream.close()
    await until(lambda: bool(arrived[0].ends))
    assert arrived[0].data.endswith(b"last")
    assert arrived[0].ends == [None]
    assert source.ends == []
    listener.close()
    assert not path.exists()


async def test_a_chosen_port_is_known(loop: Loop, outgoing: Any) -> None:
    arrived: list[Any] = []
    listener = SocketListener(loop, inet(0), arrived.append, 2)
    assert listener.address["port"] != "0"
    stream, error = await outgoing(inet(int(listener.address["port"])))
    assert error == ""
    await until(lambda: bool(arrived))
    stream.close()
    arrived[0].close()
    listener.close()


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (inet(1), "Failed to connect to '127.0.0.1:1': Connection refused"),
        (unix(Path("/nowhere/m")), "Failed to connect to '/nowhere/m': No such file or directory"),
    ],
)
async def test_refused_connections(address: dict[str, Any], text: str, outgoing: Any) -> None:
    assert await outgoing(address) == (None, text)


async def test_refused_at_once(loop: Loop) -> None:
    def refused(address: dict[str, Any], outgoing: bool = True) -> str:
        with pytest.raises(QapiError) as caught:
            open_local(loop, address, outgoing=outgoing)
        return caught.value.desc

    missing = {"transport": "file", "filename": "/nowhere/f", "offset": 0}
    assert refused(missing) == "Could not create '/nowhere/f': No such file or directory"
    assert refused(missing, False) == "Could not open '/nowhere/f': No such file or directory"
    assert refused({"transport": "socket", "type": "fd", "str": "x"}) == (
        "Invalid file descriptor number 'x'"
    )


async def test_a_file_with_an_offset(loop: Loop, tmp_path: Path) -> None:
    address = {"transport": "file", "filename": str(tmp_path / "f"), "offset": 3}
    (tmp_path / "f").write_bytes(b"abcdef")
    out = open_local(loop, address, outgoing=True)
    out.write(b"state")
    out.close()
    assert (tmp_path / "f").read_bytes() == b"abcstate"
    heard = Heard(open_local(loop, address, outgoing=False))
    await until(lambda: bool(heard.ends))
    assert (heard.data, heard.ends) == (b"state", [None])


async def test_a_command_in_both_directions(loop: Loop, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stream = open_local(
        loop,
        {"transport": "exec", "args": ["/bin/sh", "-c", f"cat > {out}; echo done"]},
        outgoing=True,
    )
    heard = Heard(stream)
    stream.write(b"state")
    incoming = Heard(
        open_local(
            loop, {"transport": "exec", "args": ["/bin/echo", "hello"]}, outgoing=False
        )
    )
    await until(lambda: bool(incoming.ends))
    assert incoming.data == b"hello\n"
    assert heard.ends == []
    stream.close()


async def test_a_passed_socket_and_a_pipe(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    stream = open_local(
        loop, {"transport": "socket", "type": "fd", "str": str(theirs.detach())}, outgoing=True
    )
    stream.write(b"x")
    assert ours.recv(10) == b"x"
    stream.close()
    read_end, write_end = os.pipe()
    heard = Heard(
        open_local(
            loop, {"transport": "socket", "type": "fd", "str": str(read_end)}, outgoing=False
        )
    )
    os.write(write_end, b"piped")
    os.close(write_end)
    await until(lambda: bool(heard.ends))
    assert heard.data == b"piped"
    ours.close()


async def test_a_broken_connection_says_why(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    heard = Heard(
        open_local(
            loop,
            {"transport": "socket", "type": "fd", "str": str(theirs.detach())},
            outgoing=False,
        )
    )
    heard.stream.write(b"unread")
    ours.close()
    await until(lambda: bool(heard.ends))
    assert heard.ends == ["Unable to read from socket: Connection reset by peer"]


async def test_waiting_ends_in_time_although_more_and_more_comes(loop: Loop) -> None:
    near, far = socket.socketpair()
    with far:
        stream = open_local(
            loop, {"transport": "socket", "type": "fd", "str": str(near.detach())}, outgoing=False
        )
        heard = Heard(stream)

        def came(data: bytes) -> None:
            heard.data += data
            far.send(b"x")

        stream.on_data = came
        far.send(b"x")
        assert not stream.wait(0.05, lambda: False)
        assert len(heard.data) > 1
        assert stream.wait(60, lambda: len(heard.data) > 1000)
        stream.close()
