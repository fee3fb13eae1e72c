"""Tests beside a real QEMU; each says by a fixture or a marker which it needs.

`real_qemu` is any version of which there is a profile; with the marker `qemu("7.2", "10.0")` one
of these. Other programs come with `program("nbdinfo")`. What is missing skips, with the reason.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakeqemu.io.files.image_files import RealFiles
from fakeqemu.profile import Profile
from tests.support.machines import BlockMachine
from tests.support.real import RealQemu, find_real_qemu


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture
def real_qemu(request: pytest.FixtureRequest) -> RealQemu:
    found = find_real_qemu()
    if found is None:
        pytest.skip("no qemu-system-x86_64 in PATH and no FAKEQEMU_REAL_QEMU")
    if found.profile is None:
        pytest.skip(f"no profile is of {found.full_version}")
    marker = request.node.get_closest_marker("qemu")
    if marker is not None and found.version not in marker.args:
        wanted = " or ".join(marker.args)
        pytest.skip(f"needs QEMU {wanted}, {found.binary} is {found.full_version}")
    return found


@pytest.fixture
def profile(real_qemu: RealQemu) -> Profile:
    """The profile of the real QEMU's version."""
    assert real_qemu.profile is not None
    return real_qemu.profile


@pytest.fixture
def program() -> Callable[[str], str]:
    """The path of a program, or a skip."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"no {name} in PATH")
        return found

    return find


@pytest.fixture
def qemu_img(program: Callable[[str], str]) -> Path:
    return Path(program("qemu-img"))


@pytest.fixture
def on_disk() -> BlockMachine:
    """A machine whose images are files of this host."""
    return BlockMachine(RealFiles())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="fq-", dir="/tmp") as made:
        yield Path(made)
