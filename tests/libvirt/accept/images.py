"""Disk images made without qemu-img, so that nothing of a QEMU need be installed."""

from __future__ import annotations

import struct
from pathlib import Path

CLUSTER = 65536


def write_qcow2(path: Path, size: int) -> None:
    """An empty qcow2 v3 image: header, refcount table, refcount block, L1 table."""
    covered = CLUSTER * (CLUSTER // 8)
    l1_entries = max(1, (size + covered - 1) // covered)
    fields = (b"QFI\xfb", 3, 0, 0, 16, size, 0, l1_entries, 3 * CLUSTER, CLUSTER, 1, 0, 0, 0, 0, 0)
    header = struct.pack(">4sIQIIQIIQQIIQQQQII", *fields, 4, 104)
    with path.open("wb") as file:
        file.write(header + struct.pack(">II", 0, 0))
        file.seek(CLUSTER)
        file.write(struct.pack(">Q", 2 * CLUSTER))
        file.seek(2 * CLUSTER)
        file.write(struct.pack(">4H", 1, 1, 1, 1))
        file.truncate(4 * CLUSTER)


def parse_size(text: str) -> int:
    """`64M` in bytes."""
    shift = {"K": 10, "M": 20, "G": 30}.get(text[-1])
    return int(text) if shift is None else int(text[:-1]) << shift


def make_image(path: Path, size: str = "64M", form: str = "qcow2") -> Path:
    """A new empty image that anybody may write to."""
    path.unlink(missing_ok=True)
    if form == "qcow2":
        write_qcow2(path, parse_size(size))
    else:
        with path.open("wb") as file:
            file.truncate(parse_size(size))
    path.chmod(0o666)
    return path
