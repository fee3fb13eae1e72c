"""What disks and floppy drives say of their properties; texts are those of real ones."""

from __future__ import annotations

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu

TOO_SMALL = "logical_block_size > physical_block_size not supported"


def machine(*devices: str, size: int = 1 << 30) -> FakeQemu:
    words = [word for device in devices for word in ("-device", device)]
    disk = ("-blockdev", f"null-co,node-name=a,size={size}")
    return FakeQemu("-machine", "pc", "-nodefaults", *disk, *words, profile="10.0")


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (("floppy", "floppy", "floppy"),
         "Can't create floppy unit 2, bus supports only 2 units"),
        (("floppy,unit=2",), "Can't create floppy unit 2, bus supports only 2 units"),
        (("floppy,unit=1", "floppy,unit=1"), "Floppy unit 1 is in use"),
        (("floppy,drive=a,physical_block_size=1024",),
         "Physical and logical block size must be 512 for floppy"),
        (("virtio-blk-pci,drive=a,logical_block_size=4096",), TOO_SMALL),
        (("virtio-blk-pci,drive=a,min_io_size=513",),
         "min_io_size must be a multiple of logical_block_size"),
        (("virtio-scsi-pci", "scsi-hd,drive=a,discard_granularity=100"),
         "discard_granularity must be a multiple of logical_block_size"),
        (("ide-hd,drive=a,discard_granularity=1024",), "discard_granularity must be 512 for ide"),
        (("ide-hd,drive=a,physical_block_size=4096,logical_block_size=4096",),
         "logical_block_size must be 512 for IDE"),
    ],
)  # fmt: skip
async def test_refusals(devices: tuple[str, ...], said: str) -> None:
    with pytest.raises(StartupError) as caught:
        async with machine(*devices):
            pass
    assert caught.value.message == f"-device {devices[-1]}: {said}"


@pytest.mark.parametrize(
    ("size", "device", "type"),
    [
        (720 << 10, "floppy,drive=a,id=f", "144"),
        (1200 << 10, "floppy,drive=a,id=f", "120"),
        (2880 << 10, "floppy,drive=a,id=f", "288"),
        (5 << 20, "floppy,drive=a,id=f", "288"),
        (720 << 10, "floppy,drive=a,id=f,drive-type=288", "288"),
        (720 << 10, "floppy,id=f", "288"),
    ],
)
async def test_a_floppy_drive_is_for_the_disk_in_it(size: int, device: str, type: str) -> None:
    async with machine(device, size=size) as running:
        where = {"path": "/machine/peripheral/f", "property": "drive-type"}
        assert await running.qmp("qom-get", where) == type


async def test_block_sizes_that_fit() -> None:
    device = "virtio-blk-pci,drive=a,logical_block_size=4096,physical_block_size=4096"
    async with machine(device) as running:
        assert (await running.qmp("query-status"))["status"] == "running"
