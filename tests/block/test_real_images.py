"""Images on disk that other programs look into."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.io.files.image_files import RealFiles
from fakeqemu.model.block.files import ImageLocked

pytestmark = pytest.mark.real


def info(qemu_img: Path, path: Path) -> dict[str, object]:
    done = subprocess.run(
        [qemu_img, "info", "-U", "--output=json", path], check=True, capture_output=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_overlays_name_their_backing_image(
    qemu_img: Path, tmp_path: Path, real: Any
) -> None:
    base, overlay = tmp_path / "base.raw", tmp_path / "o.qcow2"
    base.write_bytes(bytes(65536))
    assert real.hmp(f"drive_add 0 if=none,id=d,format=raw,file={base}") == "OK\n"
    real.ask(
        "blockdev-snapshot-sync", device="d", snapshot_node_name="o",
        snapshot_file=str(overlay),
    )  # fmt: skip
    shown = info(qemu_img, overlay)
    assert (shown["backing-filename"], shown["backing-filename-format"]) == (str(base), "raw")
    real.vm.block.write("o", 0, b"written")
    real.ask("block-stream", job_id="s", device="o")
    assert "backing-filename" not in info(qemu_img, overlay)
    real.vm.block.close()
    subprocess.run([qemu_img, "check", "-q", overlay], check=True)


def test_locks_hold_against_other_programs(
    qemu_img: Path, tmp_path: Path, real: Any
) -> None:
    path = tmp_path / "i.qcow2"
    subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    real.add("qcow2", "q", file={"driver": "file", "filename": str(path)})
    refused = subprocess.run(
        [qemu_img, "info", path], capture_output=True, text=True, check=False
    )
    assert 'Failed to get shared "write" lock' in refused.stderr
    real.ask("blockdev-del", node_name="q")
    subprocess.run([qemu_img, "check", "-q", path], check=True)


def test_compressed_clusters_are_sound(qemu_img: Path, tmp_path: Path, real: Any) -> None:
    for name in ("a", "t"):
        subprocess.run(
            [qemu_img, "create", "-q", "-f", "qcow2", tmp_path / name, "1M"], check=True
        )
        file = {"driver": "file", "filename": str(tmp_path / name)}
        real.add("qcow2", name, file=file, discard="unmap")
    real.hmp('qemu-io a "write -P 3 64k 512k"')
    real.ask(
        "blockdev-backup", job_id="j", device="a", target="t", sync="full", compress=True
    )
    real.hmp('qemu-io t "write -P 4 128k 4k"')
    real.hmp('qemu-io t "discard 256k 64k"')
    for name in ("a", "t"):
        real.ask("blockdev-del", node_name=name)
        subprocess.run([qemu_img, "check", "-q", tmp_path / name], check=True)
    done = subprocess.run(
        [qemu_img, "convert", "-O", "raw", tmp_path / "t", tmp_path / "raw"], check=True
    )
    assert done.returncode == 0
    raw = (tmp_path / "raw").read_bytes()
    assert raw[65536 : 65536 * 2] == b"\3" * 65536
    assert raw[131072 : 131072 + 4096] == b"\4" * 4096
    assert raw[131072 + 4096 : 196608] == b"\3" * (65536 - 4096)
    assert raw[262144 : 262144 + 65536] == bytes(65536)


def test_locks_hold_between_two_opens(tmp_path: Path) -> None:
    path = tmp_path / "i"
    path.write_bytes(b"")
    first, second = (RealFiles().open(str(path), writable=True) for _ in range(2))
    first.lock(2, 2 | 8)
    with pytest.raises(ImageLocked):
        second.lock(2, 0)
    first.close()
    second.lock(2, 2)
    second.close()


def test_holes_stay_holes(tmp_path: Path) -> None:
    path = tmp_path / "i"
    file = RealFiles().open(str(path), writable=True, create=True)
    file.truncate(1 << 20)
    file.write(500000, b"x" * 4096)
    (data,) = file.data_ranges(0, 1 << 20)
    assert data[0] <= 500000 < sum(data)
    file.zero(0, 1 << 20)
    assert file.read(500000, 4096) == bytes(4096)
    file.close()
