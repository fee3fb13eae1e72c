"""TAP devices that scripts set up. The kernel's part is played: opening one takes privileges."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.io.net import tap
from fakeqemu.testing import FakeQemu, QmpError


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gives devices named tap0, or as asked; the descriptors that are open."""
    opened: list[int] = []
    real_open, real_close = os.open, os.close

    def open_device(path: Any, flags: int, *more: Any, **given: Any) -> int:
        if path != "/dev/net/tun":
            return real_open(path, flags, *more, **given)
        opened.append(real_open(os.devnull, flags))
        return opened[-1]

    def close(fd: int) -> None:
        if fd in opened:
            opened.remove(fd)
        real_close(fd)

    def ioctl(_fd: int, request: int, argument: bytes) -> bytes:
        if request == tap._TUNGETFEATURES:
            return (0x7003).to_bytes(4, "little")
        return argument.replace(b"%d", b"0\0")

    monkeypatch.setattr(tap.os, "open", open_device)
    monkeypatch.setattr(tap.os, "close", close)
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return opened


def script(folder: Path, name: str, code: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)
    return str(path)


async def test_scripts_set_the_interface_up_and_down(kernel: list[int], tmp_path: Path) -> None:
    up = script(tmp_path, "up", f'echo up "$@" >> {tmp_path}/log')
    down = script(tmp_path, "down", f'echo down "$@" >> {tmp_path}/log')
    async with FakeQemu("-machine", "none", profile="10.0") as vm:
        await vm.qmp("netdev_add", {"type": "tap", "id": "t", "script": up, "downscript": down})
        assert (tmp_path / "log").read_text() == "up tap0\n"
        assert len(kernel) == 1
        shown = await vm.qmp("human-monitor-command", {"command-line": "info network"})
        assert f"ifname=tap0,script={up},downscript={down}" in shown
        await vm.qmp("netdev_del", {"id": "t"})
        assert (tmp_path / "log").read_text() == "up tap0\ndown tap0\n"
        assert kernel == []
        await vm.qmp("netdev_add", {"type": "tap", "id": "t", "ifname": "x", "downscript": down})
    # the end of the process, too
    assert (tmp_path / "log").read_text() == "up tap0\ndown tap0\ndown x\n"
    assert kernel == []


@pytest.mark.parametrize(
    ("code", "status"), [(None, 256), ("exit 3", 768), ("kill -9 $$", 9), ("", None)]
)
async def test_a_script_that_fails_refuses_the_backend(
    kernel: list[int], tmp_path: Path, code: str | None, status: int | None
) -> None:
    path = f"{tmp_path}/none" if code is None else script(tmp_path, "up", code)
    async with FakeQemu("-machine", "none", profile="7.2") as vm:
        tap = {"type": "tap", "id": "t", "script": path, "downscript": "no"}
        if status is None:
            await vm.qmp("netdev_add", tap)
            return
        text = f"network script {path} failed with status {status}$"
        with pytest.raises(QmpError, match=text):
            await vm.qmp("netdev_add", tap)
        assert kernel == []
        with pytest.raises(QmpError, match="Device 't' not found"):
            await vm.qmp("netdev_del", {"id": "t"})


async def test_a_device_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def refuse(path: Any, *more: Any, **given: Any) -> int:
        if path == "/dev/net/tun":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real_open(path, *more, **given)

    monkeypatch.setattr(tap.os, "open", refuse)
    async with FakeQemu("-machine", "none", profile="7.2") as vm:
        with pytest.raises(QmpError, match="could not open /dev/net/tun: Permission denied"):
            await vm.qmp("netdev_add", {"type": "tap", "id": "t", "script": "/bin/true"})
        # without a script nothing of the host is needed
        await vm.qmp("netdev_add", {"type": "tap", "id": "t", "script": "no", "downscript": "no"})


async def test_an_interface_is_there_once(kernel: list[int], tmp_path: Path) -> None:
    up = script(tmp_path, "up", "")
    async with FakeQemu("-machine", "none", profile="10.0") as vm:
        tap = {"type": "tap", "ifname": "x", "script": up, "downscript": "no"}
        await vm.qmp("netdev_add", tap | {"id": "a"})
        with pytest.raises(QmpError, match=r"could not configure /dev/net/tun \(x\): Device"):
            await vm.qmp("netdev_add", tap | {"id": "b"})
        assert len(kernel) == 1
