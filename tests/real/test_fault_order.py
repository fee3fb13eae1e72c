"""Random pairs of faulty options beside a real QEMU: the same one is reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fakeqemu.profile import Profile
from tests.support.real import RealQemu

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_faults"


def test_the_same_of_two_faults_is_reported(real_qemu: RealQemu, profile: Profile) -> None:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), real_qemu.binary, profile.name,
         "--pairs", "20", "--seed", "1"],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
