"""The first hour of a new user: the wheel, an empty folder, snippets as they are pasted."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support import inner_pytest

ROOT = Path(__file__).parents[2]
#: what `pip install fakeqemu pytest` brings along beside the wheel, by name of its distribution
NEEDED = ("qemu.qmp", "pytest", "pluggy", "iniconfig", "packaging", "pygments")
MARKED = re.compile(r"^@pytest.mark.asyncio$", re.MULTILINE)


def snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of packages with the wheel and nothing of this repository."""
    dist, packages = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("packages")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    add(packages, *NEEDED)
    return packages


def add(packages: Path, *names: str) -> None:
    """The installed distributions of these names, as links."""
    site = Path(sysconfig.get_path("purelib"))
    for name in names:
        pattern = name.replace(".", "[._]")
        (info,) = (
            each for each in site.glob("*.dist-info")
            if re.fullmatch(pattern + r"-[^-]+\.dist-info", each.name, re.IGNORECASE)
        )  # fmt: skip
        record = (info / "RECORD").read_text()
        tops = {line.split(",")[0].split("/")[0] for line in record.splitlines()}
        for top in tops - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(site / top)


def run_pytest(folder: Path, packages: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest in a folder, with these packages and no others."""
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
        f"sys.path.insert(0, {str(packages)!r}); import pytest; sys.exit(pytest.main())"
    )
    environment = inner_pytest.environment(PYTHONPATH=str(packages))
    return subprocess.run(
        [sys.executable, "-S", "-c", code, "-p", "no:cacheprovider", *options],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_the_first_test_needs_nothing_but_pytest(installed: Path, tmp_path: Path) -> None:
    first = snippets("README.md")[0]
    assert "async" not in first
    (tmp_path / "test_first.py").write_text(first)
    done = run_pytest(tmp_path, installed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    # what runs is the wheel's
    (tmp_path / "test_first.py").write_text(
        f"import fakeqemu\ndef test_where():\n    assert {str(ROOT)!r} not in fakeqemu.__file__\n"
    )
    assert run_pytest(tmp_path, installed).returncode == 0


@pytest.fixture(scope="session")
def with_asyncio(installed: Path) -> Path:
    add(installed, "pytest_asyncio", "typing_extensions")
    return installed


def test_marked_snippets_run_in_strict_mode(with_asyncio: Path, tmp_path: Path) -> None:
    marked = [each for each in snippets("README.md") if MARKED.search(each)]
    assert marked
    for number, each in enumerate(marked):
        (tmp_path / f"test_{number}.py").write_text(each)
    done = run_pytest(tmp_path, with_asyncio)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mode=strict" in done.stdout.lower().replace("mode.strict", "mode=strict")


@pytest.mark.parametrize("page", ["README.md", "docs/testing.md"])
def test_all_snippets_run_in_auto_mode(page: str, with_asyncio: Path, tmp_path: Path) -> None:
    found = snippets(page)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "cassettes").mkdir()
    for recording in (ROOT / "tests" / "docs" / "cassettes").iterdir():
        shutil.copy(recording, tmp_path / "cassettes" / recording.name)
    for number, each in enumerate(found):
        (tmp_path / f"test_{number}.py").write_text(each)
    done = run_pytest(tmp_path, with_asyncio)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{sum(each.count('def test_') for each in found)} passed" in done.stdout
