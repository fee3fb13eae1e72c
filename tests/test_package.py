"""What leaves the repository: metadata, dependencies, start-up weight."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_only_run_time_dependency_is_qemu_qmp() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [name.split(">")[0] for name in project["dependencies"]] == ["qemu.qmp"]


def test_the_daemon_starts_without_qemu_qmp() -> None:
    code = (
        "import sys; from fakeqemu.cli import main\n"
        "code = main(['run', '--profile', '10.0', '--', '-machine', 'none', '-incoming', 'x:y'])\n"
        "assert code == 1, code\n"
        "bad = {'qemu', 'asyncio', 'pytest'} & {name.split('.')[0] for name in sys.modules}\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "unknown migration protocol" in done.stderr


def test_the_schemas_stay_small() -> None:
    size = sum(path.stat().st_size for path in (ROOT / "schemas").rglob("*") if path.is_file())
    assert size < 6_000_000
