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
PROFILES = ("7.2", "8.2", "10.0", "11.1")
#: targets, with the least share of steps that must conform
TARGETS = {"10.0/aarch64": 0.98, "10.0/ppc64": 0.97, "10.0/riscv64": 0.97, "10.0/s390x": 0.97}
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
    await hold(profile, paths, FAMILIES[family], fork_server=family not in FRESH)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("profile", "family"),
    [
        (profile, family)
        for profile in TARGETS
        for family in FAMILIES
        if list((HERE / "records" / profile).glob(f"{family}-*.json"))
    ],
)
async def test_records_of_target(profile: str, family: str) -> None:
    paths = sorted((HERE / "records" / profile).glob(f"{family}-*.json"))
    await hold(profile, paths, 0.0, fork_server=family not in FRESH)


@pytest.mark.parametrize("profile", TARGETS)
def test_share_of_target(profile: str) -> None:
    """Which steps conform is the other test's; here, that they are enough of all."""
    paths = list((HERE / "records" / profile).glob("*.json"))
    assert not {path.stem for path in paths if not path.stem.startswith(tuple(FAMILIES))}
    total = sum(len(json.loads(path.read_text())["steps"]) for path in paths)
    failing = sum(len(KNOWN.get(f"{profile}/{path.stem}", {})) for path in paths)
    assert 1 - failing / total >= TARGETS[profile]


async def hold(
    profile: str, paths: list[Path], share: float, *, fork_server: bool = True
) -> None:
    """Play records; fail if they conform to less, or to more, than is known and than `share`."""
    os.environ["PYTHONPATH"] = str(HERE.parent.parent)
    reports = await check_all(paths, emulator(profile), jobs=4, fork_server=fork_server, held=HELD)
    late = {
        report["scenario"]
        for report in reports
        if {str(failure["step"]) for failure in report["failed"]}
        - set(KNOWN.get(f"{profile}/{report['scenario']}", {}))
    }
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
    assert 1 - len(failing) / total >= share
