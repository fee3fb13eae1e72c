"""What the tests with a real libvirt need, and why they are skipped where it is not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

#: what Debian's packages bring: libvirt-daemon-system, libvirt-clients
TOOLS = ("libvirtd", "virsh")
NOBODY = 65534


def _found(tool: str) -> bool:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def _succeeds(*argv: str) -> str:
    """Empty if the command succeeds, else what it says."""
    outcome = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return "" if outcome.returncode == 0 else outcome.stderr.strip() or f"exit {outcome.returncode}"


@pytest.fixture(scope="session")
def emulator() -> Iterator[Path]:
    """An emulator for libvirt: the fake as a QEMU of the version that Debian 12 has too."""
    yield from _emulator("7.2")


@pytest.fixture(scope="session")
def local_emulator() -> Iterator[Path]:
    """The same with the parameter `local`: the QEMU to come, if this libvirt can talk to it.

    Older ones give `migrate` an argument that 11.1 has no more.
    """
    said = subprocess.run(["libvirtd", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)\.\d+", said.stdout)
    knows_next = found is not None and int(found[1]) >= 12
    yield from _emulator("next" if knows_next else "10.0+incoming-config+local")


def _emulator(profile: str) -> Iterator[Path]:
    """It lies where every user can get at it, which pytest's own directories do not."""
    with tempfile.TemporaryDirectory(prefix="fakeqemu-emulator-") as made:
        directory = Path(made)
        directory.chmod(0o755)
        command = [sys.executable, "-m", "fakeqemu", "emulator", made, "--profile", profile]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
        yield directory / "qemu-system-x86_64"


@pytest.fixture(scope="session")
def privacy(emulator: Path) -> str:
    """How a libvirtd can be kept apart from the host here; skips if it cannot."""
    missing = [tool for tool in TOOLS if not _found(tool)]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} here")
    if os.geteuid() != 0:
        return "session"
    why = "unshare is not there"
    if _found("unshare"):
        mount = ("mount", "-t", "tmpfs", "none", "/mnt")
        why = _succeeds("unshare", "-m", "--propagation", "private", *mount)
        if not why:
            return "namespace"
    return _as_nobody(emulator, why)


def _as_nobody(emulator: Path, why: str) -> str:
    try:
        outcome = subprocess.run(
            [emulator, "-version"], user=NOBODY, group=NOBODY, extra_groups=[], timeout=60,
            capture_output=True, text=True, check=False,
        )
        said = "" if outcome.returncode == 0 else outcome.stderr.strip()[-200:]
    except OSError as error:
        said = str(error)
    if said:
        pytest.skip(
            f"no private mount namespace for a system libvirtd ({why}), and a session libvirtd, "
            f"which is not for root, cannot run the emulator ({said})"
        )
    return "session"
