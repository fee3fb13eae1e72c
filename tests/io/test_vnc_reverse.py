"""VNC displays that go to their client, which listens."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu

BARE = ("-machine", "none", "-nodefaults")


async def test_a_client_is_connected_to(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "viewer"))
        server.listen()
        vnc = f"unix:{tmp_path}/viewer,reverse=on"
        async with FakeQemu(*BARE, "-vnc", vnc, profile="10.0") as machine:
            client, _ = server.accept()
            with client:
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                assert await loop.sock_recv(client, 64) == b"RFB 003.008\n"
                (shown,) = await machine.qmp("query-vnc-servers")
                assert len(shown["clients"]) == 1
                assert shown["server"] == []
                # who listens for nobody is not there to be asked about
                assert await machine.qmp("query-vnc") == {"enabled": False}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("unix:nosuch,reverse=on", "Failed to connect to 'nosuch': No such file or directory"),
        ("unix:a,reverse=on,vnc=unix:b", "Expected a single address in reverse mode"),
        ("127.0.0.1:9,reverse=on,websocket=on", "Cannot use websockets in reverse mode"),
    ],
)
async def test_a_client_that_is_not_there(options: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        async with FakeQemu(*BARE, "-vnc", options, profile="11.1"):
            pass
    assert caught.value.text == text
