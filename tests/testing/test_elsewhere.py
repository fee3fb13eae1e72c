"""Machines in a loop and in a thread need nothing that only Linux has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_without_what_only_linux_has() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.without_linux", "tests/testing/elsewhere.py"],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all of it\n"), done.stdout + done.stderr
