"""A recording that lacks a part: what needs it says so, all else goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.profile import Profile, store
from fakeqemu.testing import FakeQemu, QmpError

PC = ("-machine", "pc", "-nodefaults", "-m", "64", "-S")


@pytest.fixture
def without(tmp_path: Path) -> Callable[[str], Profile]:
    """A profile of 10.0 whose recording lacks a part."""

    def lacking(part: str) -> Profile:
        folder = tmp_path / f"without-{part}"
        shutil.copytree(
            store.schemas_dir() / "10.0", folder, ignore=lambda at, names: {
                name for name in names if name.startswith(f"{part}.") or Path(at, name).is_dir()
            },
        )  # fmt: skip
        return Profile.load(str(folder))

    return lacking


def machine(profile: Profile, *options: str) -> Any:
    return FakeQemu(
        *PC, *options, profile=profile, socket=False, client=False, allow=["not-modelled"]
    )


async def test_devices_come_without_what_is_known_of_migrating_them(
    without: Callable[[str], Profile],
) -> None:
    profile = without("migratability")
    async with machine(profile, "-device", "virtio-rng-pci,id=a") as vm:
        await vm.qmp("device_add", driver="e1000", id="b")
        with pytest.raises(QmpError, match="does not model 'migratability'"):
            await vm.qmp("x-query-ramblock")
        with pytest.raises(QmpError, match="does not model 'migratability'"):
            await vm.qmp("device_add", driver="vfio-pci", id="c")


async def test_only_migratable_needs_to_know(without: Callable[[str], Profile]) -> None:
    profile = without("migratability")
    async with machine(profile, "-only-migratable") as vm:
        with pytest.raises(QmpError, match="does not model 'migratability'"):
            await vm.qmp("device_add", driver="e1000", id="b")


async def test_migrate_refuses_where_memory_is_not_known(
    without: Callable[[str], Profile],
) -> None:
    async with machine(without("migratability"), "-device", "virtio-rng-pci") as vm:
        with pytest.raises(QmpError, match="does not model 'migratability'"):
            await vm.qmp("migrate", uri="exec:cat >/dev/null")
        assert await vm.qmp("query-migrate") == {}


async def test_a_migration_fails_where_sections_are_not_known(
    without: Callable[[str], Profile],
) -> None:
    async with machine(without("vmstates"), "-device", "virtio-rng-pci") as vm:
        await vm.qmp("migrate", uri="exec:cat >/dev/null")
        await vm.wait_for("migration", "failed")
        told = (await vm.qmp("query-migrate"))["error-desc"]
        assert told.startswith("fakeqemu does not model 'vmstates'")
        assert not vm.journal.of("bug")


async def test_only_devices_of_users_have_sections_to_know(
    without: Callable[[str], Profile],
) -> None:
    async with machine(without("vmstates")) as vm:
        await vm.qmp("migrate", uri="exec:cat >/dev/null")
        await vm.wait_for("migration", "completed")


async def test_configuration_space_that_was_not_read(without: Callable[[str], Profile]) -> None:
    async with machine(without("pci-config")) as vm:
        told = await vm.qmp("human-monitor-command", **{"command-line": "i /x 0xcfc"})
        assert told.startswith("fakeqemu does not model 'pci-config'")


async def test_a_start_warns_that_it_cannot_tell_which_globals_are_for_nothing(
    without: Callable[[str], Profile],
) -> None:
    options = ("-global", "floppy.check_media_rate=on", "-global", "kvm-apic.vapic=off")
    async with machine(without("fixed-types"), *options) as vm:
        assert vm.stderr.getvalue().count("fakeqemu does not model 'fixed-types'") == 1
