"""Runs steps one after the other, tells how each ended, and leaves nothing behind."""

from __future__ import annotations

import fnmatch
import json
import shutil
import threading
import time
import traceback
from dataclasses import asdict, dataclass

from accept import transcript
from accept.errors import Failed, Skipped
from accept.lab import Lab
from accept.options import Options
from accept.processes import become_subreaper, end_orphans, reap_orphans
from accept.registry import FINAL, Step, all_steps

#: an emulator that hangs would use up every time-out there is
MAX_HANGS = 5


@dataclass
class Result:
    """How one step ended."""

    step: str
    #: ok, FAIL or skip
    status: str
    reason: str
    seconds: float


def chosen(options: Options) -> list[Step]:
    """The steps that the command line asks for."""

    def wanted(each: Step) -> bool:
        if any(fnmatch.fnmatch(each.name, pattern) for pattern in options.skip):
            return False
        if each.name == "probe.daemon-start":
            return True
        if options.flow and each.flow not in (*options.flow, FINAL):
            return False
        return not options.only or any(fnmatch.fnmatch(each.name, p) for p in options.only)

    return [each for each in all_steps() if wanted(each)]


def run_all(options: Options) -> int:
    """Run the chosen steps; 0 if none failed."""
    stop = threading.Event()
    if become_subreaper():
        threading.Thread(target=reap_orphans, args=(stop,), daemon=True).start()
    if options.record:
        options.record.mkdir(parents=True, exist_ok=True)
    lab = Lab(options)
    began = time.monotonic()
    results: list[Result] = []
    try:
        _run_steps(lab, results)
    finally:
        _clean_up(lab)
        stop.set()
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=1))
    counts = {status: sum(r.status == status for r in results) for status in ("ok", "FAIL", "skip")}
    kept = "removed" if lab.temporary and not options.keep else "kept"
    print(f"# {counts['skip']} skipped, {time.monotonic() - began:.0f}s, {lab.scratch} ({kept})")
    print(f"{counts['ok']} passed, {counts['FAIL']} failed", flush=True)
    return 1 if counts["FAIL"] else 0


def _run_steps(lab: Lab, results: list[Result]) -> None:
    options = lab.options
    began = time.monotonic()
    hangs = 0
    for each in chosen(options):
        if options.max_time and time.monotonic() - began > options.max_time:
            result = Result(each.name, "FAIL", "--max-time is used up", 0)
        elif hangs >= MAX_HANGS:
            result = Result(each.name, "FAIL", f"not run: {hangs} steps before it timed out", 0)
        else:
            result = _run_step(lab, each)
        timed_out = result.status == "FAIL" and result.reason.startswith("timeout after")
        hangs = hangs + 1 if timed_out else min(hangs, MAX_HANGS) if hangs >= MAX_HANGS else 0
        if each.name.endswith(".cleanup"):
            continue
        took = f" ({result.seconds:.1f}s)" if options.verbose else ""
        why = f": {result.reason}" if result.reason else ""
        print(f"{result.status} {result.step}{took}{why}", flush=True)
        results.append(result)
        if each.name == "probe.daemon-start" and result.status == "FAIL":
            break


def _run_step(lab: Lab, each: Step) -> Result:
    logs = {daemon.name: daemon.log_size() for daemon in lab.daemons}
    starts = set(transcript.starts(lab.starts)) if lab.options.record else set()
    began = time.monotonic()
    status, reason = "ok", ""
    try:
        each.run(lab)
    except Skipped as skipped:
        status, reason = "skip", str(skipped)
    except Failed as failed:
        status, reason = "FAIL", str(failed)
        if lab.options.qemu_user != "root" and "Postcopy is not supported" in reason:
            status, reason = "skip", "post-copy needs userfaultfd, which is for root only here"
    except Exception as error:
        if lab.options.verbose:
            traceback.print_exc()
        status, reason = "FAIL", f"{type(error).__name__}: {error}"
    for daemon in lab.daemons:
        daemon.end_backgrounds()
    if lab.options.record:
        _record(lab, each.name, logs, starts)
    return Result(each.name, status, " ".join(reason.split()), round(time.monotonic() - began, 3))


def _record(lab: Lab, name: str, logs: dict[str, int], known: set[str]) -> None:
    """Write what was said during a step, and how emulators were started in it."""
    assert lab.options.record
    rows = []
    for daemon in lab.daemons:
        if daemon.alive:
            daemon.ask("version")  # what came before the answer is in its log
        for row in transcript.conversation(daemon.log_since(logs[daemon.name])):
            if row["probe"] in (None, str(lab.default_emulator)):
                rows.append(row | {"daemon": daemon.name, "probe": bool(row["probe"])})
    rows.sort(key=lambda row: str(row["ts"]))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (lab.options.record / f"{name}.jsonl").write_text(text)
    new = [start for key, start in transcript.starts(lab.starts).items() if key not in known]
    (lab.options.record / f"{name}.argv.json").write_text(json.dumps(new, indent=1))


def _clean_up(lab: Lab) -> None:
    for daemon in lab.daemons:
        daemon.end_backgrounds()
        if not daemon.alive:
            continue
        try:
            for name in daemon.ask("list", "--name", timeout=10).out.split():
                daemon.ask("destroy", name, timeout=20)
        except Failed as failed:
            print("# cleanup:", failed)
        daemon.stop()
    end_orphans()
    if lab.options.chroot:
        path = lab.options.chroot / str(lab.scratch).lstrip("/")
        while path != lab.options.chroot:  # the empty mount point that was made there
            try:
                path.rmdir()
            except OSError:
                break
            path = path.parent
    if lab.temporary and not lab.options.keep:
        shutil.rmtree(lab.scratch, ignore_errors=True)
