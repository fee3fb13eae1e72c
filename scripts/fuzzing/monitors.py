"""Commands after the schema, and lines for the human monitor."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fakeqemu.profile import Profile
from fuzzing.campaign import Campaign, Step, smaller_values
from fuzzing.configs import CONFIGS, FILES
from fuzzing.findings import GROWTH, HOLD, Finding, lost, python_text, stderr_text
from fuzzing.generate import CommandGenerator, is_harmless
from fuzzing.machine import Client, Gone, Late, Machine, Message
from fuzzing.pools import LINES

_SESSION = 150
#: what would end the machine, run a program or wait for ever
_LEFT_OUT = ("quit", "q", "system_", "exit_preconfig", "exec")


class _Requests(Campaign):
    """Requests one by one on a machine of some configuration, the first step naming it."""

    def request(self, client: Client, step: Step) -> Message:
        """Send one step, and wait for the reply."""
        raise NotImplementedError

    def of(self, step: Step) -> str:
        """What a finding calls the step."""
        raise NotImplementedError

    def play(self, steps: Sequence[Step]) -> Finding | None:
        """On the configuration named by the first step; anything else counts as `none`."""
        config = steps[0] if isinstance(steps[0], str) else "none"
        with Machine(self.profile, CONFIGS[config], files=FILES, forked=True) as machine:
            try:
                client = machine.client()
            except (Gone, Late) as error:
                return lost(machine, error, "start")
            before = machine.memory()
            for self.reached, step in enumerate(steps):
                if isinstance(step, str):
                    continue
                if (found := self._one(machine, client, step)) is not None:
                    return found
            client.close()
            if machine.memory() - before > GROWTH:
                return Finding("growth", f"{(machine.memory() - before) >> 20} MiB", config)
            return stderr_text(machine)

    def _one(self, machine: Machine, client: Client, step: Step) -> Finding | None:
        busy, seen = machine.cpu(), len(machine.stderr)
        try:
            reply = self.request(client, step)
        except (Gone, Late) as error:
            return lost(machine, error, self.of(step))
        if (taken := machine.cpu() - busy) > HOLD:
            return Finding("hold", self.of(step), f"{taken:.1f} s of processor time")
        return stderr_text(machine, seen) or python_text(reply, step)


class Commands(_Requests):
    """QMP commands, each as likely to be valid as to be wrong."""

    name = "commands"

    def session(self, rng: random.Random) -> list[Step]:
        """A configuration and commands for it."""
        profile = Profile.load(self.profile)
        drivers = [each for each, *_ in profile.part("types")["types"]]
        devices = [each for each in drivers if profile.is_a(each, "device")]
        generator = CommandGenerator(profile.part("schema"), rng, devices)
        steps: list[Step] = [rng.choice(sorted(CONFIGS))]
        while len(steps) <= _SESSION:
            command = generator.command()
            if is_harmless(*command):
                steps.append(list(command))
        return steps

    def request(self, client: Client, step: Step) -> Message:
        """One command."""
        return client.ask(*step)

    def of(self, step: Step) -> str:
        """The command's name."""
        return str(step[0])

    def simpler(self, step: Step) -> Iterator[Step]:
        """The same command with less in its arguments."""
        if isinstance(step, list):
            for less in smaller_values(step[1]):
                yield [step[0], less]


class Lines(_Requests):
    """Lines for the human monitor: known ones, parts of them and random bytes."""

    name = "monitor"

    def session(self, rng: random.Random) -> list[Step]:
        """A configuration and lines for it."""
        steps: list[Step] = [rng.choice(sorted(CONFIGS))]
        while len(steps) <= _SESSION:
            line = _line(rng)
            if not any(line.lstrip().startswith(each) for each in _LEFT_OUT[:4]) and not any(
                each in line for each in _LEFT_OUT[4:]
            ):
                steps.append([line])
        return steps

    def request(self, client: Client, step: Step) -> Message:
        """One line, through human-monitor-command."""
        return client.ask("human-monitor-command", {"command-line": step[0]})

    def of(self, step: Step) -> str:
        """Its first words."""
        words = step[0].split()
        return " ".join(words[: 2 if words[:1] == ["info"] else 1])

    def simpler(self, step: Step) -> Iterator[Step]:
        """Lines without a word, and cut ones."""
        if isinstance(step, list):
            words = step[0].split(" ")
            for index in range(len(words)):
                yield [" ".join(words[:index] + words[index + 1 :])]
            yield from ([less] for less in smaller_values(step[0]))


def _line(rng: random.Random) -> str:
    changes: list[Callable[[str], str]] = [
        lambda line: line,
        lambda line: line,
        lambda line: line[: rng.randrange(len(line) + 1)],
        lambda line: f"{line} {rng.choice(rng.choice(LINES).split() or [''])}",
        lambda line: line.replace(" ", "  ", 1),
        lambda line: f"{line} {rng.choice(_WORDS)}",
        lambda line: f"help {line}",
        lambda line: f"{rng.choice(line.split() or ['info'])} {rng.choice(_WORDS)}",
    ]
    return rng.choice(changes)(rng.choice(LINES))


_WORDS: list[Any] = [
    "-1", "0x", "9" * 30, "%n", '"', "'", "\\", "é", "\u0000", "-f", "-", "--", "$eax", "a=b",
    "1M", "1e9", "on", "/4xb", "(1", "1)", "1/0", "~0", "0x7fffffffffffffff",
]  # fmt: skip
