"""Machines in this process, driven as fast as they go, with a real host around them.

Time is virtual and moves a little with each command; nothing waits for a client.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.boot.error_report import EarlyExit
from fakeqemu.boot.requests import WaitForClient, WaitForCprState
from fakeqemu.boot.sequence import Boot
from fakeqemu.clock import VirtualClock
from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp
from fakeqemu.io.host import OsHost
from fakeqemu.io.loop import Loop
from fakeqemu.io.process.boot_driver import perform
from fakeqemu.model.host import CprChannel
from fakeqemu.profile import Profile
from fakeqemu.qapi import reads
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qmp.dispatch import dispatcher_of

#: what a machine may refuse with
REFUSALS = (EarlyExit, Exception)

#: virtual nanoseconds that pass with each command
_STEP = 10_000_000
#: bytes of an image that a scenario writes by itself
_IMAGE = 1 << 20
#: never carried out: they end the process, or reach beyond the scenario's directory
_NEVER = frozenset({"quit", "x-exit-preconfig"})


class Caller:
    """The monitor that commands come from; descriptors never come with one."""

    chardev = None

    def take_fd(self) -> int | None:
        """None came."""
        return None


class Driven:
    """One machine."""

    def __init__(self, argv: Sequence[str], profile: Profile) -> None:
        self._loop = asyncio.new_event_loop()
        self._host = OsHost(Loop(self._loop), stderr=io.StringIO())
        self._clock = VirtualClock()
        self._human = HmpMonitor()
        self._caller = Caller()
        if "-daemonize" in argv:
            raise ValueError("a daemon would be another process")
        configuration = parse_command_line(list(argv), profile)
        boot = Boot.of(configuration, profile, self._clock, self._host)
        self.vm = boot.vm
        self._host.serve(boot.vm)
        try:
            self._walk(boot)
        except BaseException:
            self.close()
            raise

    def _walk(self, boot: Boot) -> None:
        requests = boot.run()
        answer: Any = None
        refusal: QapiError | None = None
        while True:
            try:
                request = requests.send(answer) if refusal is None else requests.throw(refusal)
            except StopIteration:
                boot.finish()
                return
            answer = refusal = None
            if isinstance(request, WaitForCprState):
                answer = CprChannel((), lambda: None)
            elif not isinstance(request, WaitForClient):
                try:
                    perform(self._host, request, lambda _value: None)
                except QapiError as error:
                    refusal = error

    def execute(self, command: str, arguments: Any = None) -> Any:
        """One command. Raises one of `REFUSALS`."""
        if command in _NEVER:
            return None
        value = dispatcher_of(self.vm).execute(command, arguments, self._caller)
        self.turn()
        return value

    def hmp(self, line: str) -> str:
        """One line of the human monitor."""
        printed = run_hmp(self.vm, self._human, line)
        if reads.log is not None:
            reads.log.accept()
        return printed

    def turn(self) -> None:
        """Let time and the world go on."""
        self._clock.advance(_STEP)
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()

    def close(self) -> None:
        """Give back what it holds."""
        with suppress(Exception):
            if self.vm.process.exit_code is None:
                self.vm.process.exit(0)
        self._host.close()
        self._loop.close()


@contextmanager
def directory() -> Iterator[Path]:
    """An empty directory to work in, taken away afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="fakeqemu-effect-") as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def boot(argv: Sequence[str], profile: Profile) -> Driven | None:
    """A machine; None if it refuses to start."""
    log = reads.log
    assert log is not None
    log.refuse()
    try:
        return Driven(argv, profile)
    except REFUSALS:
        log.refuse()
        return None


def play_record(path: Path, profile: Profile) -> None:
    """The command lines and commands of a conformance record, whatever the replies."""
    with directory() as where:
        text = path.read_text("utf-8").replace("${dir}", str(where))
        for number in range(4):
            text = text.replace(f"${{port{number}}}", str(free_port()))
        machines: dict[str, Driven] = {}
        try:
            for step in json.loads(text)["steps"]:
                _step(step, machines, profile)
        finally:
            for machine in machines.values():
                machine.close()


def _step(step: dict[str, Any], machines: dict[str, Driven], profile: Profile) -> None:
    if "start" in step:
        machine = boot(step["argv"], profile)
        if machine is not None:
            machines[step["start"]] = machine
    elif "write_file" in step:
        Path(step["write_file"]).write_text(step.get("text", ""), "utf-8")
    elif step.get("on") in machines and ("send" in step or isinstance(step.get("poll"), dict)):
        request = step.get("send") or step.get("poll") or {}
        for machine in machines.values():
            machine.turn()
        try:
            command = request.get("execute") or request.get("exec-oob") or ""
            machines[step["on"]].execute(command, request.get("arguments"))
        except REFUSALS:
            return


def play_page(path: Path, profile: Profile) -> None:
    """The command lines and commands of a page's examples."""
    for block in path.read_text("utf-8").split("```console\n")[1:]:
        with directory() as where:
            machine: Driven | None = None
            for line in block.split("\n```")[0].replace("DIR", str(where)).splitlines():
                command = line.rstrip("&").partition("$ fakeqemu")[2]
                sent = line.partition("-> ")[2]
                if command:
                    if machine is not None:
                        machine.close()
                    machine = boot(_qemu_options(shlex.split(command)), profile)
                elif sent.startswith("{") and machine is not None:
                    _send(machine, sent)
                elif line.startswith("(hmp) ") and machine is not None:
                    machine.hmp(line[6:])
            if machine is not None:
                machine.close()


def _send(machine: Driven, text: str) -> None:
    try:
        request = json.loads(text)
        machine.execute(request["execute"], request.get("arguments"))
    except (*REFUSALS, KeyError):
        return


def _qemu_options(words: list[str]) -> list[str]:
    """The part of a `fakeqemu` command line that is QEMU's."""
    if "--" in words:
        return words[words.index("--") + 1 :]
    words = words[1:] if words[:1] == ["run"] else words
    while words[:1] in (["--profile"], ["--as-posted"]):
        words = words[2:] if words[0] == "--profile" else words[1:]
    return words


def free_port() -> int:
    """A TCP port of the loopback that nobody has."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def make_images(where: Path) -> None:
    """The images that generated machines use: d0.qcow2, d1.raw, d2.raw."""
    for name in ("d1.raw", "d2.raw"):
        (where / name).write_bytes(bytes(_IMAGE))
    machine = Driven(["-machine", "none", "-nodefaults", "-display", "none"],
                     Profile.load("10.0"))
    for name, options in (
        ("j0", {"driver": "file", "filename": "d0.qcow2", "size": 0}),
        ("j1", {"driver": "qcow2", "file": "f0", "size": _IMAGE}),
    ):
        if name == "j1":
            machine.execute("blockdev-add",
                            {"driver": "file", "node-name": "f0", "filename": "d0.qcow2"})
        machine.execute("blockdev-create", {"job-id": name, "options": options})
        for _ in range(4):
            machine.turn()
    machine.close()
