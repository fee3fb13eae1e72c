"""A real swtpm attached to ours and to a real QEMU."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fakeqemu.profile import Profile
from tests.support.processes import fake
from tests.support.real import RealQemu
from tests.support.tpm import swtpm

_QUERIES = (
    '{"execute": "qmp_capabilities"}',
    '{"execute": "query-tpm"}',
    '{"execute": "human-monitor-command", "arguments": {"command-line": "info tpm"}}',
    '{"execute": "query-chardev"}',
    '{"execute": "query-migrate"}',
    '{"execute": "system_reset"}',
    '{"execute": "quit"}',
)


def conversation(command: list[str], control: Path, model: str) -> tuple[int, str, str]:
    """Exit status, what QMP said and standard error, without the folder's name and times."""
    done = subprocess.run(
        [*command, "-machine", "q35,accel=tcg", "-S", "-nodefaults", "-display", "none",
         "-qmp", "stdio", "-chardev", f"socket,id=chrtpm,path={control}",
         "-tpmdev", "emulator,id=tpm-tpm0,chardev=chrtpm",
         "-device", f"{model},tpmdev=tpm-tpm0,id=tpm0"],
        input="\n".join(_QUERIES) + "\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = done.stdout.replace(str(control.parent), "DIR").split("\n", 1)[1]
    said = re.sub(r'"timestamp": \{[^}]*\}, ', "", said)
    return done.returncode, said, done.stderr


def messages(text: str) -> list[object]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("model", ["tpm-tis", "tpm-crb"])
@pytest.mark.parametrize("tpm2", [True, False])
def test_both_have_it_do_the_same(
    real_qemu: RealQemu,
    profile: Profile,
    program: Callable[[str], str],
    folder: Path,
    tpm2: bool,
    model: str,
) -> None:
    found = []
    for name, command in (
        ("real", [real_qemu.binary]),
        ("fake", [*fake(profile.name)]),
    ):
        own = folder / name
        own.mkdir()
        with swtpm(program("swtpm"), own, tpm2=tpm2) as control:
            code, said, errors = conversation(command, control, model)
        asked = re.findall(r"Ctrl Cmd: length \d+\n(.*)\n", (own / "log").read_text())
        found.append((code, messages(said), errors, asked))
    assert found[1] == found[0]
    assert found[0][0] == 0
    assert len(found[0][3]) > 10
