"""`fakeqemu record-profile`, with an emulator of ours as the program that is asked.

What it answers is what its profile has, so a recording of it is that profile again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu.io.process.launcher import write_launcher
from fakeqemu.profile import store

COMMAND = (sys.executable, "-m", "fakeqemu")
#: parts that take little time
QUICK = ("version", "schema", "commands", "option-groups", "trace-events", "types", "fixed-types")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=280, check=False
    )


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bin")
    return str(write_launcher(str(folder), "qemu-system-x86_64", "10.0"))


@pytest.fixture(scope="module")
def recorded(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profile") / "mine"
    done = run("record-profile", emulator, str(folder), "--only", ",".join(QUICK))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"100%  {folder}"
    return folder


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", QUICK)
def test_a_recording_of_a_profile_is_that_profile(recorded: Path, part: str) -> None:
    there = store.schemas_dir() / "10.0"
    assert Path(store.part_path(recorded, part)).read_bytes() == (
        Path(store.part_path(there, part)).read_bytes()
    )


@pytest.mark.timeout(300)
def test_it_goes_on_where_it_stopped(emulator: str, recorded: Path) -> None:
    again = ("--resume", "--only", "version,fixed-types,hmp-commands")
    done = run("record-profile", emulator, str(recorded), *again)
    steps = [line.split("%  ")[1].split(" (")[0] for line in done.stdout.splitlines()]
    assert steps == ["hmp-commands", str(recorded)]


@pytest.mark.timeout(300)
def test_what_cannot_be_recorded_is_named(emulator: str, recorded: Path) -> None:
    """Of an emulator of ours, that is what it does not model."""
    store.write_part(recorded, "vmstates", {"of": "another program"})
    done = run("record-profile", emulator, str(recorded), "--only", "vmstates")
    assert done.returncode == 1
    assert "vmstates: not recorded: " in done.stdout
    assert "fakeqemu does not model '-dump-vmstate'" in done.stdout
    assert "-dump-vmstate" in store.missing_parts(recorded)["vmstates"]
    assert not Path(store.part_path(recorded, "vmstates")).exists()
    # a machine of it says so, and what needs one of the parts does, too
    machine = ("run", "--profile", f"{recorded}/", "--", "-machine", "none", "-device", "help")
    done = run(*machine)
    first, second = done.stderr.splitlines()
    assert first == "fakeqemu: profile mine has no vmstates: see its part `missing`"
    assert second.startswith("qemu-system-x86_64: ")
    assert "fakeqemu does not model 'options': it is not in the profile" in second


@pytest.mark.parametrize(
    ("program", "only", "said"),
    [
        ("/nonexistent", "version", "/nonexistent: No such file or directory"),
        ("/bin/true", "version", "/bin/true does not answer as a QEMU: the program ended"),
        ("/bin/true", "nonsense", "no part 'nonsense'; there are block-drivers, commands, "),
    ],
)
def test_wrong_uses(program: str, only: str, said: str, tmp_path: Path) -> None:
    done = run("record-profile", program, str(tmp_path / "p"), "--only", only)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"fakeqemu: {said}")
    assert not (tmp_path / "p").exists()
