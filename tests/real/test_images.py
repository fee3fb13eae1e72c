"""Images on disk that other programs look into."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fakeqemu.formats.qcow2.creation import create_empty
from fakeqemu.formats.qcow2.header import Header
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.io.files.image_files import RealFiles
from tests.block.test_qcow2 import SIZE, Store, churn, zeros
from tests.support.machines import BlockMachine


def info(qemu_img: Path, path: Path) -> dict[str, object]:
    done = subprocess.run(
        [qemu_img, "info", "-U", "--output=json", path], check=True, capture_output=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_overlays_name_their_backing_image(
    qemu_img: Path, tmp_path: Path, on_disk: BlockMachine
) -> None:
    base, overlay = tmp_path / "base.raw", tmp_path / "o.qcow2"
    base.write_bytes(bytes(65536))
    assert on_disk.hmp(f"drive_add 0 if=none,id=d,format=raw,file={base}") == "OK\n"
    on_disk.ask(
        "blockdev-snapshot-sync", device="d", snapshot_node_name="o",
        snapshot_file=str(overlay),
    )  # fmt: skip
    shown = info(qemu_img, overlay)
    assert (shown["backing-filename"], shown["backing-filename-format"]) == (str(base), "raw")
    on_disk.vm.block.write("o", 0, b"written")
    on_disk.ask("block-stream", job_id="s", device="o")
    assert "backing-filename" not in info(qemu_img, overlay)
    on_disk.vm.block.close()
    subprocess.run([qemu_img, "check", "-q", overlay], check=True)


def test_locks_hold_against_other_programs(
    qemu_img: Path, tmp_path: Path, on_disk: BlockMachine
) -> None:
    path = tmp_path / "i.qcow2"
    subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    on_disk.add("qcow2", "q", file={"driver": "file", "filename": str(path)})
    refused = subprocess.run(
        [qemu_img, "info", path], capture_output=True, text=True, check=False
    )
    assert 'Failed to get shared "write" lock' in refused.stderr
    on_disk.ask("blockdev-del", node_name="q")
    subprocess.run([qemu_img, "check", "-q", path], check=True)


def test_compressed_clusters_are_sound(
    qemu_img: Path, tmp_path: Path, on_disk: BlockMachine
) -> None:
    for name in ("a", "t"):
        subprocess.run(
            [qemu_img, "create", "-q", "-f", "qcow2", tmp_path / name, "1M"], check=True
        )
        file = {"driver": "file", "filename": str(tmp_path / name)}
        on_disk.add("qcow2", name, file=file, discard="unmap")
    on_disk.hmp('qemu-io a "write -P 3 64k 512k"')
    on_disk.ask(
        "blockdev-backup", job_id="j", device="a", target="t", sync="full", compress=True
    )
    on_disk.hmp('qemu-io t "write -P 4 128k 4k"')
    on_disk.hmp('qemu-io t "discard 256k 64k"')
    for name in ("a", "t"):
        on_disk.ask("blockdev-del", node_name=name)
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


@pytest.mark.parametrize(("cluster_bits", "order", "version"), [(16, 4, 3), (9, 0, 3), (9, 4, 2)])
def test_qemu_img_finds_no_fault(
    qemu_img: Path, tmp_path: Path, cluster_bits: int, order: int, version: int
) -> None:
    path = tmp_path / "x.qcow2"
    file = RealFiles().open(str(path), writable=True, create=True)
    header = Header(
        version=version, size=SIZE, cluster_bits=cluster_bits, refcount_order=order
    )
    seen = churn(create_empty(Store(file), header), snapshots=order >= 3)
    file.close()
    subprocess.run([qemu_img, "check", "-q", path], check=True)
    subprocess.run([qemu_img, "convert", "-O", "raw", path, tmp_path / "raw"], check=True)
    assert (tmp_path / "raw").read_bytes() == seen


def test_images_of_qemu_img_are_read(qemu_img: Path, tmp_path: Path) -> None:
    raw, path = tmp_path / "raw", tmp_path / "x.qcow2"
    raw.write_bytes(b"words " * 50000)
    subprocess.run([qemu_img, "convert", "-c", "-O", "qcow2", raw, path], check=True)
    image = Qcow2(Store(RealFiles().open(str(path), writable=False)))
    data = image.read(0, image.header.size, zeros)
    assert data.rstrip(b"\0") == raw.read_bytes()
