"""Record how a real QEMU answers a scenario, and check another emulator against that record.

    scripts/conform record SCENARIO.json... --qemu CMD --out DIR [--times 3]
    scripts/conform check  RECORD.json...   --qemu CMD [--json REPORT] [--verbose]

A scenario is a JSON file (see FORMAT.md beside this package).  `record` plays it several times
and writes a copy with an "expect" in every step; leaves that differ between the plays, or are
known to be volatile, become {"$any": TYPE}.  `check` plays a record against CMD and prints one
line a scenario and, at the end, 'N passed, M failed' counted in steps.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import re
import shlex
import subprocess
from collections.abc import Container
from pathlib import Path
from typing import Any

from .compare import differences, generalize, order_free
from .play import Play
from .session import StepError


async def record(path: Path, qemu: list[str], out: Path, times: int) -> bool:
    scenario = json.loads(path.read_text())
    plays = [await Play(scenario, qemu).run() for _ in range(times)]
    result = copy.deepcopy(scenario)
    version = subprocess.run(
        [*qemu, "--version"], capture_output=True, text=True, check=False
    ).stdout
    if match := re.search(r"version (\d+\.\d+\.\d+)", version):
        result["recorded_with"] = match.group(1)
    good = True
    for index, step in enumerate(result["steps"]):
        values = [play[index] if index < len(play) else StepError("not reached") for play in plays]
        failed = [value for value in values if isinstance(value, StepError)]
        if failed:
            good = False
            what = json.dumps(scenario["steps"][index])[:160]
            print(f"{path.name}: step {index} {what}: {failed[0]}")
            continue
        if "like" in step:
            step["expect"] = step["like"]
            wrong = [line for value in values for line in differences(step["like"], value)]
            if wrong:
                good = False
                print(f"{path.name}: step {index}: not like: {wrong[0]}")
        elif step.get("unordered"):
            values = [order_free(value, step) for value in values]
            step["expect"] = values[0]
        else:
            step["expect"] = generalize(values)
    if good:
        out.mkdir(parents=True, exist_ok=True)
        (out / path.name).write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
        print(f"{path.name}: recorded {len(result['steps'])} steps")
    return good


async def check(
    path: Path, qemu: list[str], launch: Any = None, *, holds_time: bool = False
) -> dict[str, Any]:
    """Play the record at `path` against `qemu`; which steps conform, and why others do not.

    `holds_time`: see `Play`.
    """
    scenario = json.loads(path.read_text())
    observed = await Play(scenario, qemu, launch, holds_time=holds_time).run()
    failed: list[dict[str, Any]] = []
    for index, step in enumerate(scenario["steps"]):
        got = observed[index] if index < len(observed) else StepError("not reached")
        lines = [str(got)] if isinstance(got, StepError) else differences(step.get("expect"), got)
        if lines:
            label = json.dumps({k: v for k, v in step.items() if k not in ("expect", "timeout")})
            failed.append({"step": index, "what": label[:200], "why": lines[:12]})
    return {
        "scenario": scenario.get("name", path.stem),
        "passed": len(scenario["steps"]) - len(failed),
        "failed": failed,
    }


async def check_all(
    paths: list[Path],
    qemu: list[str],
    jobs: int = 4,
    *,
    fork_server: bool = False,
    held: Container[str] = (),
) -> list[dict[str, Any]]:
    """`check` for every path, `jobs` scenarios at a time; the reports in the order of `paths`.

    With `fork_server`, `qemu` is a fakeqemu and its processes are forks of a warm one. `held`:
    names of scenarios in which a fakeqemu's time passes only while a step waits.
    """
    places = asyncio.Semaphore(jobs)
    launch = None
    if fork_server:
        from .forked import launch

    async def one(path: Path) -> dict[str, Any]:
        async with places:
            return await check(path, qemu, launch, holds_time=path.stem in held)

    return await asyncio.gather(*map(one, paths))


def show(report: dict[str, Any], verbose: bool) -> None:
    """Print one scenario's line, and why steps failed if asked."""
    total = report["passed"] + len(report["failed"])
    word = "ok  " if not report["failed"] else "FAIL"
    print(f"{word} {report['scenario']}: {report['passed']}/{total} steps")
    if verbose:
        for failure in report["failed"]:
            print(f"     step {failure['step']} {failure['what']}")
            for line in failure["why"]:
                print(f"        {line}")


async def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("record", "check"):
        sub = commands.add_parser(name)
        sub.add_argument("files", nargs="+", type=Path)
        sub.add_argument("--qemu", required=True, type=shlex.split, help="emulator command")
        if name == "record":
            sub.add_argument("--out", required=True, type=Path)
            sub.add_argument("--times", type=int, default=3)
        else:
            sub.add_argument("--json", type=Path)
            sub.add_argument("--verbose", action="store_true")
            sub.add_argument("--jobs", type=int, default=1, help="scenarios at a time")
            sub.add_argument(
                "--fork-server",
                action="store_true",
                help="CMD is `... -m fakeqemu ...`: fork its processes off a warm one",
            )
    args = parser.parse_args()
    if args.command == "record":
        results = [await record(path, args.qemu, args.out, args.times) for path in args.files]
        return 0 if all(results) else 1
    reports = await check_all(
        args.files, args.qemu, args.jobs, fork_server=args.fork_server
    )
    for report in reports:
        show(report, args.verbose)
    passed = sum(report["passed"] for report in reports)
    failed = sum(len(report["failed"]) for report in reports)
    whole = sum(not report["failed"] for report in reports)
    if args.json:
        args.json.write_text(json.dumps(reports, indent=1))
    print(f"{whole} of {len(reports)} scenarios conform")
    print(f"{passed} passed, {failed} failed")
    return 0 if not failed else 1
