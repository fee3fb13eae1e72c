"""Files that testers write, changed: scenarios, fleets, recorded conversations, overlays."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from fuzzing.campaign import Campaign, Step, smaller_values
from fuzzing.findings import Finding
from fuzzing.invocations import directory, invoke
from fuzzing.pools import WRONG

_STEPS = 6
_SCENARIO = """\
profile = "10.0"
options = ["-machine", "none", "-nodefaults", "-display", "none"]
seed = 1
[guest]
memory = "4G"
dirty-rate = "100M/s"
unplug = "acknowledge"
[[faults]]
name = "delay"
command = "query-migrate"
seconds = 2.5
[[faults]]
name = "late"
[[faults]]
name = "error"
probability = 0.5
runstate = "paused"
count = 2
[[stages]]
when = { migration-pass = 3 }
then = ["drop-channels", { event = "WATCHDOG", data = { action = "none" } }]
[[stages]]
when = { time = 0.01 }
skip = 1
times = 0
then = [{ qmp = "stop" }, { guest = "panic" }, { fault = "ignore", command = "cont" }]
[[stages]]
when = { phase = "machine-ready" }
then = [{ exit = 1 }]
"""
_FLEET = """\
profile = "10.0"
options = ["-machine", "none", "-nodefaults", "-display", "none"]
seed = 1
directory = "run"
control = "unix:control"
[[machines]]
name = "vm-{:02}"
count = 3
first = 1
[[machines]]
name = "old"
profile = "7.2"
guest = { memory = "1G" }
[[rules]]
machines = "vm-0[13]"
faults = [{ name = "error", command = "query-name", desc = "told" }]
stages = [{ when = { command = "stop" }, then = [{ exit = 3 }] }]
[[stages]]
when = { time = 0.01 }
machines = "vm-*"
pick = 2
then = [{ guest = "reset" }]
[[stages]]
when = { event = "RESET" }
of = "vm-01"
machines = "vm-02"
then = ["drop-connections"]
"""


def _recording() -> list[str]:
    version = {"qemu": {"major": 10, "minor": 0, "micro": 0}, "package": ""}
    stop = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}
    talk: list[tuple[str, Any]] = [
        ("server", {"QMP": {"version": version, "capabilities": ["oob"]}}),
        ("client", {"execute": "qmp_capabilities"}),
        ("server", {"return": {}}),
        ("client", {"execute": "query-status", "id": 1}),
        ("server", {"return": {"status": "running", "running": True}, "id": 1}),
        ("client", {"execute": "stop", "id": "a"}),
        ("server", stop),
        ("server", {"return": {}, "id": "a"}),
        ("client", {"exec-oob": "migrate-pause", "arguments": {}}),
        ("server", {"error": {"class": "GenericError", "desc": "no"}}),
    ]
    rows: list[dict[str, Any]] = [{"time": 0, "connection": 1, "opened": True}]
    rows += [
        {"time": 10 * number, "connection": 1, "from": sender, "message": message}
        for number, (sender, message) in enumerate(talk)
    ]
    rows += [{"time": 200, "connection": 1, "from": "client", "text": "junk"}]
    return [json.dumps(row) for row in [*rows, {"time": 300, "connection": 1, "closed": True}]]


_OVERLAY = [
    "{",
    '"base": "11.1",',
    '"rules": [',
    '{"part": "schema", "at": [{"name": "migrate-set-parameters"}, "->arg-type", "members"],',
    ' "append": {"name": "new", "type": "bool", "default": null}, "why": "for a test"},',
    '{"part": "version", "at": ["qemu"], "merge": {"micro": 9}},',
    '{"part": "schema", "at": [{"name": "query-status", "meta-type": "command"}, "*"],',
    ' "set": "x"}',
    "]",
    "}",
]
#: name of a file that is right -> its lines
GOOD: dict[str, list[str]] = {
    "scenario": _SCENARIO.splitlines(),
    "fleet": _FLEET.splitlines(),
    "recording": _recording(),
    "overlay": _OVERLAY,
}
#: where a file lies if not under its own name
PLACES = {"overlay": "own/overlay.json"}
#: file -> how it is read
_READERS: dict[str, list[list[str]]] = {
    "scenario": [["run", "--scenario", "scenario", "--"]],
    "fleet": [["fleet", "fleet"], ["fleet", "fleet", "--shard", "1/2"]],
    "recording": [
        ["replay", "recording", "--socket", "unix:r"],
        ["replay", "recording", "--socket", "unix:r", "--match", "content"],
        ["diff", "recording", "--profile", "10.0"],
    ],
    "overlay": [["explain", "--profile", "./own", "--", "-machine", "none"]],
}
_PIECES = ["{", "}", "[", "]", '"', "'", "=", ",", ".", "#", "\n", "\\", "\\u0000", "\0",
           "\x80\xff", "\ufeff".encode().decode("latin-1"), "nan", "inf", "1e999", "-1", "9" * 5000,
           "true", "[[[[" * 300, '{"a":' * 1200, "a.b.c", "1979-05-27", "0x10", "\u00e9",
           "x" * 9999]  # fmt: skip


def written(lines: Sequence[str]) -> bytes:
    """The file that has these lines, whose characters are its bytes."""
    return "".join(f"{line}\n" for line in lines).encode("latin-1", "replace")


class Files(Campaign):
    """A step is a kind of file, the command that reads it, and the file's lines."""

    name = "files"

    def session(self, rng: random.Random) -> list[Step]:
        """Files, independent of each other."""
        steps: list[Step] = []
        for _ in range(_STEPS):
            kind = rng.choice(sorted(_READERS))
            steps.append([kind, rng.choice(_READERS[kind]), _changed(rng, GOOD[kind])])
        return steps

    def play(self, steps: Sequence[Step]) -> Finding | None:
        """Each read by a command of its own."""
        for self.reached, (kind, words, lines) in enumerate(steps):
            with directory({PLACES.get(kind, kind): written(lines)}) as cwd:
                if (found := invoke(words, cwd)) is not None:
                    return found
        return None

    def simpler(self, step: Step) -> Iterator[Step]:
        """The file without a line, or with a shorter one."""
        for less in smaller_values(step[2]):
            yield [step[0], step[1], less]


def _changed(rng: random.Random, lines: Sequence[str]) -> list[str]:
    out = list(lines)
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(len(out)) if out else 0
        kind = rng.randrange(7)
        if not out or kind == 0:
            out[at:at] = [rng.choice([*lines, rng.choice(_PIECES)])]
        elif kind == 1:
            del out[at]
        elif kind == 2:
            place = rng.randrange(len(out[at]) + 1)
            out[at] = out[at][:place] + rng.choice(_PIECES) + out[at][place:]
        elif kind == 3:
            place = rng.randrange(len(out[at]) + 1)
            out[at] = out[at][:place] + out[at][place + rng.randrange(1, 5) :]
        else:
            out[at] = _other_value(rng, out[at])
    return out


def _other_value(rng: random.Random, line: str) -> str:
    """The line with something else for one of its values."""
    for mark in rng.sample([" = ", ": "], 2):
        if mark in line:
            places = [at for at in range(len(line)) if line.startswith(mark, at)]
            at = rng.choice(places) + len(mark)
            end = min([line.find(each, at) for each in ",}]" if each in line[at:]] or [len(line)])
            value = rng.choice([*map(json.dumps, WRONG), '"1G"', '"vm-*"', '"nope"', "1e999", "-5"])
            return line[:at] + value + line[end:]
    return line + rng.choice(_PIECES)
