"""The control socket: a tester's verbs with arguments that fit or do not, and bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from fakeqemu.testing.control.commands import COMMANDS
from fuzzing.campaign import Campaign, Step, smaller_values
from fuzzing.findings import GROWTH, HOLD, Finding, lost, python_text, stderr_text
from fuzzing.machine import BARE, Client, Gone, Late, Machine, strings
from fuzzing.pools import WRONG
from fuzzing.wire import byte_pieces, talk

_SESSION = 80
_ARGV = ("-machine", "q35", "-smp", "2", "-m", "64", "-S", *BARE)
#: words for arguments, by the argument's name
_WORDS: dict[str, list[Any]] = {
    "machine": ["machine", "m*", "nope", "[", ""],
    "name": ["delay", "error", "ignore", "late", "split", "coalesce", "reorder", "interleave",
             "wrong-id", "missing-id", "junk-bytes", "partial-utf8", "slow-reading", "stale-event",
             "drop", "lost-event", "duplicate-event", "STOP", "RTC_CHANGE", "BALLOON_CHANGE",
             "WATCHDOG", "nope", ""],
    "command": ["query-status", "stop", "cont", "query-block", "device_add", "nope", "fault",
                "qom-list", "migrate-set-parameters", "human-monitor-command"],
    "verb": ["panic", "reset", "nic", "write-memory", "unplug", "balloon", "agent", "watchdog",
             "suspend", "input", "behave", "nope", "rtc-change", "open-port", "tray"],
    "parameters": [{}, {"command": "query-status"}, {"event": "STOP", "count": 1},
                   {"seconds": 0.001}, {"seconds": -1}, {"seconds": 1e300}, {"size": 0},
                   {"size": 1 << 40}, {"probability": 0.5, "seed": 1}, {"channel": True},
                   {"greeting": True}, {"device": "nope"}, {"address": -1, "data": "x"},
                   {"address": 0, "data": "x" * 5000}, {"value": 1 << 64}, {"skip": 1, "count": -1},
                   {"runstate": "paused"}, {"migration": "active"}, {"connection": "x"}],
    "arguments": [{}, {"path": "/"}, {"command-line": "info status"}, {"driver": "nope"}],
    "data": [{}, {"guest": False, "reason": "guest-reset"}, {"actual": 1}, {"action": "none"},
             {"offset": 1, "qom-path": "/machine"}],
    "return": [{}, [], {"status": "running", "running": True}, {"name": "x"}, None],
    "class": ["GenericError", "DeviceNotFound", "CommandNotFound", "nope"],
    "desc": ["told", "", "\u0000", "x" * 3000],
    "times": [0, 1, -1, 1 << 70], "number": [0, 1, 2, 9999, -1], "limit": [0, 1, 100, -1, 1 << 62],
    "first": [0, 5, -5, 1 << 63], "seconds": [0, 0.001, 1, "1.5", -1, 1e12, 1e300, "nan", "inf"],
    "kind": ["command", "reply", "fault", "nope"], "schema": [True, False],
    "when": [{"command": "stop"}, {"event": "STOP"}, {"time": 1}, {"time": -1}, {"time": 1e300},
             {"migration-pass": 1}, {"runstate": "running"}, {"phase": "nope"}, {"fault": "error"},
             {"migration": "active"}, {}, "stop"],
    "then": [[], ["drop-connections"], ["clear-faults"], "drop-channels", [{"event": "STOP"}],
             [{"qmp": "stop"}], [{"guest": "panic"}], [{"fault": "error", "command": "stop"}],
             [{"event": "RTC_CHANGE", "data": {}}], [{"nope": 1}], [1], {}],
    "skip": [0, 1, -1, 1 << 70], "enable": [[], ["oob"], "x"],
}  # fmt: skip
#: what ends the machine or has it stand still, as it should
_FATAL = ("exit", "silent", "stop-process", "quit", "remove-socket", "vanish", "crash", "KILL")


class ControlSocket(Campaign):
    """A step is a command for the control socket, or a connection to it."""

    name = "control"

    def session(self, rng: random.Random) -> list[Step]:
        """Commands and connections in any order."""
        names = sorted(name for name in COMMANDS if name not in _FATAL)
        steps: list[Step] = []
        while len(steps) < _SESSION:
            if rng.random() < 0.1:
                pieces = [piece.hex() for piece in byte_pieces(rng)]
                steps.append(["bytes", pieces, rng.choice(["", "half", "vanish"])])
                continue
            name = rng.choice(names)
            step = ["ask", name, _arguments(rng, COMMANDS[name][0])]
            if not any(word in text for text in strings(step) for word in _FATAL):
                steps.append(step)
        return steps

    def play(self, steps: Sequence[Step]) -> Finding | None:
        """All steps on one machine, whose clock only moves when asked to."""
        own = ("--clock", "virtual", "--control", "unix:control.sock")
        with Machine(self.profile, _ARGV, own=own) as machine:
            try:
                client = Client(machine.connect("control.sock"))
                client.message()
                client.ask("qmp_capabilities")
                machine.client().close()
            except (Gone, Late) as error:
                return lost(machine, error, "start")
            before = machine.memory()
            for self.reached, step in enumerate(steps):
                if (found := self._one(machine, client, step)) is not None:
                    return found
            client.close()
            if machine.memory() - before > GROWTH:
                return Finding("growth", f"{(machine.memory() - before) >> 20} MiB")
            return stderr_text(machine)

    def _one(self, machine: Machine, client: Client, step: Step) -> Finding | None:
        busy, seen = machine.cpu(), len(machine.stderr)
        reply: Any = {}
        try:
            if step[0] == "ask":
                reply = client.ask(step[1], step[2])
            else:
                with machine.connect("control.sock") as other:
                    talk(other, step[1:])
            client.ask("query-version")
        except (Gone, Late) as error:
            return lost(machine, error, step[1] if step[0] == "ask" else "bytes")
        if (taken := machine.cpu() - busy) > HOLD:
            return Finding("hold", str(step[:2])[:60], f"{taken:.1f} s of processor time")
        if (found := stderr_text(machine, seen)) is not None:
            return found
        return python_text(reply, step) if "error" in reply else None

    def simpler(self, step: Step) -> Iterator[Step]:
        """The same command with less; fewer pieces."""
        for less in smaller_values(step[2] if step[0] == "ask" else step[1]):
            yield [step[0], step[1], less] if step[0] == "ask" else [step[0], less, step[2]]


def _arguments(rng: random.Random, members: dict[str, str]) -> Any:
    if rng.random() < 0.04:
        return rng.choice([value for value in WRONG if not isinstance(value, dict)])
    found: dict[str, Any] = {}
    for name, kind in members.items():
        if kind.endswith("?") and rng.random() < 0.5:
            continue
        wrong = rng.random() < 0.12 or name not in _WORDS
        found[name] = rng.choice(WRONG if wrong else _WORDS[name])
        parts = name in ("parameters", "when", "data") and isinstance(found[name], dict)
        if parts and rng.random() < 0.3:
            other = rng.choice(_WORDS[name])
            found[name] = {**found[name], **(other if isinstance(other, dict) else {})}
    if rng.random() < 0.05:
        found[rng.choice(["x", "nam", ""])] = rng.choice(WRONG)
    return found
