"""The command line of fakeqemu's own commands: words that fit, or just not."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from fakeqemu.profile import Profile
from fuzzing.campaign import Campaign, Step, smaller_values
from fuzzing.files import GOOD, PLACES, written
from fuzzing.findings import Finding
from fuzzing.invocations import directory, invoke

_LINES = 6
_MACHINE = ("-machine", "none", "-nodefaults", "-display", "none")
#: what commands take before or after their first word
_OPTIONS: dict[str, list[str]] = {
    "--profile": ["7.2", "10.0", "11.1", "next", "11.1+local", "9", "", "./own", "../x", "+",
                  "next+nope"],
    "--proposal": ["local", "nope", "local:x=y", "", ",", "local,local", "local:fields=stated"],
    "--program": ["x", "", "a b", "\u00e9", "x" * 3000],
    "--speed": ["1", "0", "-1", "2.5", "nan", "inf", "1e400", "x", "1e-300"],
    "--clock": ["real", "virtual", "none", ""],
    "--scenario": ["late", "nope", "scenario", "recording", "/", ".", "", "exit-before-socket"],
    "--seed": ["1", "-1", "x", "9" * 5000, "", "--1", "\u0663"],
    "--control": ["unix:c", "unix:", "tcp:1:2", "", "unix:/nope/c", "unix:" + "c" * 200, "unix:."],
    "--journal": ["j", ".", "/nope/j", "", "/proc/self/mem", "scenario"],
    "--journal-entries": ["0", "5", "-1", "x", "9" * 30, ""],
    "--last": ["0", "3", "x", ""],
    "--kind": ["command", "nope", ""],
    "--machine": ["machine", "*", ""],
    "--token-file": ["fleet", "/nope", "."],
    "--web": ["tcp:127.0.0.1:0", "tcp:0.0.0.0:0", "x", ""],
    "--private-channel": ["99", "x", "1,x", "", "-1"],
    "--output": ["out", "/nope/out", ".", ""],
    "--socket": ["unix:r", "tcp:127.0.0.1:0", "tcp:x", "", "r", "tcp:127.0.0.1:99999", "unix:/no"],
    "--match": ["order", "content", "nope", ""],
    "--shard": ["0/1", "1/2", "2/2", "x", "1/0", "-1/3", "\u0661/2", "0/999999999999"],
    "--directory": ["run", ".", "/nope", "scenario", ""],
    "--name": ["x", "a/b", "", "..", "a b", "\n"],
}  # fmt: skip
_FLAGS = ["--as-posted", "--check-replies", "--json", "--shape", "-v", "-vv", "-h", "--help",
          "--version", "--no", "-"]
_WORDS = ["scenario", "fleet", "recording", "nope", ".", "", "unix:a", "unix:b", "tcp:127.0.0.1:0",
          "/", "run", "a/b", "\u00e9", "x" * 300, "--", "/proc/self/mem", "x" * 5000]  # fmt: skip
#: command -> words that it takes, and how it may be called rightly
_COMMANDS: dict[str, list[list[str]]] = {
    "run": [["--", *_MACHINE], ["--", *_MACHINE, "-qmp", "unix:q,server=on,wait=off"]],
    "explain": [["--", *_MACHINE], ["--json", "--", *_MACHINE, "-incoming", "defer"]],
    "check": [["--", *_MACHINE], ["--", *_MACHINE, "-incoming", "fd:9", "-netdev", "tap,id=n"]],
    "emulator": [["run"], ["made", "--name", "x"]],
    "fork-server": [["socket"]],
    "record": [["--output", "out", "--", "unix:a", "unix:b"]],
    "replay": [["recording", "--socket", "unix:r"]],
    "diff": [["recording", "--profile", "10.0"], ["recording", "--shape", "--", *_MACHINE]],
    "fleet": [["fleet"], ["fleet", "--directory", "run", "--control", "unix:c"]],
    "journal": [["unix:c"], ["recording"], ["journal", "--json"]],
    "watch": [["unix:c", "--once"], ["recording", "--web", "tcp:127.0.0.1:0"]],
    "completion": [["bash"], ["fish"]],
    "man": [[]],
    "profiles": [[]],
    "proposals": [[]],
    "help": [[]],
    "nope": [[]],
}  # fmt: skip


class Cli(Campaign):
    """A step is a command line of `fakeqemu`."""

    name = "cli"

    def session(self, rng: random.Random) -> list[Step]:
        """Command lines, independent of each other."""
        return [_line(rng, self.profile) for _ in range(_LINES)]

    def play(self, steps: Sequence[Step]) -> Finding | None:
        """Each in a directory of its own, with files that are right."""
        for self.reached, step in enumerate(steps):
            files = {PLACES.get(name, name): written(lines) for name, lines in GOOD.items()}
            with directory(files) as cwd:
                if (found := invoke(step, cwd)) is not None:
                    return found
        return None

    def simpler(self, step: Step) -> Iterator[Step]:
        """The line without a word, or with a shorter one."""
        yield from smaller_values(step)


def _line(rng: random.Random, profile: str) -> list[str]:
    command = rng.choice(sorted(_COMMANDS))
    words = [command, *rng.choice(_COMMANDS[command])]
    starts = command in ("run", "explain", "check")
    if starts and "--profile" not in words and profile in Profile.names():
        words[1:1] = ["--profile", profile]
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        at = rng.randrange(len(words) + 1)
        kind = rng.randrange(5)
        if kind == 0 and words:
            del words[at : at + 1]
        elif kind == 1:
            words[at:at] = [rng.choice(_FLAGS)]
        elif kind == 2:
            words[at:at] = [rng.choice(_WORDS)]
        else:
            option = rng.choice(sorted(_OPTIONS))
            value = rng.choice(_OPTIONS[option])
            words[at:at] = [f"{option}={value}"] if rng.random() < 0.3 else [option, value]
    return words
