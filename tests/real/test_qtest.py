"""The same requests of a test program to a real qtest server and to ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.qmp.test_qtest import BARE, PC, Server
from tests.support.real import RealQemu


async def test_a_real_server_answers_the_same(tmp_path: Path, real_qemu: RealQemu) -> None:
    command = [real_qemu.binary, "-machine", "pc", *BARE, "-accel", "tcg", "-S"]
    listed = [each for each in PC if not each[0].startswith("clock")]
    # what a version answers otherwise is not what is compared here
    varying = ("irq_intercept_in ioapic name",)
    listed = [each for each in listed if each[0] not in varying]
    async with Server(tmp_path / "q") as server:
        started = subprocess.Popen(
            [*command, "-qtest", f"unix:{server.path}", "-qtest-log", "none"],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await server.connected()
            assert await server.play(listed) == listed
        finally:
            started.kill()
            started.wait()
