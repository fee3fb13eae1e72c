"""Connections to listeners that have no room for another: a UNIX socket is never "in progress"."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.io.addresses import resolve
from fakeqemu.io.connect import Connecting, connect_now
from fakeqemu.io.loop import Loop
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import NUL
from tests.support.waiting import until


class Full:
    """A listener whose backlog is full."""

    def __init__(self, path: Path) -> None:
        self.address = {"type": "unix", "path": str(path)}
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(0)
        self.clients: list[socket.socket] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                self.clients.append(socket.socket(socket.AF_UNIX))
                self.clients[-1].setblocking(False)
                self.clients[-1].connect(str(path))

    def accept(self) -> None:
        """Take all who wait."""
        self.listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.clients.append(self.listener.accept()[0])

    def close(self) -> None:
        """Close all of it."""
        for sock in (self.listener, *self.clients):
            sock.close()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Full]:
    made = Full(tmp_path / "s")
    yield made
    made.close()


async def test_it_comes_when_there_is_room(loop: Loop, full: Full) -> None:
    found: list[Any] = []
    connecting = Connecting(loop, full.address, lambda *result: found.append(result))
    await until(lambda: True)
    assert not found
    assert not connecting.finished
    full.accept()
    await until(lambda: bool(found))
    sock, error = found[0]
    assert error is None
    assert connecting.finished
    sock.send(b"there")  # ENOTCONN, if it were not connected
    sock.close()


async def test_giving_up_closes_it(loop: Loop, full: Full) -> None:
    found: list[Any] = []
    connecting = Connecting(loop, full.address, lambda *result: found.append(result))
    connecting.close()
    assert connecting.finished
    waiting = len(full.clients)
    full.accept()
    await until(lambda: len(full.clients) > waiting)
    assert not found


async def test_a_listener_that_goes_refuses(loop: Loop, full: Full) -> None:
    found: list[Any] = []
    Connecting(loop, full.address, lambda *result: found.append(result))
    full.listener.close()
    await until(lambda: bool(found))
    sock, error = found[0]
    assert sock is None
    assert error.desc == f"Failed to connect to '{full.address['path']}': Connection refused"


def test_nobody_waits_for_ever(full: Full) -> None:
    with pytest.raises(QapiError, match="Resource temporarily unavailable"):
        connect_now(full.address, 0.01)


def test_a_port_with_a_nul_is_shown_as_it_came() -> None:
    with pytest.raises(QapiError) as caught:
        resolve({"type": "inet", "host": "1", "port": NUL}, passive=True)
    assert caught.value.desc.startswith(f"address resolution failed for 1:{NUL}: ")
