"""Starts of a version with proposals, and what a client sees of them."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu, QmpError
from tests.support.processes import fake


class Design:
    """One machine of a design; a start that fails is an outcome like any other."""

    def __init__(self, machine: FakeQemu) -> None:
        self.machine = machine
        self.error: StartupError | None = None

    @property
    def vm(self) -> Any:
        """The model's machine."""
        return self.machine.vm

    async def qmp(self, command: str, **arguments: Any) -> Any:
        """What the command returns, or the text of its error."""
        try:
            return await self.machine.qmp(command, arguments or None)
        except QmpError as error:
            return error.desc

    async def parameters(self, *names: str) -> Any:
        """The values of these as query-migrate-parameters shows them; None where it does not."""
        shown = await self.machine.qmp("query-migrate-parameters")
        values = [shown.get(name) for name in names]
        return values if len(values) > 1 else values[0]

    async def status(self) -> str:
        """The run state."""
        return (await self.machine.qmp("query-status"))["status"]


@pytest.fixture
async def boot() -> AsyncIterator[Callable[..., Any]]:
    """`await boot("local,incoming-config", "-incoming", "defer")`."""
    machines = []

    async def start(proposals: str, *options: str, profile: str = "11.1", **settings: Any) -> Any:
        if not any(option == "-machine" for option in options):
            options = ("-machine", "none", *options)
        machine = FakeQemu(
            *options, profile=profile, proposals=[proposals], client=False, **settings
        )
        design = Design(machine)
        try:
            await machine.start()
        except StartupError as error:
            design.error = error
            return design
        machines.append(machine)
        return design

    yield start
    for machine in machines:
        await machine.stop()


@dataclass
class Ended:
    """A process that did not start."""

    code: int
    #: what a client saw that was connected before it started
    messages: list[dict[str, Any]]
    #: its last line on standard error, without the program's name
    said: str


@pytest.fixture
def process() -> Callable[..., Ended]:
    """`process("11.1+local", "-incoming", "bogus")`: a start that fails, with a QMP client."""

    def run(profile: str, *options: str) -> Ended:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                chardev = f"socket,id=q,fd={theirs.fileno()}"
                argv = ["-machine", "none", "-chardev", chardev, "-mon", "chardev=q,mode=control"]
                done = subprocess.run(
                    [*fake(profile), *argv, *options],
                    capture_output=True, text=True, timeout=60, check=False,
                    pass_fds=[theirs.fileno()],
                )  # fmt: skip
            ours.settimeout(10)
            with ours.makefile("rb") as said:
                messages = [json.loads(line) for line in said]
        last = done.stderr.splitlines()[-1].removeprefix("qemu-system-x86_64: ")
        return Ended(done.returncode, messages, last)

    return run
