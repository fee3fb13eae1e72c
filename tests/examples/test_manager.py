"""Seventeen tests of the manager, with what docs/testing.md and docs/catalogue.md have."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fakeqemu.testing import Fleet
from fakeqemu.testing.match import Glob, InRange
from tests.examples.manager import ManagedVm, ManagerError

MACHINE = ("-machine", "q35", "-nodefaults", "-display", "none", "-m", "256",
           "-device", "pcie-root-port,id=rp,chassis=1")  # fmt: skip
DISK = 1 << 30

pytestmark = pytest.mark.fakeqemu(profile="10.0", client=False)


@contextlib.asynccontextmanager
async def managed(vm: Any, patience: float = 5.0) -> AsyncIterator[ManagedVm]:
    manager = ManagedVm(str(vm.socket_path), patience)
    await manager.connect()
    try:
        yield manager
    finally:
        await manager.close()


# -- boot -----------------------------------------------------------------------------------------


async def test_a_machine_that_runs(fakeqemu: Any) -> None:
    async with fakeqemu(*MACHINE) as vm, managed(vm) as manager:
        assert await manager.status() == "running"


async def test_a_machine_that_hangs_up_on_everybody(fakeqemu: Any) -> None:
    vm = fakeqemu(*MACHINE, runner="process")
    async with vm, managed(vm) as manager:
        vm.faults.drop_connections()
        assert await manager.status() == "running"
        assert manager.reconnected == 1


async def test_a_machine_that_hangs_up_in_the_middle_of_a_reply(fakeqemu: Any) -> None:
    async with fakeqemu(*MACHINE) as vm, managed(vm) as manager:
        vm.faults.add("drop", command="query-status", place="middle", count=1)
        assert await manager.status() == "running"
        assert manager.reconnected == 1


async def test_a_machine_that_says_nothing(fakeqemu: Any) -> None:
    async with fakeqemu(*MACHINE, allow=["unused"]) as vm:
        vm.faults.add("silent")
        with pytest.raises(TimeoutError):
            async with managed(vm, patience=0.2):
                pass


# -- hot-plug -------------------------------------------------------------------------------------


async def test_a_disk_is_plugged(fakeqemu: Any) -> None:
    async with fakeqemu(*MACHINE) as vm, managed(vm) as manager:
        vm.expect_in_order(
            ("blockdev-add", {"size": InRange(1, DISK)}), ("device_add", {"id": Glob("dev-*")})
        )
        await manager.plug_disk("d", DISK, "rp")
        assert "dev-d" in await vm.hmp("info qtree")


async def test_a_disk_that_cannot_be_plugged_leaves_nothing(fakeqemu: Any) -> None:
    async with fakeqemu(*MACHINE) as vm, managed(vm) as manager:
        vm.faults.add("error", command="device_add", desc="No room", count=1)
        vm.expect("blockdev-del", {"node-name": "d"}, times=1)
        with pytest.raises(ManagerError, match="No room"):
            await manager.plug_disk("d", DISK, "rp")
        assert await vm.qmp("query-named-block-nodes") == []


async def test_a_guest_that_lets_go(fakeqemu: Any) -> None:
    async with fakeqemu(*MACHINE, guest={"unplug": "acknowledge"}) as vm, managed(vm) as manager:
        await manager.plug_disk("d", DISK, "rp")
        await manager.unplug_disk("d")
        assert await vm.qmp("query-named-block-nodes") == []


async def test_a_guest_that_refuses(fakeqemu: Any) -> None:
    async with fakeqemu(*MACHINE, guest={"unplug": "refuse"}) as vm, managed(vm) as manager:
        await manager.plug_disk("d", DISK, "rp")
        with pytest.raises(ManagerError, match="refuses"):
            await manager.unplug_disk("d")


async def test_a_guest_that_never_answers(fakeqemu: Any) -> None:
    async with fakeqemu(*MACHINE) as vm, managed(vm, patience=0.2) as manager:
        await manager.plug_disk("d", DISK, "rp")
        with pytest.raises(TimeoutError):
            await manager.unplug_disk("d")
        assert not vm.journal.commands("blockdev-del")


async def test_an_event_that_is_lost(fakeqemu: Any) -> None:
    async with fakeqemu(*MACHINE, guest={"unplug": "acknowledge"}) as vm, managed(
        vm, patience=0.2
    ) as manager:
        vm.faults.add("lost-event", event="DEVICE_DELETED")
        await manager.plug_disk("d", DISK, "rp")
        with pytest.raises(TimeoutError):
            await manager.unplug_disk("d")


# -- migration ------------------------------------------------------------------------------------


async def moved(fakeqemu: Any, *, busy: bool = False, **how: Any) -> tuple[Any, Any, str]:
    """A pair, one of which was migrated to the other meanwhile."""
    rate = "2G/s" if busy else "1M/s"
    src, dst = await fakeqemu.pair(
        *MACHINE, listen=False, guest={"memory": "1G", "dirty-rate": rate}
    )
    async with managed(src) as manager, managed(dst) as other:
        migrating = asyncio.create_task(manager.migrate(other, dst.migration_uri, **how))
        await src.run_until("migration", "completed")
        return src, dst, await migrating


async def test_precopy(fakeqemu: Any) -> None:
    src, dst, ended = await moved(fakeqemu)
    assert ended == "completed"
    assert (await src.qmp("query-status"))["status"] == "postmigrate"
    assert (await dst.qmp("query-status"))["status"] == "running"


async def test_multifd(fakeqemu: Any) -> None:
    src, _, ended = await moved(fakeqemu, channels=4)
    assert ended == "completed"
    assert (await src.qmp("query-migrate"))["ram"]["multifd-bytes"] > 0


async def test_postcopy_of_a_busy_guest(fakeqemu: Any) -> None:
    src, _, ended = await moved(fakeqemu, busy=True, postcopy=True)
    assert ended == "completed"
    assert "postcopy-active" in [each.name for each in src.journal.of("migration")]


async def test_cancelled(fakeqemu: Any) -> None:
    src, dst = await fakeqemu.pair(*MACHINE, guest={"memory": "8G", "dirty-rate": "2G/s"})
    async with managed(src) as manager:
        await manager.run("migrate", uri=dst.migration_uri)
        await src.run_until("migration", "active")
        cancelling = asyncio.create_task(manager.cancel())
        await src.run_until("migration", "cancelled")
        assert await cancelling
        assert await manager.status() == "running"


async def test_a_destination_that_cannot_load(fakeqemu: Any) -> None:
    src, dst = await fakeqemu.pair(*MACHINE, listen=False, guest={"memory": "1G"})
    dst.faults.add("load-fails", section="ram")
    async with managed(src) as manager, managed(dst) as other:
        migrating = asyncio.create_task(manager.migrate(other, dst.migration_uri))
        await src.run_until("migration", "failed")
        assert await migrating == "failed"
        assert await manager.status() == "running"


# -- many -----------------------------------------------------------------------------------------


async def test_from_one_prepared_state(fakeqemu: Any) -> None:
    async def plugged(vm: Any) -> None:
        async with managed(vm) as manager:
            await manager.plug_disk("d", DISK, "rp")

    copies = fakeqemu.template(*MACHINE, prepare=plugged, guest={"unplug": "acknowledge"})
    for _ in range(3):
        async with copies() as vm, managed(vm) as manager:
            await manager.unplug_disk("d")


async def test_a_fleet_of_twenty() -> None:
    async with Fleet.of(20, *MACHINE, profile="10.0", seed=7) as fleet:
        managers = [ManagedVm(str(fleet.socket(vm.name))) for vm in fleet]
        await asyncio.gather(*(manager.connect() for manager in managers))
        died = fleet.happen({"exit": 1}, machines="vm-*", pick=3)
        alive = [m for m, vm in zip(managers, fleet, strict=True) if vm.name not in died]
        assert set(await asyncio.gather(*(m.status() for m in alive))) == {"running"}
        assert len(alive) == 17
        await asyncio.gather(*(manager.close() for manager in managers))
