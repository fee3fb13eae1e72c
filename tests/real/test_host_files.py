"""What a real QEMU says of files of the host that its options name."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.boot.test_host_files import CASES, USAGE, folder
from tests.support.real import RealQemu

__all__ = ["folder"]


@pytest.mark.qemu("7.2")
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("machine", "options", "said"), CASES)
def test_a_real_one_says_the_same(
    real_qemu: RealQemu, machine: str, options: str, said: str
) -> None:
    ran = subprocess.run(
        [real_qemu.binary, "-display", "none", "-nodefaults", "-S", "-machine", machine,
         "-qmp", "stdio", *shlex.split(options)],
        input='{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n',
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    printed = ran.stderr or ran.stdout.partition("{")[0]
    printed = printed.replace(Path(real_qemu.binary).name, "QEMU").rstrip("\n")

    assert (USAGE if printed.startswith(USAGE) else printed) == said
