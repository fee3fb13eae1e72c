"""WebSockets: the request that begins one, and frames, beside what a real 10.0 sends."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakeqemu.formats.websocket import MOST_PAYLOAD, WebSocketServer
from fakeqemu.testing import FakeQemu

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
#: the proof for that key is RFC 6455's own example
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nServer: QEMU VNC\r\nDate: D\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
BAD = (
    b"HTTP/1.1 400 Bad Request\r\nServer: QEMU VNC\r\nDate: D\r\nConnection: close\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nServer: QEMU VNC\r\nDate: D\r\nConnection: close\r\n\r\n"
TOO_LARGE = NOT_FOUND.replace(b"404 Not Found", b"403 Request Entity Too Large")
BINARY, TEXT, CLOSE, PING, PONG = 2, 1, 8, 9, 10


def frame(kind: int, payload: bytes, *, first: int = 0x80, mask: bytes = b"abcd") -> bytes:
    """A frame as clients send it."""
    size, masked = len(payload), 0x80 if mask else 0
    head = bytes([first | kind, masked | (size if size < 126 else 126 if size < 65536 else 127)])
    if size >= 126:
        head += struct.pack(">H" if size < 65536 else ">Q", size)
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + payload


def opened() -> WebSocketServer:
    server = WebSocketServer("D")
    assert server.feed(REQUEST + b"\r\n") == (b"", ACCEPTED + b"\r\n")
    assert server.open
    return server


def test_a_request_in_pieces_that_names_its_protocols():
    server = WebSocketServer("D")
    protocols = b"Sec-WebSocket-Protocol: chat, binary\r\n\r\n"
    assert server.feed(REQUEST) == (b"", b"")
    accepted = ACCEPTED + b"Sec-WebSocket-Protocol: binary\r\n\r\n"
    assert server.feed(protocols + frame(BINARY, b"x")) == (b"x", accepted)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (REQUEST.replace(b"GET", b"POST"), BAD),
        (REQUEST.replace(b" / ", b" /x "), NOT_FOUND),
        (REQUEST.replace(b"1.1", b"1.0"), BAD),
        (REQUEST.replace(b"13", b"12"), BAD),
        (REQUEST.replace(b"dGhl", b"d"), BAD),
        (REQUEST.replace(b"Upgrade: websocket", b"Upgrade: h2"), BAD),
        (REQUEST.replace(b", Upgrade", b""), BAD),
        (REQUEST.replace(b"Host: x\r\n", b""), BAD),
        (REQUEST + b"bad\r\n", BAD),
        (REQUEST + b"Sec-WebSocket-Protocol: chat\r\n", BAD),
        (REQUEST + b"".join(b"a%d: b\r\n" % i for i in range(40)), BAD),
        (b"nonsense\r\n", BAD),
        (b"nonsense\r\nHost: x\r\n", b""),
        (b"GET / HTTP/1.1\r\n", BAD),
        (b"GET /\r\nHost: x\r\n", BAD),
        (REQUEST + b"x: " + b"y" * 5000, TOO_LARGE),
    ],
)
def test_requests_that_are_refused(request_, reply):
    server = WebSocketServer("D")
    assert server.feed(request_ + b"\r\n") == (b"", reply)
    assert server.over
    assert not server.open


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_frames_of_every_length(size):
    payload = bytes(range(256)) * 257
    payload = payload[:size]
    server = opened()
    said = b""
    data = frame(BINARY, payload) + frame(PONG, b"ignored") + frame(BINARY, b"next")
    for at in range(0, len(data), 1000):
        piece, reply = server.feed(data[at : at + 1000])
        said += piece
        assert reply == b""
    assert said == payload + b"next"


def test_fragments_and_pings():
    server = opened()
    assert server.feed(frame(BINARY, b"one ", first=0)) == (b"one ", b"")
    assert server.feed(frame(0, b"two", first=0)) == (b"two", b"")
    assert server.feed(frame(0, b".")) == (b".", b"")
    ping = frame(PING, b"hi")
    assert server.feed(ping[:7]) == (b"", b"")
    assert server.feed(ping[7:]) == (b"", b"\x8a\x02hi")


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (frame(CLOSE, b"\x03\xe8bye"), 1000, "peer requested close"),
        (frame(TEXT, b"x"), 1003, "only binary, close, ping, and pong frames are supported"),
        (frame(BINARY, b"xyzw", mask=b""), 1002, "client frames must be masked"),
        (frame(PING, b"x" * 200), 1002, "control frame is too large"),
        (frame(PING, b"x", first=0), 1008, "only binary frames may be fragmented"),
    ],
)
def test_what_ends_a_connection(data, code, reason):
    server = opened()
    payload = code.to_bytes(2, "big") + reason.encode()
    assert server.feed(frame(BINARY, b"x") + data) == (b"x", bytes([0x88, len(payload)]) + payload)
    assert server.over
    assert server.feed(frame(BINARY, b"late")) == (b"", b"")


def test_long_output_goes_in_several_frames():
    data = b"x" * (MOST_PAYLOAD + 1)
    sent = opened().frames(data)
    assert sent == b"\x82\x7e\x20\x00" + data[:-1] + b"\x82\x01x"


@pytest.fixture
async def monitor(tmp_path: Path) -> AsyncIterator[str]:
    """Where a monitor waits for web sockets."""
    path = str(tmp_path / "w")
    options = ("-chardev", f"socket,id=c,path={path},server=on,wait=off,websocket=on")
    async with FakeQemu("-machine", "none", *options, "-mon", "chardev=c,mode=control") as vm:
        listed = {each["label"]: each["filename"] for each in await vm.qmp("query-chardev")}
        assert listed["c"].startswith("disconnected:unix:")
        yield path


async def test_a_monitor_talks_in_frames_and_takes_the_next_client(monitor: str) -> None:
    reader, writer = await asyncio.open_unix_connection(monitor)
    writer.write(b"nonsense\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    writer.close()
    reader, writer = await asyncio.open_unix_connection(monitor)
    writer.write(REQUEST + b"\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    kind, size = await reader.readexactly(2)
    assert kind == 0x82
    assert (await reader.readexactly(size)).startswith(b'{"QMP": ')
    writer.write(frame(BINARY, b'{"execute": "qmp_capabilities"}'))
    assert await reader.readexactly(2 + 16) == b'\x82\x10{"return": {}}\r\n'
    writer.write(frame(CLOSE, b""))
    assert await reader.read() == b"\x88\x16\x03\xe8peer requested close"
    writer.close()
