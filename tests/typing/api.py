"""The public face, as a type checker sees it: this file is checked, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from fakeqemu.clock import VirtualClock
from fakeqemu.journal import Journal, JournalEntry
from fakeqemu.model.events import Event
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.testing import Factory, FakeQemu, Fleet, SyncFakeQemu, Template
from fakeqemu.testing.faults.model import Delay
from fakeqemu.testing.match import Glob, OneOf


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


async def uses_the_fixture(fakeqemu: Factory) -> None:
    """What the plugin's factory fixture is."""
    qemu = await fakeqemu("-S", profile="7.2", guest={"memory": "1G", "dirty-rate": "1M/s"})
    await qemu.qmp("cont")
    await qemu.wait_event("RESUME", since=qemu.mark(), nth=2)
    with fakeqemu.sync("-S", runner="process", clock="virtual") as vm:
        assert_type(vm.mark(), int)


def gets_it_wrong(fakeqemu: Factory) -> None:
    """Each is an error for a type checker."""
    fakeqemu("-S", profil="7.2")  # type: ignore[call-arg]
    fakeqemu("-S", runner="proces")  # type: ignore[arg-type]
    fakeqemu("-S", clock="virtal")  # type: ignore[arg-type]
    fakeqemu(["-S"])  # type: ignore[arg-type]
    fakeqemu("-S", guest={"dirty-rat": 1})  # type: ignore[arg-type]
    FakeQemu("-S", profil="7.2")  # type: ignore[arg-type]
    SyncFakeQemu("-S", profil="7.2")  # type: ignore[call-arg]
    print(fakeqemu.pair(profil="7.2"))  # type: ignore[call-arg]
    fakeqemu.sync("-S", runner="loop")  # type: ignore[arg-type]
    FakeQemu("-S", guest={"agent": "of"})  # type: ignore[arg-type]


def adds_faults(qemu: FakeQemu) -> None:
    """Each fault has its own keywords."""
    qemu.faults.add("delay", command="stop", seconds=2, until_runstate="paused")
    qemu.faults.add("drop", place="middle", event="STOP", count=1)
    qemu.faults.add("exit", at="mid-migration", signal="KILL")
    qemu.faults.add("io-error", errno="ENOSPC", operation="write")
    qemu.faults.add("cancel-at-last-moment")
    qemu.faults.add(Delay(command="stop", seconds=1))
    qemu.faults.add("dela", command="stop")  # type: ignore[call-overload]
    qemu.faults.add("delay", comand="stop")  # type: ignore[call-overload]
    qemu.faults.add("delay", seconds="2")  # type: ignore[call-overload]
    qemu.faults.add("drop", place="midle")  # type: ignore[call-overload]
    qemu.faults.add("io-error", errno="ENOSPACE")  # type: ignore[call-overload]
    qemu.faults.add("error", seconds=2)  # type: ignore[call-overload]


async def expects(qemu: FakeQemu) -> None:
    """What has to come."""
    qemu.expect("migrate", {"uri": Glob("unix:*")}, times=1)
    qemu.expect_in_order("stop", ("migrate", {"uri": OneOf("a", "b")}), "cont")
    qemu.expect_in_order(3)  # type: ignore[arg-type]


async def uses_a_fleet() -> None:
    """Settings of all machines."""
    async with Fleet.of(2, "-S", profile="10.0", clock="virtual", socket=False, seed=1) as fleet:
        assert_type(fleet["vm-0"], FakeQemu)
    Fleet.of(2, "-S", clok="virtual")  # type: ignore[call-arg]
    Fleet.of(2, "-S", clock="virtal")  # type: ignore[arg-type]
    Fleet.of(2, "-S", socket="/tmp/q")  # type: ignore[arg-type]
    Fleet.of(2, "-S", runner="fork")
    Fleet.of(2, "-S", runner="frok")  # type: ignore[arg-type]


async def uses_copies(fakeqemu: Factory) -> None:
    """Machines that are prepared once."""
    base = Template("-S", profile="10.0", prepare=lambda vm: vm.qmp("cont"))
    async with base(clock="virtual", runner="thread") as vm:
        assert_type(vm, FakeQemu)
    with fakeqemu.template(base).sync(name="one") as one:
        assert_type(one, SyncFakeQemu)
    Template("-S", runner="fork")  # type: ignore[call-arg]
    base(profile="10.0")  # type: ignore[call-arg]
    base(runner="process")  # type: ignore[arg-type]
    base.sync(runner="loop")  # type: ignore[call-arg]


def uses_a_profile() -> list[str]:
    """What a tool reads."""
    profile: Profile = Profile.load("next")
    return [machine.name for machine in profile.machines]
