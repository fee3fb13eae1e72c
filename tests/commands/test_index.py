"""A command is found without importing all others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_index_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/make_command_index", "--check"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_looking_for_one_imports_its_module_alone() -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from fakeqemu.commands.registry import COMMANDS\n"
        "assert 'query-version' in COMMANDS and 'nonsense' not in COMMANDS\n"
        "from fakeqemu.commands import registry, lazy_registry, index, control\n"
        "print(*(m for m in sys.modules if m.startswith('fakeqemu.commands.')))\n"
        "assert len(COMMANDS) > 200 and 'fakeqemu.commands.ui' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {
        "fakeqemu.commands.registry",
        "fakeqemu.commands.lazy_registry",
        "fakeqemu.commands.index",
        "fakeqemu.commands.control",
        "fakeqemu.commands.control.introspect",
    }
