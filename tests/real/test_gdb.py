"""The same session of gdb with a real QEMU and with ours."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from fakeqemu.testing import FakeQemu
from tests.qmp.test_gdb_sockets import BARE, SCRIPT, run_gdb
from tests.support.real import RealQemu

MACHINE = ("-S", "-machine", "q35", "-accel", "tcg", "-smp", "2")


async def real_output(binary: str, path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as listener:
        # it listens already, so nobody has to wait until a process does
        listener.bind(str(path))
        listener.listen()
        fd = listener.fileno()
        started = subprocess.Popen(
            [binary, *BARE, *MACHINE, "-chardev", f"socket,id=g,fd={fd},server=on,wait=off",
             "-gdb", "chardev:g"],
            pass_fds=[fd], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        return await asyncio.to_thread(run_gdb, str(path), SCRIPT)
    finally:
        started.kill()
        started.wait()


async def test_gdb_prints_the_same_of_a_real_one(
    tmp_path: Path, real_qemu: RealQemu, program: Callable[[str], str]
) -> None:
    program("gdb")
    theirs = await real_output(real_qemu.binary, tmp_path / "real")
    path = tmp_path / "fake"
    options = ("-gdb", f"unix:{path},server=on,wait=off")
    async with FakeQemu(*BARE, *MACHINE, *options, profile=real_qemu.version):
        ours = await asyncio.to_thread(run_gdb, str(path), SCRIPT)
    assert "VM status: paused (prelaunch)" in theirs
    found = [
        printed.replace(str(tmp_path / which), "PATH").splitlines()
        for which, printed in (("real", theirs), ("fake", ours))
    ]
    assert found[1] == found[0]
