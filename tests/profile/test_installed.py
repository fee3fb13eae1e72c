"""The recordings come along in a wheel and in a source distribution."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

QUESTION = """
from fakeqemu.profile import Profile, store
assert store.schemas_dir().is_relative_to({here!r}), store.schemas_dir()
for name in Profile.names():
    profile = Profile.load(name)
    assert profile.device_properties("virtio-net-pci"), name
    assert profile.schema.commands["migrate"], name
print(*Profile.names())
"""


def build(kind: str, into: Path) -> Path:
    """Make a wheel or sdist by the backend itself, in its own process, without network."""
    pytest.importorskip("hatchling.build", reason="hatchling is not installed")
    code = f"import hatchling.build as b; print(b.build_{kind}({str(into)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return into / done.stdout.split()[-1]


def asked(folder: Path, place: Path) -> list[str]:
    """The profile names an interpreter sees that imports fakeqemu from `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", QUESTION.format(here=str(place))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


NAMES = [
    "6.2", "7.0", "7.1", "7.2", "8.0", "8.1", "8.2", "9.0", "9.1", "9.2", "10.0", "11.1", "next",
]  # fmt: skip


def test_checkout():
    assert asked(ROOT, ROOT / "schemas") == NAMES


def test_wheel(tmp_path):
    wheel = build("wheel", tmp_path)
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    assert asked(tmp_path / "site", tmp_path / "site" / "fakeqemu" / "_schemas") == NAMES
    assert not (tmp_path / "site" / "schemas").exists()


def test_sdist(tmp_path):
    sdist = build("sdist", tmp_path)
    with tarfile.open(sdist) as file:
        # Debian 12's Python has no filters yet
        file.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (root,) = (p for p in tmp_path.iterdir() if p.is_dir())
    assert asked(root, root / "schemas") == NAMES
