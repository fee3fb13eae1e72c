"""Images that have a snapshot to start from."""

from __future__ import annotations

from pathlib import Path

from fakeqemu.testing import FakeQemu


async def image_with_snapshot(path: Path, *options: str) -> tuple[str, ...]:
    """Make a qcow2 image with snapshot `s1` of a machine with `options`; a start's for its disk."""
    async with FakeQemu("-machine", "none", profile="11.1", client=False) as maker:
        file = {"driver": "file", "filename": str(path), "size": 0}
        await maker.qmp("blockdev-create", {"job-id": "file", "options": file})
        await maker.wait_for("job", "file", state="concluded")
        await maker.qmp(
            "blockdev-add", {"driver": "file", "filename": str(path), "node-name": "f"}
        )
        qcow2 = {"driver": "qcow2", "file": "f", "size": 1 << 20}
        await maker.qmp("blockdev-create", {"job-id": "qcow2", "options": qcow2})
        await maker.wait_for("job", "qcow2", state="concluded")
    disk = ("-drive", f"if=none,id=d,file={path}")
    async with FakeQemu(*options, *disk, profile="11.1", client=False) as machine:
        said = await machine.hmp("savevm s1")
        assert not said, said
    return disk
