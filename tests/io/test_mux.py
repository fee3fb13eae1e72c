"""Several frontends on one client, byte for byte as a real multiplexer shows them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fakeqemu.testing import FakeQemu

GREETING = "QEMU 10.0.13 monitor - type 'help' for more information\r\n(qemu) "


class Line:
    """The client's end of a multiplexed character device."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)

    async def press(self, keys: bytes, until: str) -> str:
        """Send keys; what comes back up to `until`."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._sock, keys)
        text = ""
        async with asyncio.timeout(5):
            while not text.endswith(until):
                text += (await loop.sock_recv(self._sock, 65536)).decode()
        return text


@pytest.fixture
async def serial(tmp_path: Path) -> AsyncIterator[Callable[[str], object]]:
    opened: list[tuple[FakeQemu, socket.socket]] = []

    async def start(machine: str) -> Line:
        ours, theirs = socket.socketpair()
        fd = theirs.detach()
        vm = FakeQemu(
            *("-machine", machine, "-accel", "tcg", "-nodefaults", "-display", "none", "-S"),
            *("-chardev", f"socket,id=c,fd={fd},mux=on", "-mon", "chardev=c,mode=readline"),
            *("-serial", "chardev:c"),
            profile="10.0",
        )
        opened.append((await vm.start(), ours))
        return Line(ours)

    yield start
    for vm, sock in opened:
        await vm.stop()
        sock.close()


async def test_the_port_has_the_focus_at_first(serial: Callable[[str], object]) -> None:
    line = await serial("q35")  # type: ignore[misc]
    assert await line.press(b"lost\x01c", "(qemu) ") == GREETING
    assert (await line.press(b"stop\n", "(qemu) ")).endswith("stop\x1b[K\r\n(qemu) ")
    assert await line.press(b"\x01c", "\n") == "\r\n"
    assert await line.press(b"lost\x01c", "(qemu) ") == "(qemu) "


async def test_a_monitor_alone_keeps_the_focus(serial: Callable[[str], object]) -> None:
    line = await serial("none")  # type: ignore[misc]
    assert await line.press(b"", "(qemu) ") == GREETING
    assert await line.press(b"\x01c", "(qemu) ") == "\r\n(qemu) "
    assert "C-a h    print this help\n\r" in await line.press(b"\x01h", "sends C-a\n\r")
    assert await line.press(b"\x01x", "\n\r") == "QEMU: Terminated\n\r"
