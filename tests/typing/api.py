"""The public face, as a type checker sees it: this file is checked, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, assert_type

from fakeqemu.clock import VirtualClock
from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.model.events import Event
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.testing import FakeQemu, SyncFakeQemu


async def uses_a_machine() -> None:
    """What a tester writes."""
    async with FakeQemu("-machine", "q35", profile="10.0", clock=VirtualClock()) as qemu:
        status: Any = await qemu.qmp("query-status")
        text: str = await qemu.hmp("info status")
        path: str = str(qemu.socket_path)
        journal: Journal = qemu.journal
        machine: Machine = qemu.vm
        print(status, text, path, journal, machine)


def uses_a_machine_without_await() -> None:
    """The same methods, with the types of what they return."""
    with FakeQemu.sync("-machine", "q35", profile="10.0") as qemu:
        assert_type(qemu, SyncFakeQemu)
        assert_type(qemu.hmp("info status"), str)
        assert_type(qemu.wait_event("STOP", reason="x"), Event)
        assert_type(qemu.wait_for("command", "stop"), JournalEntry)
        assert_type(qemu.run_until("migration-pass", "3", limit=10), JournalEntry)
        assert_type(qemu.run_until_idle(), int)
        assert_type(qemu.jump(), bool)
        assert_type(qemu.now(), float)
        assert_type(qemu.directory, Path)
        assert_type(qemu.faults.add("late", command="stop"), list[int])
        assert_type(qemu.faults.drop_channels(), int)
        qemu.deadline = 3
        qemu.guest.balloon("512M")
        qemu.guest.write_disk("vd0", size="4K", data=b"x")
        qemu.guest.balloon()  # type: ignore[call-arg]
        qemu.guest.panik()  # type: ignore[attr-defined]
        qemu.wait_event(3)  # type: ignore[arg-type]


async def uses_the_fixture(fakeqemu: Callable[..., Awaitable[FakeQemu]]) -> None:
    """What the plugin's factory fixture is."""
    qemu = await fakeqemu("-S", profile="7.2")
    await qemu.qmp("cont")


def uses_a_profile() -> list[str]:
    """What a tool reads."""
    profile: Profile = Profile.load("next")
    return [machine.name for machine in profile.machines]
