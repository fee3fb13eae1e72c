"""Devices against migration: blockers that come and go, --only-migratable, paths and blocks."""

from __future__ import annotations

import pytest

from fakeqemu.model.boards.ramblocks import blocks_of
from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu, QmpError

PEER = "Migration is disabled when using feature 'peer mode' in device 'ivshmem'"
BASE = ("-machine", "q35", "-nodefaults", "-m", "64", "-S")
PLAIN = ("-object", "memory-backend-ram,id=m,size=1M", "-device")


def machine(*options, profile="11.1"):
    return FakeQemu(*BASE, *options, profile=profile, socket=False, client=False)


async def reasons(vm):
    return (await vm.qmp("query-migrate")).get("blocked-reasons", [])


async def test_a_device_with_a_reason_of_its_own():
    async with machine(*PLAIN, "ivshmem-plain,memdev=m") as vm:
        assert await reasons(vm) == [PEER]
        with pytest.raises(QmpError, match="peer mode"):
            await vm.qmp("migrate", uri="exec:cat >/dev/null")


async def test_the_reason_depends_on_how_it_was_made():
    async with machine(*PLAIN, "ivshmem-plain,memdev=m,master=on") as vm:
        assert await reasons(vm) == []


@pytest.mark.parametrize(
    ("profile", "options", "path"),
    [
        ("10.0", ("-device", "nvme,serial=s,addr=5.0"), "0000:00:05.0/nvme"),
        (
            "11.1",
            ("-device", "pcie-root-port,id=r,addr=3", "-device", "rocker,bus=r"),
            "0000:00:03.0:00.0/rocker",
        ),
        (
            "7.2",
            ("-device", "qemu-xhci,addr=4", "-device", "usb-wacom-tablet"),
            "0000:00:04.0/1/usb-wacom",
        ),
    ],
)
async def test_a_device_that_cannot_migrate_is_named_by_its_path(profile, options, path):
    async with machine(*options, profile=profile) as vm:
        assert await reasons(vm) == [f"non-migratable device: {path}"]
        with pytest.raises(QmpError) as caught:
            await vm.qmp("migrate", uri="exec:cat >/dev/null")
        assert caught.value.desc == f"State blocked by non-migratable device '{path}'"


async def test_the_reason_goes_with_the_device():
    async with machine("-device", "qemu-xhci") as vm:
        await vm.qmp("device_add", driver="usb-wacom-tablet", id="t")
        assert len(await reasons(vm)) == 1
        await vm.qmp("device_del", id="t")
        assert await reasons(vm) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-device", "rocker"), "-device rocker: Device rocker is not migratable, but"),
        (
            (*PLAIN, "ivshmem-plain,memdev=m"),
            "-device ivshmem-plain,memdev=m: disallowing migration blocker (--only-migratable)",
        ),
        (("-device", "vfio-pci"), "-device vfio-pci: No provided host device\nUse -device"),
    ],
)
async def test_only_migratable(options, text):
    with pytest.raises(StartupError) as caught:
        await machine("-only-migratable", *options).start()
    assert caught.value.message.startswith(text)


async def test_only_migratable_when_hotplugged():
    async with machine("-only-migratable", "-device", "qemu-xhci") as vm:
        with pytest.raises(QmpError) as caught:
            await vm.qmp("device_add", driver="usb-wacom-tablet", id="t")
        assert caught.value.desc == (
            "Device usb-wacom-tablet is not migratable, but --only-migratable was specified"
        )
        assert await reasons(vm) == []
        # nothing of it is left
        await vm.qmp("device_add", driver="usb-tablet", id="t")


async def test_memory_comes_in_order_of_creation():
    async with machine("-device", "VGA,addr=2") as vm:
        names = [block.name for block in blocks_of(vm.vm.state, vm.vm.numa)]
        assert names[:5] == [
            "pc.ram", "pc.bios", "pc.rom", "0000:00:02.0/vga.vram", "0000:00:02.0/vga.rom",
        ]
        assert all(name.startswith("/rom@etc/") for name in names[5:])
        assert not any(block.shared for block in blocks_of(vm.vm.state, vm.vm.numa))


@pytest.mark.parametrize(
    ("backend", "shared", "by_descriptor"),
    [
        ("memory-backend-memfd,id=m,size=64M,share=on", True, True),
        ("memory-backend-ram,id=m,size=64M", False, False),
    ],
)
async def test_memory_of_a_backend(backend, shared, by_descriptor):
    async with machine("-object", backend, "-machine", "memory-backend=m") as vm:
        first = blocks_of(vm.vm.state, vm.vm.numa)[0]
        assert (first.name, first.size) == ("m", 64 << 20)
        assert (first.shared, first.by_descriptor) == (shared, by_descriptor)


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (("-global", "PIIX4_PM.smm-compat=1"), "warning: global PIIX4_PM.smm-compat=1 not used"),
        (("-global", "nosuch.x=1"), "warning: global nosuch.x has invalid class name"),
        (("-global", "ICH9-LPC.disable_s3=1"), ""),
        (("-global", "virtio-rng-pci.max-bytes=x"), ""),
    ],
)
async def test_globals_that_nobody_took(options, warning):
    async with machine(*options) as vm:
        assert vm.stderr.getvalue().replace("qemu-system-x86_64: ", "").strip() == warning


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ("-global", "ICH9-LPC.nosuch=1"),
            "can't apply global ICH9-LPC.nosuch=1: Property 'ICH9-LPC.nosuch' not found",
        ),
        (
            ("-device", "virtio-rng-pci", "-global", "virtio-rng-pci.max-bytes=x"),
            "-device virtio-rng-pci: can't apply global virtio-rng-pci.max-bytes=x: Parameter"
            " 'max-bytes' expects uint64",
        ),
    ],
)
async def test_globals_that_are_wrong(options, text):
    with pytest.raises(StartupError) as caught:
        await machine(*options).start()
    assert caught.value.message == text
