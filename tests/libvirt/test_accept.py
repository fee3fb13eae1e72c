"""A real libvirt takes the fake for an emulator: every flow of the acceptance run.

Each flow is a process of its own with its own libvirtd, so that they can run side by side and
nothing of one is left for another: `scripts/accept --flow NAME -v` is the same by hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accept.registry import FLOWS, all_steps  # isort: skip

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.libvirt


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flow", FLOWS)
def test_flow(flow: str, emulator: Path, privacy: str, tmp_path: Path) -> None:
    ended = run_flow(flow, emulator, privacy, tmp_path)
    assert ended.keys() >= {
        each.name
        for each in all_steps()
        if each.flow == flow and not each.name.endswith(".cleanup")
    }


@pytest.mark.timeout(300)
def test_a_domain_with_local_is_saved_restored_and_migrated(
    local_emulator: Path, privacy: str, tmp_path: Path
) -> None:
    ended = run_flow("local", local_emulator, privacy, tmp_path)
    steps = ("local.save", "local.restore", "local.migrate")
    assert {step: ended[step]["status"] for step in steps} == dict.fromkeys(steps, "ok")


def run_flow(flow: str, emulator: Path, privacy: str, tmp_path: Path) -> dict[str, Any]:
    """The steps of a flow, none of which has failed, by name."""
    results = tmp_path / "results.json"
    command = [sys.executable, str(ROOT / "scripts" / "accept"), "--emulator", str(emulator)]
    command += ["--flow", flow, "--privacy", privacy, "--json", str(results), "--verbose"]
    scale = os.environ.get("FAKEQEMU_TIMEOUT_SCALE", "2")
    outcome = subprocess.run(
        [*command, "--timeout-scale", scale],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=290,
    )

    print(outcome.stdout)
    assert results.exists(), outcome.stdout[-2000:]
    ended = {each["step"]: each for each in json.loads(results.read_text())}
    failed = {
        step: each["reason"] for step, each in ended.items() if each["status"] == "FAIL"
    }
    assert not failed
    assert outcome.returncode == 0
    return ended
