"""What libvirtd and the emulator said to each other, out of libvirtd's debug log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

#: timestamp, thread, level, function, line, text
HEADER = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)\+\d{4}: (\d+): (\w+) : (\w+):(\d+) : (.*)$"
)
_SENT = re.compile(r"QEMU_MONITOR_SEND_MSG: mon=(\S+) msg=(.*)$")
_RECEIVED = re.compile(r"QEMU_MONITOR_RECV_(?:REPLY|EVENT): mon=(\S+) (?:reply|event)=(.*)$")
_NEW = re.compile(r"QEMU_MONITOR_NEW: mon=(\S+)")
_GREETING = re.compile(r'(?:^Line |^mon=\S+ line=)\[(\{"QMP".*\})\]$')
_PROBED = re.compile(r"emulator=(\S+?),")
_DESCRIPTOR = re.compile(r"^\r?\s*fd=(\d+)")

Row = dict[str, Any]


def conversation(log: str) -> list[Row]:
    """The messages of a debug log, in order.

    Each is {"dir": "c2s"|"s2c", "msg": the message, "mon": which monitor, "ts": when,
    "probe": the emulator that is probed through it or None, "fd": True if one was passed}.
    """
    rows: list[Row] = []
    probed: dict[str, str | None] = {}
    by_thread: dict[str, str] = {}
    monitor: str | None = None
    lines = log.split("\n")
    for number, line in enumerate(lines):
        header = HEADER.match(line)
        if not header:
            continue
        when, thread, _, function, _, text = header.groups()
        if function == "qemuProcessQMPConnectMonitor":
            if found := _PROBED.search(text):
                by_thread[thread] = found.group(1)
            continue
        if found := _NEW.search(text):
            monitor = found.group(1)
            probed[monitor] = by_thread.pop(thread, None)
            continue
        if found := _SENT.search(text):
            row = {"dir": "c2s", "mon": found.group(1), "raw": found.group(2)}
            following = lines[number + 1] if number + 1 < len(lines) else ""
            if _DESCRIPTOR.match(following):
                row["fd"] = True
        elif found := _RECEIVED.search(text):
            row = {"dir": "s2c", "mon": found.group(1), "raw": found.group(2)}
        elif found := _GREETING.search(text):
            row = {"dir": "s2c", "mon": monitor, "raw": found.group(1)}
        else:
            continue
        try:
            row["msg"] = json.loads(row.pop("raw"))
        except ValueError:
            continue
        rows.append(row | {"ts": when, "probe": probed.get(row["mon"])})
    return rows


#: stands in for the emulator, notes how it was started, and becomes the emulator
RECORDER = r"""#!{python} -ESs
import json, os, sys, time
note = {{"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd(), "time": time.time()}}
note["fds"] = {{}}
for fd in sorted(int(name) for name in os.listdir("/proc/self/fd")):
    try:
        if os.get_inheritable(fd):
            note["fds"][fd] = os.readlink("/proc/self/fd/%d" % fd)
    except OSError:
        pass
name = "{directory}/%d-%d" % (time.time() * 1e6, os.getpid())
with open(name + ".tmp", "w") as file:
    json.dump(note, file)
os.rename(name + ".tmp", name + ".json")
os.execv({emulator!r}, [sys.argv[0]] + sys.argv[1:])
"""


def starts(directory: Path) -> dict[str, Row]:
    """What RECORDER noted, by file name in the order of the starts."""
    return {path.name: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}
