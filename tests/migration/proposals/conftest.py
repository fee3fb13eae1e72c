"""Starts of a version with proposals, and what a client sees of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu, QmpError


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
