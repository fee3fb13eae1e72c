"""A real QEMU recorded, compared and replayed."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import QemuProcess
from tests.support.real import RealQemu
from tests.testing.test_record_commands import NONE, command, run, talk


async def test_a_real_qemu_is_recorded_and_does_not_differ(
    tmp_path: Path, real_qemu: RealQemu
) -> None:
    file = tmp_path / "talk.jsonl"
    process = QemuProcess([real_qemu.binary], NONE, tmp_path)
    words = ("record", "--output", str(file), "--", f"unix:{tmp_path}/front")
    try:
        async with command(*words, f"unix:{process.path}"):
            replies = await talk(tmp_path / "front")
    finally:
        process.stop()
    status, said = run("diff", str(file), "--profile", real_qemu.version, "--", *NONE)
    assert "0 differences of shape" in said, said
    assert status == 0, said
    async with command("replay", str(file), "--socket", f"unix:{tmp_path}/r"):
        assert await talk(tmp_path / "r") == replies
