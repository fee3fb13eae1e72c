"""A host that gives no more descriptors: each kind of socket says so in QEMU's words."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.io.addresses import listen_on
from fakeqemu.io.connect import connect_now
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
    for function, text in ((listen_on, listening), (connect_now, connecting)):
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


def test_a_start_that_uses_all_descriptors_can_still_import(tmp_path: Path) -> None:
    """Whatever the number of files that the command line opens: it starts, or QEMU's own words."""
    limit = 24
    commands = (
        {"execute": "qmp_capabilities"},
        {"execute": "query-block"},
        {"execute": "query-migrate"},
        {"execute": "human-monitor-command", "arguments": {"command-line": "info block"}},
        {"execute": "quit"},
    )
    ends = set()
    for count in range(13, 19):
        files = (f"file,id=f{number},path={tmp_path}/{number}" for number in range(count))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "fakeqemu", "run", "--profile", "7.2", "--"),
                *("-machine", "q35", "-display", "none", "-nodefaults", "-qmp", "stdio"),
                *(word for file in files for word in ("-chardev", file)),
                *("-blockdev", "null-co,node-name=n", "-device", "virtio-blk-pci,drive=n"),
                *("-fw_cfg", "name=opt/x,string=y", "-object", "memory-backend-ram,id=m,size=1M"),
            ],
            input="".join(json.dumps(each) for each in commands),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
            cwd=Path(__file__).parents[2],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        ends.add(done.returncode)
        if done.returncode == 0:
            assert done.stderr == ""
            assert done.stdout.count('{"return"') == len(commands)
            assert "error" not in done.stdout
        else:
            text = r"qemu-system-x86_64: -chardev .*: Could not open .*: Too many open files\n"
            assert re.fullmatch(text, done.stderr)
    assert ends == {0, 1}
