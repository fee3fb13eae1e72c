"""How a profile is named to another process: it may run in another directory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fakeqemu.commands.hmp.definitions import HmpTable
from fakeqemu.io.process.launcher import write_launcher
from fakeqemu.profile import Profile, store
from fakeqemu.profile.options import options_for
from fakeqemu.testing import FakeQemu


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """One in a folder that is named from where it is."""
    shutil.copytree(store.schemas_dir() / "10.0", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    return Profile.load("./mine")


def test_of_the_package() -> None:
    for name in (*Profile.names(), "11.1+local"):
        assert options_for(Profile.load(name)) == ["--profile", name]


def test_of_a_folder(mine: Profile, tmp_path: Path) -> None:
    assert options_for(mine) == ["--profile", f"{tmp_path}/mine"]
    laid = Profile.load("./mine", ["local", "config-argument:stored=on"])
    _, path, option, proposals = options_for(laid)
    assert (path, option) == (f"{tmp_path}/mine", "--proposal")
    again = Profile.load(path, proposals.split(","))
    assert again.proposals == laid.proposals


def test_an_emulator_of_a_folder(mine: Profile, tmp_path: Path) -> None:
    path = write_launcher(str(tmp_path / "bin"), "qemu-system-x86_64", mine)
    done = subprocess.run(
        [path, "-version"], cwd="/", capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == mine.help("-version")


@pytest.mark.parametrize("runner", ["process", "fork"])
async def test_a_machine_of_a_folder(mine: Profile, runner: str) -> None:
    async with FakeQemu("-machine", "none", profile=mine, runner=runner) as vm:
        assert (await vm.qmp("query-version"))["package"] == mine.version.package


def test_folders_of_one_name_are_kept_apart(mine: Profile, tmp_path: Path) -> None:
    shutil.copytree(store.schemas_dir() / "7.2", tmp_path / "other" / "mine")
    other = Profile.load("./other/mine")
    assert other.name == mine.name
    assert HmpTable.of(other).commands != HmpTable.of(mine).commands
