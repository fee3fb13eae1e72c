"""`info qtree` with properties; texts are those of real ones."""

from __future__ import annotations

import pytest

DISK = ("-blockdev", "null-co,node-name=a,size=1073741824")


def device(text: str, start: str) -> list[str]:
    """The lines about the first device whose line starts so, without indentation."""
    _, _, rest = text.replace("\r", "").partition(f"dev: {start}")
    lines = [line.strip() for line in rest.splitlines()[1:]]
    ends = [n for n, line in enumerate(lines) if line.startswith(("dev: ", "bus: "))]
    return lines[: ends[0]] if ends else lines


def test_a_machine_without_devices(start):
    text = "bus: main-system-bus\n  type System\n"
    assert start("-machine", "none", "-S").hmp("info qtree") == text


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1", "next"])
def test_the_whole_tree_of_a_board(start, profile):
    text = start("-machine", "q35", "-m", "64", "-S", profile=profile).hmp("info qtree")
    assert device(text, "ioapic")[:3] == [
        'gpio-in "" 24',
        "version = 32 (0x20)",
        "mmio 00000000fec00000/0000000000001000",
    ]
    bridge = device(text, "q35-pcihost")
    assert bridge[0] == "MCFG = -1 (0xffffffffffffffff)"
    assert "below-4g-mem-size = 67108864 (64 MiB)" in bridge
    smbus = device(text, "ICH9-SMB")
    assert smbus[:3] == ["addr = 1f.3", 'romfile = ""', "romsize = 4294967295 (0xffffffff)"]
    assert smbus[-2:] == [
        "class SMBus, addr 00:1f.3, pci id 8086:2930 (sub 1af4:1100)",
        "bar 4: i/o at 0xffffffffffffffff [0x3e]",
    ]


def test_a_board_of_its_own(start):
    text = start("-machine", "microvm", "-m", "64", "-S", profile="7.2").hmp("info qtree")
    assert "mmio 00000000fec10000/0000000000001000" in device(text, "ioapic")


def test_what_a_disk_works_out(start):
    vm = start("-machine", "pc", "-nodefaults", "-S", *DISK, "-device", "ide-hd,drive=a")
    disk = device(vm.hmp("info qtree"), "ide-hd")
    for line in ('serial = "QM00003"', "cyls = 2080 (0x820)", 'bios-chs-trans = "lba"'):
        assert line in disk


def test_geometry_that_was_given(start):
    words = ("-device", "virtio-blk-pci,drive=a,cyls=4,heads=3,secs=2")
    text = start("-machine", "pc", "-nodefaults", "-S", *DISK, *words).hmp("info qtree")
    disk = device(text, "virtio-blk-device")
    for line in ("cyls = 4 (0x4)", "heads = 3 (0x3)", "secs = 2 (0x2)"):
        assert line in disk


def test_a_scsi_disk_is_called_by_its_serial_number(start):
    words = ("-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=a,serial=foo")
    text = start("-machine", "pc", "-nodefaults", "-S", *DISK, *words).hmp("info qtree")
    assert 'device_id = "foo"' in device(text, "scsi-hd")


def test_a_usb_disk_gives_its_drive_away(start):
    words = ("-device", "qemu-xhci", "-device", "usb-storage,drive=a")
    text = start("-machine", "q35", "-nodefaults", "-S", *DISK, *words).hmp("info qtree")
    assert device(text, "usb-storage")[0] == 'drive = ""'
    assert device(text, "usb-storage")[-1] == (
        "addr 0.0, port 1, speed 5000, name QEMU USB MSD, attached"
    )
    assert device(text, "scsi-hd")[0] == 'drive = "a"'


def test_a_serial_port_with_a_character_device_is_refused(start):
    words = ("-device", "virtio-serial", "-chardev", "null,id=c",
             "-device", "virtserialport,chardev=c")  # fmt: skip
    text = start("-machine", "q35", "-S", *words).hmp("info qtree")
    assert text.startswith("fakeqemu does not model 'info qtree with ")


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1", "next"])
def test_all_device_types(start, profile):
    lines = start("-machine", "none", profile=profile).hmp("info qdm").splitlines()
    assert lines[0] == "Controller/Bridge/Hub devices:"
    assert 'name "ICH9-LPC", bus PCI, desc "ICH9 LPC bridge", no-user' in lines
