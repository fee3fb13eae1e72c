"""The command itself: what is ours, what is QEMU's, and what happens when neither fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakeqemu.cli import main
from fakeqemu.cli.options import UsageError, parse
from fakeqemu.cli.table import COMMANDS
from fakeqemu.profile import Profile, store

ROOT = Path(__file__).parents[2]


def test_our_options_end_at_the_first_of_qemus() -> None:
    parsed = parse("run", ["--profile", "10.0", "-machine", "none", "--profile", "x"])
    assert parsed.own == {"--profile": "10.0"}
    assert parsed.qemu == ["-machine", "none", "--profile", "x"]
    parsed = parse("run", ["--as-posted", "--", "--profile"])
    assert (parsed.own, parsed.qemu) == ({"--as-posted": ""}, ["--profile"])
    parsed = parse("run", ["--speed=3", "disk.img"])
    assert (parsed.own, parsed.qemu) == ({"--speed": "3"}, ["disk.img"])


def test_our_options_stand_anywhere_before_the_dashes() -> None:
    parsed = parse("diff", ["--shape", "file", "--profile", "7.2", "--", "--profile", "x"])
    assert parsed.own == {"--shape": "", "--profile": "7.2"}
    assert (parsed.words, parsed.qemu) == (["file"], ["--profile", "x"])
    parsed = parse("record", ["unix:a", "--output", "out", "--", "-b"])
    assert (parsed.own, parsed.words) == ({"--output": "out"}, ["unix:a", "-b"])
    assert parse("emulator", ["--name", "x", "dir", "--help"]).help


def test_an_option_without_its_value() -> None:
    with pytest.raises(UsageError, match="--profile needs a value: --profile PROFILE"):
        parse("run", ["--profile"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "--profile", "11.2"], "no profile '11.2', did you mean '11.1'?"),
        (["explian"], "no command 'explian', did you mean 'explain'?"),
        (["run", "--speed", "0"], "--speed takes a number above 0, got '0'"),
        (["emulator"], "emulator takes DIRECTORY (see `fakeqemu emulator --help`)"),
        (["emulator", "a", "b"], "emulator takes DIRECTORY, got 'b' too"),
        (["emulator", "a", "--nmae", "b"],
         "emulator has no option '--nmae', did you mean '--name'"),
        (["emulator", "a", "--name"], "--name needs a value: --name NAME"),
        (["emulator", "a", "--speed", "0"], "--speed takes a number above 0, got '0'"),
        (["emulator", "a\0b"], "cannot write the launcher: "),
        (["emulator", "a", "--control", "/c"],
         "a control socket is at unix:PATH or tcp:HOST:PORT, not at '/c"),
        (["profiles", "x"], "profiles takes no words, got 'x' too"),
        (["profiles", "--profile", "7.2"], "profiles has no option '--profile', it is one of run"),
        (["proposals", "--help=x"], "proposals has no option '--help'"),
        (["help", "nope"], "no command 'nope'"),
        (["completion", "tcsh"], "no shell 'tcsh', did you mean 'zsh'"),
        (["diff", "f", "-machine", "none"], "diff has no option '-machine'; QEMU's options stand"),
        (["diff", "/etc/passwd"], "/etc/passwd:1: not a line of a recording"),
        (["check", "-machine", "none", "--tap-directory", "x"],
         "--tap-directory is an option of fakeqemu; those stand before QEMU's: "
         "fakeqemu check --tap-directory DIR -- -machine ..."),
        (["explain", "--jsno", "-S"], "--jsno: did you mean fakeqemu's own option --json?"),
        (["check", "--json"],
         "--json is an option of `fakeqemu explain`, `fakeqemu check` has none"),
        (["run", "--clock", "virtal"], "no clock 'virtal', did you mean 'virtual'"),
        (["run", "--as-posted=x"], "--as-posted takes no value"),
        (["run", "--control", "unix:"], "an address is unix:PATH or tcp:HOST:PORT, not 'unix:'"),
        (["run", "--control", "/c"],
         "a control socket is at unix:PATH or tcp:HOST:PORT, not at '/c"),
        (["run", "--control", "tcp:0.0.0.0:1"],
         "a control socket at 0.0.0.0 is open to others: put"),
        (["run", "--journal", "/nonexistent/x"], "--journal: /nonexistent/x: No such file or dir"),
        (["run", "--journal", ""], "--journal: : No such file or directory"),
        (["run", "--private-channel", "1,x"], "--private-channel takes a whole number, got 'x'"),
        (["run", "--seed", "--1"], "--seed takes a whole number, got '--1'"),
        (["run", "--seed", "1"], "--seed is for a scenario, and there is none"),
        (["run", "--clock", "virtual", "--speed", "2"], "--speed has no effect on a virtual clock"),
        (["run", "--seed", "9" * 5000], "--seed takes a whole number, got '999"),
        (["run", "--journal-entries", "\u0663"], "--journal-entries takes a whole number, got"),
        (["fork-server", ""], "fork-server takes the path of its socket"),
        (["fork-server", "fd:x"], "a descriptor is fd:N, not 'fd:x'"),
        (["fork-server", "/nonexistent/x"], "/nonexistent/x: No such file or directory"),
        (["record", "--output", "o", "unix:/nonexistent/a", "unix:b"],
         "unix:/nonexistent/a: No such"),
        (["replay", "/dev/null"], "replay takes a file and --socket ADDRESS"),
        (["replay", "/dev/null", "--socket", "unix:/nonexistent/a"],
         "unix:/nonexistent/a: No such"),
        (["replay", "f", "--socket", "s", "--match", "x"],
         "no match 'x' (there are: order, content"),
        (["journal", "unix:/nonexistent/a"], "unix:/nonexistent/a: No such file or directory"),
        (["journal", "tcp:127.0.0.1:x"], "an address is unix:PATH or tcp:HOST:PORT, not 'tcp:127"),
        (["journal", "/etc/passwd"], "/etc/passwd: line 1 is no entry of a journal"),
        (["journal", "f", "--kind", "runstat"], "no kind of journal entry 'runstat'; did you mean"),
        (["journal", "f", "--last", "x"], "--last takes a whole number, got 'x'"),
        (["record", "--", "", "unix:b"], "an address is unix:PATH or tcp:HOST:PORT, not ''"),
        (["record", "--", "tcp:h:99999", "unix:b"], "an address is unix:PATH or tcp:HOST:PORT"),
        (["record", "--output", "/nonexistent/x", "--", "unix:a", "unix:b"],
         "/nonexistent/x: No such file or directory"),
        (["emulator", "/proc/nonexistent"], "cannot write the launcher: /proc/nonexistent: No"),
        (["fleet", "/"], "/: Is a directory"),
    ],
)  # fmt: skip
def test_our_own_mistakes(
    arguments: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # some write a file before they fail
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
    assert "fakeqemu COMMAND" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fakeqemu ")
    assert main([]) == 2


HELP = ["--help", "-h"]


@pytest.mark.parametrize("flag", HELP)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_own_help(
    command: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([command, flag]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: fakeqemu {command}")
    for name, option in COMMANDS[command].options.items():
        assert (f"  {name} " in said or f"  {name}\n" in said) != option.hidden
    assert max(map(len, said.splitlines())) <= 100
    assert main(["help", command]) == 0
    assert capsys.readouterr().out == said
    assert not list(tmp_path.iterdir())  # nothing else was done


def test_the_overview_has_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["-h"], ["help"]):
        assert main(arguments) == 0
        said = capsys.readouterr().out
        assert all(f"\n  {command} " in said for command in COMMANDS)


@pytest.mark.parametrize(
    "command", ["profiles", "proposals", "man", "--version", "help", "completion zsh", "run --help",
                "explain -- -M none", "run -- -help", "check -- -M none"]
)  # fmt: skip
def test_output_that_nobody_takes(command: str) -> None:
    for place, status in ((">/dev/full", {0, 1}), (">&-", {0}), ("| true", {0, 1})):
        line = f"set -o pipefail; {sys.executable} -m fakeqemu {command} {place}"
        done = subprocess.run(
            ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode in status, place
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr
        assert done.stderr in ("", "fakeqemu: cannot write: No space left on device\n")


def test_profiles_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == [*Profile.names(), *store.target_profile_names()]
    assert any("10.0.13" in line and "machine types" in line for line in lines)


def test_qemus_version_through_us(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--profile", "7.2", "-version"]) == 0
    assert capsys.readouterr().out.startswith("QEMU emulator version 7.2.22")
    assert main(["run", "--profile", "10.0", "--", "--version"]) == 0
    assert capsys.readouterr().out.startswith("QEMU emulator version 10.0.13")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["-M", "none", "--profile", "7.2"],
         "--profile is an option of fakeqemu; those stand before QEMU's: "
         "fakeqemu run --profile PROFILE -- -M ..."),
        (["--profiel", "7.2", "--", "-M", "none"],
         "--profiel: did you mean fakeqemu's own option --profile?"),
        (["-M", "none", "--json"],
         "--json is an option of `fakeqemu explain`, `fakeqemu run` has none"),
    ],
)  # fmt: skip
def test_an_option_of_ours_among_qemus(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    word = next(each for each in arguments if each.startswith("--"))
    assert main(["run", *arguments]) == 1
    assert capsys.readouterr().err == (
        f"qemu-system-x86_64: {word}: invalid option\nfakeqemu: {hint}\n"
    )


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


def test_an_emulator_serves_where_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["emulator", "bin", "--control", "unix:c", "--journal", "j"]) == 0
    written = (tmp_path / "bin" / "qemu-system-x86_64").read_text()
    assert f"--journal {tmp_path}/j" in written
    assert f"--control unix:{tmp_path}/c" in written



def test_the_launcher_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emulator", str(tmp_path / "bin"), "--profile", "10.0"]) == 0
    path, *others = map(Path, capsys.readouterr().out.split())
    assert path == tmp_path / "bin" / "qemu-system-x86_64"
    # one for each target that was recorded of that version
    assert {each.name for each in others} >= {"qemu-system-s390x", "qemu-system-riscv64"}
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


def test_a_list_that_is_printed_while_drives_are_made_ends_the_start(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["run", "--profile", "10.0", "--", "-M", "none", "-drive", "format=help"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert out == Profile.load("10.0").help("-drive format=help")
    assert err == ""
