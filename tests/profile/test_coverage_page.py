"""docs/coverage.md says what is modelled now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_not_stale():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_coverage", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
