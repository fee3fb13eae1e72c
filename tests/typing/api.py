"""The public face, as a type checker sees it: this file is checked, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fakeqemu.clock import VirtualClock
from fakeqemu.journal import Journal
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.testing import FakeQemu


async def uses_a_machine() -> None:
    """What a tester writes."""
    async with FakeQemu("-machine", "q35", profile="10.0", clock=VirtualClock()) as qemu:
        status: Any = await qemu.qmp("query-status")
        text: str = await qemu.hmp("info status")
        path: str = str(qemu.socket_path)
        journal: Journal = qemu.journal
        machine: Machine = qemu.vm
        print(status, text, path, journal, machine)


async def uses_the_fixture(fakeqemu: Callable[..., Awaitable[FakeQemu]]) -> None:
    """What the plugin's factory fixture is."""
    qemu = await fakeqemu("-S", profile="7.2")
    await qemu.qmp("cont")


def uses_a_profile() -> list[str]:
    """What a tool reads."""
    profile: Profile = Profile.load("next")
    return [machine.name for machine in profile.machines]
