"""Examples of a page, executed: what they say is seen must be seen.

A fenced block `console` is one example. Its lines:

    $ fakeqemu [run] [--profile P] [--proposal N] [--as-posted] [--] QEMU-OPTIONS   start a machine
    $ NAME$ fakeqemu ... [&]                     one of several; with & it may wait
    NAME-> {"execute": ...}   or  -> ...         a command
    NAME<- {"return": ...}    or  <- ...         its reply, members may be left out as `...`
    (hmp) LINE                                   a line of the human monitor, its output below
    qemu-system-x86_64: TEXT                     a line on standard error
    [exit 1]                                     the machine has ended so

`DIR` stands for a directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu, QmpError
from tests.support.waiting import until

PROGRAM = "qemu-system-x86_64: "
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: seconds for which a query is repeated until it shows what it should
_DEADLINE = 20.0
_TALK = re.compile(r"(\w*)(->|<-) (.*)")


def examples(page: Path) -> list[str]:
    """The blocks of a page."""
    return _BLOCK.findall(page.read_text("utf-8"))


@dataclass
class Run:
    """One example under way. `fill` replaces what is seen instead of comparing."""

    directory: str
    fill: bool = False
    machines: dict[str, FakeQemu] = field(default_factory=dict)
    starting: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    #: lines on standard error not yet accounted for
    errors: list[str] = field(default_factory=list)
    exit: int | None = None
    #: the machine and the command asked last, and its reply
    asked: Any = None
    reply: Any = None
    out: list[str] = field(default_factory=list)

    async def run(self, text: str) -> str:
        """All lines; the example as it is seen."""
        try:
            lines = iter(text.splitlines())
            for line in lines:
                await self._line(line)
            assert not self.errors, f"not shown: {self.errors}"
        finally:
            for task in self.starting.values():
                task.cancel()
            for machine in self.machines.values():
                machine.stop_now()
        return "\n".join(self.out) + "\n"

    async def _line(self, line: str) -> None:
        talk = _TALK.fullmatch(line)
        if line.startswith("$ "):
            await self._start(line)
        elif talk is not None and talk[2] == "->":
            await self._command(talk[1], line, talk[3])
        elif talk is not None:
            await self._compare(line, talk[1], talk[3])
        elif line.startswith("(hmp) "):
            self.out.append(line)
            machine = await self._machine("")
            self.errors += (await machine.hmp(line[6:].replace("DIR", self.directory))).splitlines()
        elif line.startswith("[exit "):
            assert self.exit is not None, "it has not ended"
            self.out.append(f"[exit {self.exit}]")
            assert self.fill or self.out[-1] == line
        elif self.fill:
            self._flush()
        else:
            seen = self.errors.pop(0).replace(self.directory, "DIR") if self.errors else "nothing"
            assert seen == line
            self.out.append(line)

    def _flush(self) -> None:
        self.out += [each.replace(self.directory, "DIR") for each in self.errors]
        self.errors.clear()

    async def _start(self, line: str) -> None:
        self.out.append(line)
        words = shlex.split(line[2:].replace("DIR", self.directory))
        name = words.pop(0)[:-1] if words[0].endswith("$") else ""
        waits = words[-1] == "&"
        words = words[1 : len(words) - waits]
        settings: dict[str, Any] = {}
        if words and words[0] == "run":
            words.pop(0)
        while words and words[0].startswith("--"):
            word = words.pop(0)
            if word == "--profile":
                settings["profile"] = words.pop(0)
            elif word == "--proposal":
                settings["proposals"] = [words.pop(0)]
            elif word == "--tap-directory":
                settings["tap_directory"] = words.pop(0)
            elif word == "--as-posted":
                settings["as_posted"] = True
        if (last := self.machines.pop(name, None)) is not None:
            last.stop_now()
        machine = FakeQemu(*words, socket=False, client=False, **settings)
        self.machines[name] = machine
        if waits:
            self.starting[name] = asyncio.create_task(machine.start())
            # it goes as far as it can without others, and they can connect then
            paths = [Path(self.directory, each) for each in re.findall(r"DIR/(\w+)", line)]
            await until(lambda: all(each.exists() for each in paths), f"{paths} of {name}")
            return
        try:
            await machine.start()
        except StartupError as error:
            del self.machines[name]
            if error.heading:
                self.errors.append(error.heading)
            text = "\n".join([*error.earlier, error.message])
            self.errors += [PROGRAM + each if n == 0 else each
                            for n, each in enumerate(text.splitlines())]
            self.exit = error.code
            return
        self.errors += machine.stderr.getvalue().splitlines()

    async def _machine(self, name: str) -> FakeQemu:
        if name in self.starting:
            await self.starting.pop(name)
        return self.machines[name]

    async def _command(self, name: str, line: str, text: str) -> None:
        self.out.append(line.partition(" | ")[0] if self.fill else line)
        text, _, shown = text.partition(" | ")
        message = json.loads(text.replace("DIR", self.directory))
        self.asked = await self._machine(name), message
        await self._ask()
        if self.fill and shown.endswith("!"):
            shown = shown[:-1]
            await self._ask_until(
                lambda reply: reply["return"]["status"] in ("completed", "running")
            )
        if self.fill:
            reply = self.reply
            if shown and "return" in reply:
                some = {key: reply["return"][key] for key in shown.split(",")}
                reply = {"return": {**some, "...": 0}}
            written = json.dumps(reply).replace(', "...": 0}', ", ...}")
            self.out.append(f"{name}<- {written}".replace(self.directory, "DIR"))

    async def _ask(self) -> None:
        machine, message = self.asked
        try:
            value = await machine.qmp(message["execute"], message.get("arguments"))
            self.reply = {"return": value}
        except QmpError as error:
            self.reply = {"error": {"class": error.error_class, "desc": error.desc}}

    async def _ask_until(self, good: Callable[[Any], bool]) -> None:
        """Ask again while the reply is none that is waited for, up to a deadline."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DEADLINE):
                while not good(self.reply):
                    await self._ask()

    async def _compare(self, line: str, name: str, text: str) -> None:
        if self.fill:
            return
        self.out.append(line)
        wanted = json.loads(text.replace("DIR", self.directory).replace(", ...}", ', "...": 0}'))
        if self.asked[1]["execute"].startswith("query-"):
            await self._ask_until(lambda reply: _matches(wanted, reply))
        assert _matches(wanted, self.reply), f"{name}: {self.reply}"


def _matches(wanted: Any, seen: Any) -> bool:
    if isinstance(wanted, dict) and isinstance(seen, dict):
        names = set(wanted) - {"..."}
        if not names <= set(seen) or ("..." not in wanted and names != set(seen)):
            return False
        return all(_matches(wanted[name], seen[name]) for name in names)
    return bool(wanted == seen)
