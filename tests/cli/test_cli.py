"""The command itself: what is ours, what is QEMU's, and what happens when neither fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu.cli import main
from fakeqemu.cli_options import UsageError, own_options
from fakeqemu.profile import Profile

ROOT = Path(__file__).parents[2]


def test_our_options_end_at_the_first_of_qemus() -> None:
    own, rest = own_options(["--profile", "10.0", "-machine", "none", "--profile", "x"])
    assert own == {"--profile": "10.0"}
    assert rest == ["-machine", "none", "--profile", "x"]
    assert own_options(["--as-posted", "--", "--profile"]) == (
        {"--as-posted": ""},
        ["--profile"],
    )
    assert own_options(["--speed=3", "disk.img"]) == ({"--speed": "3"}, ["disk.img"])


def test_an_option_without_its_value() -> None:
    with pytest.raises(UsageError, match="--profile needs a value"):
        own_options(["--profile"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "--profile", "11.2"], "no profile '11.2', did you mean '11.1'?"),
        (["explian"], "no command 'explian', did you mean 'explain'?"),
        (["run", "--speed", "0"], "--speed takes a number above 0, got '0'"),
        (["emulator"], "emulator takes one directory"),
        (["profiles", "x"], "profiles takes no arguments, got 'x'"),
        (["run", "--control", "unix:"], "a control socket is at unix:PATH, not at 'unix:'"),
        (["run", "--private-channel", "1,x"], "--private-channel takes a whole number, got 'x'"),
        (["run", "--seed", "--1"], "--seed takes a whole number, got '--1'"),
        (["run", "--seed", "9" * 5000], "--seed takes a whole number, got '999"),
        (["run", "--journal", "\u0663"], "--journal takes a whole number, got '\u0663'"),
        (["fork-server", ""], "fork-server takes the path of its socket"),
        (["fork-server", "fd:x"], "a descriptor is fd:N, not 'fd:x'"),
        (["fork-server", "/nonexistent/x"], "No such file or directory"),
        (["record", "--", "", "unix:b"], "an address is unix:PATH or tcp:HOST:PORT, not ''"),
        (["record", "--", "tcp:h:99999", "unix:b"], "an address is unix:PATH or tcp:HOST:PORT"),
        (["record", "--output", "/nonexistent/x", "--", "unix:a", "unix:b"],
         "/nonexistent/x: No such file or directory"),
        (["emulator", "/proc/nonexistent"], "cannot write the launcher: /proc/nonexistent: No"),
        (["fleet", "/"], "/: Is a directory"),
    ],
)  # fmt: skip
def test_our_own_mistakes(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"fakeqemu: {text}")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--control", "unix:/nonexistent/c"], "no control socket at /nonexistent/c: No such file"),
        (["--control", "unix:/tmp"], "no control socket at /tmp: Is a directory"),
        (["--private-channel", "987"], "no private channel at 987: Bad file descriptor"),
    ],
)
def test_what_cannot_be_had_ends_the_start(
    arguments: list[str], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments, "--", "-machine", "none", "-display", "none"]) == 1
    assert capfd.readouterr().err.startswith(f"qemu-system-x86_64: fakeqemu: {text}")


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "fakeqemu run" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fakeqemu ")
    assert main([]) == 2


def test_profiles_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == Profile.names()
    assert any("10.0.13" in line and "machine types" in line for line in lines)


def test_qemus_version_through_us(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--profile", "7.2", "-version"]) == 0
    assert capsys.readouterr().out.startswith("QEMU emulator version 7.2.22")
    assert main(["run", "--profile", "10.0", "--", "--version"]) == 0
    assert capsys.readouterr().out.startswith("QEMU emulator version 10.0.13")


def test_a_refused_option_reads_as_qemus(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--profile", "10.0", "-nonsense"]) == 1
    assert capsys.readouterr().err == "qemu-system-x86_64: -nonsense: invalid option\n"


def test_explain_shows_steps_and_layers(capsys: pytest.CaptureFixture[str]) -> None:
    qemu = ["-machine", "pc-q35-7.2", "-global", "migration.multifd-channels=7"]
    assert main(["explain", "--json", "--profile", "10.0", *qemu]) == 0
    account = json.loads(capsys.readouterr().out)
    assert account["error"] is None
    assert account["machine"] == "pc-q35-7.2"
    steps = [step["step"] for step in account["steps"]]
    assert steps.index("monitors") < steps.index("migration object")
    values = {entry["name"]: entry for entry in account["parameters"]}
    assert values["multifd-channels"]["value"] == 7
    assert values["multifd-channels"]["layer"] == "-global"
    assert values["multifd-channels"]["layers"]["default"] == 2
    assert values["zero-page-detection"]["layer"] == "machine compat"

    assert main(["explain", "--profile", "7.2", *qemu]) == 0
    text = capsys.readouterr().out
    assert text.index("migration object") < text.index("monitors")
    assert "default: 2 < -global: 7" in text


def test_explain_says_where_a_start_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--profile", "10.0", "-chardev", "null,id=m", "-mon", "chardev=x"]) == 1
    out = capsys.readouterr().out
    assert 'ends with exit status 1: -mon chardev=x: chardev "x" not found' in out


def test_the_launcher_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulator", str(tmp_path / "bin"), "--profile", "10.0"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "bin" / "qemu-system-x86_64"
    done = subprocess.run(
        [str(path), "-version"], env={}, cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("QEMU emulator version 10.0.13")
    done = subprocess.run(
        [str(path), "-nonsense"], env={}, cwd="/", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "qemu-system-x86_64: -nonsense: invalid option\n")
    assert sys.executable in path.read_text()


def test_a_profile_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fakeqemu", "run", "-version"],
        env={**os.environ, "FAKEQEMU_PROFILE": "7.2", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "7.2.22" in done.stdout
