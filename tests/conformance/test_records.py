"""The recorded answers of real QEMUs, played against the fake.

`known-failures.json` lists the steps that do not conform yet, each with the reason. It may
only shrink: a step that fails and is not listed fails the test, and so does a listed step
that conforms.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from conform.cli import check_all  # noqa: E402

#: families of records that the model claims, with the least share of steps that must conform
FAMILIES = {
    "args": 0.95,
    "background": 0.95,
    "block": 0.95,
    "boot": 0.95,
    "cap": 0.95,
    "chardev": 0.95,
    "cmdline": 0.95,
    "cpr": 0.95,
    "device": 0.95,
    "dirty": 0.95,
    "event": 0.95,
    "exit": 0.95,
    "found-h": 0.95,
    "found-k": 0.95,
    "found-r": 0.95,
    "hmp": 0.95,
    "incoming": 0.95,
    "intro": 0.95,
    "mapped": 0.95,
    "migrate": 0.95,
    "misc": 0.95,
    "monitor": 0.95,
    "net": 0.95,
    "object": 0.95,
    "param": 0.95,
    "postcopy": 0.95,
    "readers": 0.95,
    "tls": 0.95,
    "wire": 0.95,
}
#: families whose emulators are new processes; the others are forks of a warm one
FRESH = ("exit",)
#: records with commands in a migration that must not be over before: see `conform.held_time`
HELD = ("cpr-exec-errors",)
PROFILES = ("7.2", "10.0", "11.1")
KNOWN: dict[str, dict[str, str]] = json.loads((HERE / "known-failures.json").read_text())


def emulator(profile: str) -> list[str]:
    """The command that stands in for QEMU; replies are checked against the schema."""
    return [sys.executable, "-m", "fakeqemu", "run", "--profile", profile, "--check-replies", "--"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("profile", PROFILES)
async def test_records_of_family(profile: str, family: str) -> None:
    paths = sorted((HERE / "records" / profile).glob(f"{family}*-*.json"))
    if not paths:
        pytest.skip(f"{profile} has no records {family}-*")
    os.environ["PYTHONPATH"] = str(HERE.parent.parent)
    fork_server = family not in FRESH
    reports = await check_all(paths, emulator(profile), jobs=4, fork_server=fork_server, held=HELD)
    late = {report["scenario"] for report in reports if report["failed"]}
    if late:
        # The records wait fixed times for one process to get ahead of another, as it did on
        # the quiet machine they were made on: what failed beside others is played alone.
        again = [path for path in paths if path.stem in late]
        alone = await check_all(
            again, emulator(profile), jobs=1, fork_server=fork_server, held=HELD
        )
        reports = [report for report in reports if report["scenario"] not in late] + alone

    failing = {
        f"{profile}/{report['scenario']}#{failure['step']}": failure["why"]
        for report in reports
        for failure in report["failed"]
    }
    known = {
        f"{profile}/{report['scenario']}#{step}"
        for report in reports
        for step in KNOWN.get(f"{profile}/{report['scenario']}", {})
    }
    new = [f"{step}: {why}" for step, why in failing.items() if step not in known]
    assert not new, "steps that do not conform:\n" + "\n".join(new)
    mended = sorted(known - set(failing))
    assert not mended, "listed in known-failures.json, but they conform now: " + ", ".join(mended)
    total = sum(report["passed"] + len(report["failed"]) for report in reports)
    assert 1 - len(failing) / total >= FAMILIES[family]
