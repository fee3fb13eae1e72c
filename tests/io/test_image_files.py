"""Image files of the host: locks, holes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeqemu.io.files.image_files import RealFiles
from fakeqemu.model.block.files import ImageLocked


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


def test_the_end_of_a_machine_closes_its_files_once(tmp_path: Path) -> None:
    files = RealFiles()
    kept = files.open(str(tmp_path / "kept"), writable=True, create=True)
    given_back = files.open(str(tmp_path / "back"), writable=True, create=True)
    given_back.close()
    files.close()
    again = RealFiles().open(str(tmp_path / "kept"), writable=True)
    again.lock(2, 2 | 8)
    # the descriptor may be another's by now
    kept.close()
    given_back.close()
    assert again.size() == 0
    again.close()
