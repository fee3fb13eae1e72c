"""Judges an answer by the recorded one: the same shape, and the same values where it counts.

Names, states, paths and flags count; sizes and times that the host or the guest decide do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

#: members whose values are the host's or the guest's
VOLATILE = frozenset(
    {
        "actual-size",
        "busy",
        "downtime",
        "disk_size",
        "duplicate",
        "expected-downtime",
        "fd",
        "filename",
        "guest-stats",
        "last-update",
        "multifd-bytes",
        "normal",
        "normal-bytes",
        "offset",
        "paused",
        "start-time",
        "stats",
        "thread-id",
        "timed_stats",
        "total-time",
        "writeback",
        "xbzrle-cache",
    }
)
#: command -> members of its answer that hang on when it was asked
HURRIED = {"query-block-jobs": ("len", "ready", "status", "speed")}
#: members of which a transcript need not show the same
OPTIONAL = frozenset({"downtime", "expected-downtime", "total-time", "setup-time", "xbzrle-cache"})
#: numbers that what follows depends on, or that were asked for
COUNTED = frozenset(
    {
        "actual",
        "cluster-size",
        "core-id",
        "cpu-index",
        "die-id",
        "len",
        "node-id",
        "plugged-memory",
        "poll-max-ns",
        "slot",
        "socket-id",
        "speed",
        "thread-id",
        "vcpus-count",
        "virtual-size",
        "write_threshold",
        "max-bandwidth",
        "downtime-limit",
        "xbzrle-cache-size",
        "multifd-channels",
        "bps",
        "major",
        "minor",
        "micro",
        "cpu-max",
        "addr",
        "size",
    }
)
#: members that entries of a list may be called by
KEYS = ("name", "option", "typename", "qom-path", "node-name", "label", "capability", "id", "qdev")
_PTY = re.compile(r"/dev/pts/\d+")


def differences(expected: Any, got: Any, path: str = "") -> Iterator[str]:
    """What in `got` is not as recorded, each as one line."""
    name = path.rpartition(".")[2].partition("[")[0]
    # a file which an image is in has whatever size it has grown to
    grown = name == "virtual-size" and "-storage]" in path
    if grown or name in HURRIED.get(path.partition(".")[0], ()):
        return
    if name in VOLATILE and path.count(".") > 0:
        if type(expected) is not type(got):
            yield f"{path}: {got!r}, not {expected!r}"
        return
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in expected.keys() | got.keys():
            if key in expected and key in got:
                yield from differences(expected[key], got[key], f"{path}.{key}")
            elif key not in OPTIONAL:
                yield f"{path}: {'no' if key in expected else 'a'} {key}"
    elif isinstance(expected, list) and isinstance(got, list) and (key := _key(expected, got)):
        ours = {each[key]: each for each in got}
        theirs = {each[key]: each for each in expected}
        for each in theirs.keys() | ours.keys():
            if each in theirs and each in ours:
                yield from differences(theirs[each], ours[each], f"{path}[{each}]")
            else:
                yield f"{path}: {'no' if each in theirs else 'a'} {each}"
    elif isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            yield f"{path}: {len(got)} entries, not {len(expected)}"
        for number, (one, other) in enumerate(zip(expected, got, strict=False)):
            yield from differences(one, other, f"{path}[{number}]")
    elif isinstance(expected, bool) or not isinstance(expected, int | float):
        if normal(expected) != normal(got):
            yield f"{path}: {got!r}, not {expected!r}"
    elif _is_number(got) and (name not in COUNTED or expected == got):
        return
    else:
        yield f"{path}: {got!r}, not {expected!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(expected: list[Any], got: list[Any]) -> str | None:
    """The member that entries of both lists are called by."""
    for name in KEYS:
        lists = (expected, got)
        entries = [entry for each in lists for entry in each]
        named = all(isinstance(e, dict) and isinstance(e.get(name), str) for e in entries)
        if named and all(len({e[name] for e in each}) == len(each) for each in lists):
            return name
    return None


def normal(value: Any) -> Any:
    """A text without what another run has otherwise."""
    return _PTY.sub("/dev/pts/N", value) if isinstance(value, str) else value


def by_chance(event: dict[str, Any], ready: set[str]) -> bool:
    """Whether an event comes as often as the guest, the clock or the load of the host like.

    `ready`: the jobs that have been ready before, kept here.
    """
    if event["event"] == "JOB_STATUS_CHANGE":
        job, status = event["data"]["id"], event["data"]["status"]
        again = status == "ready" and job in ready
        if status == "ready":
            ready.add(job)
        elif status == "created":
            ready.discard(job)
        # a job pauses when something else is done to its nodes just then
        return again or status in ("paused", "running", "standby")
    return event["event"] in ("MIGRATION_PASS", "RTC_CHANGE", "VSERPORT_CHANGE")


def event_key(message: dict[str, Any]) -> tuple[str, ...]:
    """What an event says, as far as libvirt goes by it."""
    data = message.get("data", {})
    told = ("status", "id", "device", "action", "reason", "guest", "result", "tray-open", "type")
    return (message["event"], *(f"{name}={data[name]}" for name in told if name in data))
