"""Completion and the manual page, made of the table of commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fakeqemu.cli.completion import completion
from fakeqemu.cli.help import environment, manual_page
from fakeqemu.cli.table import COMMANDS, SHELLS


def completed(words: list[str], directory: Path) -> list[str]:
    """What bash offers for the last word."""
    script = completion("bash") + (
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fakeqemu; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        cwd=directory, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["fakeqemu", "fo"], ["fork-server"]),
        (["fakeqemu", "run", "--pro"], ["--profile", "--proposal", "--program"]),
        (["fakeqemu", "run", "--profile", "1"], ["10.0", "11.1"]),
        (["fakeqemu", "run", "--proposal", "imm"], ["immutable-local"]),
        (["fakeqemu", "run", "--scenario", "coa"], ["coalesce"]),
        (["fakeqemu", "run", "--scenario", "own"], ["own.toml"]),
        (["fakeqemu", "run", "--clock", ""], ["real", "virtual"]),
        (["fakeqemu", "run", "--private"], []),
        (["fakeqemu", "emulator", "fo"], ["folder"]),
        (["fakeqemu", "replay", "f", "--match", "c"], ["content"]),
        (["fakeqemu", "completion", "z"], ["zsh"]),
        (["fakeqemu", "help", "mark"], []),
        (["fakeqemu", "help", "pro"], ["profiles", "proposals"]),
        (["fakeqemu", "run", "--", "--pro"], []),
    ],
)
def test_bash(words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "own.toml").touch()
    assert completed(words, tmp_path) == offered


def offered_by(shell: str, tmp_path: Path) -> dict[str, set[str]]:
    """The options that a shell completes for each command, help aside."""
    script = completion(shell)
    if shell == "bash":
        lines = [
            f"COMP_WORDS=(fakeqemu {command} -); COMP_CWORD=2; _fakeqemu; "
            f'echo "{command} ${{COMPREPLY[*]}}"'
            for command in COMMANDS
        ]
        done = subprocess.run(
            ["bash", "-c", "\n".join([script, *lines])],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        words = [line.split() for line in done.stdout.splitlines()]
        found = {command: set(options) for command, *options in words}
    elif shell == "zsh":
        sections = re.split(r"^ {4}([\w-]+)\) ", script, flags=re.MULTILINE)[1:]
        found = {
            command: set(re.findall(r"^ +'\*?(--?[\w-]+)\[", text, re.MULTILINE))
            for command, text in zip(sections[::2], sections[1::2], strict=True)
        }
    else:
        found = {command: set() for command in COMMANDS}
        seen = r"^complete -c fakeqemu -n '__fish_seen_subcommand_from ([\w-]+)' -([lso]) ([\w-]+)"
        for command, kind, name in re.findall(seen, script, re.MULTILINE):
            found[command].add(f"--{name}" if kind == "l" else f"-{name}")
    return {command: options - {"--help", "-h"} for command, options in found.items()}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_knows_the_options_of_each_command(shell: str, tmp_path: Path) -> None:
    offered = offered_by(shell, tmp_path)
    for command, about in COMMANDS.items():
        own = {name for name, option in about.options.items() if not option.hidden}
        assert offered.get(command, set()) == own, command


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_shell_reads_its_script(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    script = tmp_path / "script"
    script.write_text(completion(shell))
    done = subprocess.run(
        [shell, "--no-execute" if shell == "fish" else "-n", script],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_manual_page() -> None:
    page = manual_page()
    plain = page.replace("\\-", "-")
    for command, about in COMMANDS.items():
        assert f".SS {command}\n" in plain
        for name, option in about.options.items():
            assert (f".B {name}" in plain) != option.hidden
    for variable in environment():
        assert f".B {variable}\n" in page
    if shutil.which("groff") is None:
        return
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-wall", "-z"],
        input=page, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert not done.stderr
