"""A host that gives no more descriptors: each kind of socket says so in QEMU's words."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from fakeqemu.io.addresses import listen_on, start_connect
from fakeqemu.qapi.errors import QapiError
from fakeqemu.testing import FakeQemu

MANY = os.strerror(errno.EMFILE)


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*args: Any, **given: Any) -> socket.socket:
        raise OSError(errno.EMFILE, MANY)

    monkeypatch.setattr(socket, "socket", none_left)


@pytest.mark.parametrize(
    ("address", "listening", "connecting"),
    [
        ({"type": "unix", "path": "x"}, "Failed to create Unix socket", "Failed to create socket"),
        (
            {"type": "inet", "host": "127.0.0.1", "port": "0"},
            "Failed to create a socket",
            "Failed to create socket family 2",
        ),
    ],
)
def test_sockets(
    monkeypatch: pytest.MonkeyPatch, address: dict[str, Any], listening: str, connecting: str
) -> None:
    refuse(monkeypatch)
    for function, text in ((listen_on, listening), (start_connect, connecting)):
        with pytest.raises(QapiError) as caught:
            function(address)
        assert caught.value.desc == f"{text}: {MANY}"


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        (
            "chardev-add",
            {"id": "c", "backend": {"type": "udp", "data": {
                "remote": {"type": "inet", "data": {"host": "127.0.0.1", "port": "9"}}}}},
            "Failed to create socket family 2",
        ),
        (
            "chardev-add",
            {"id": "c", "backend": {"type": "socket", "data": {
                "addr": {"type": "unix", "data": {"path": "x"}}, "wait": False}}},
            "Failed to create Unix socket",
        ),
    ],
)  # fmt: skip
async def test_character_devices(
    monkeypatch: pytest.MonkeyPatch, command: str, arguments: dict[str, Any], text: str
) -> None:
    async with FakeQemu("-machine", "none", profile="10.0", client=False) as vm:
        with monkeypatch.context() as patched:
            refuse(patched)
            with pytest.raises(Exception, match=f"{text}: {MANY}"):
                await vm.qmp(command, arguments)
