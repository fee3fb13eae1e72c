"""The devices that a board makes by itself: which, in which order, and on which ports."""

from __future__ import annotations

import re

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu
from tests.support.machines import Booted

#: types whose numbers are compared
WATCHED = frozenset({
    "ide-cd", "floppy", "isa-fdc", "e1000", "e1000e", "virtio-net-pci", "ne2k_isa",
    "rtl8139", "piix3-usb-uhci", "ich9-usb-ehci1", "ich9-usb-uhci3", "hpet", "ich9-ahci",
    "ICH9-SMB", "VGA", "PIIX4_PM",
})  # fmt: skip
CD = "if=ide,media=cdrom,index"


async def numbered(machine: FakeQemu) -> str:
    """`NUMBER:TYPE` of those, in order."""
    found = {}
    for each in await machine.qmp("qom-list", path="/machine/unattached"):
        number = re.fullmatch(r"device\[(\d+)\]", each["name"])
        type = each["type"].removeprefix("child<").removesuffix(">")
        if number and type in WATCHED:
            found[int(number[1])] = type
    return " ".join(f"{number}:{type}" for number, type in sorted(found.items()))


# as real ones number them
@pytest.mark.parametrize(
    ("profile", "line", "numbers"),
    [
        ("7.2", "-machine pc",
         "8:VGA 9:hpet 15:isa-fdc 16:floppy 21:e1000 23:ide-cd 24:PIIX4_PM"),
        ("7.2", "-machine pc -nodefaults", "8:hpet 12:isa-fdc 18:PIIX4_PM"),
        ("7.2", "-machine pc -drive if=floppy,index=1",
         "8:VGA 9:hpet 15:isa-fdc 16:floppy 17:floppy 22:e1000 24:ide-cd 25:PIIX4_PM"),
        ("10.0", f"-machine pc -nodefaults -drive {CD}=2 -usb -nic user",
         "4:ide-cd 7:hpet 10:isa-fdc 15:e1000"),
        ("10.0", "-machine pc -net nic,model=virtio -net user -usb",
         "4:ide-cd 7:VGA 8:hpet 13:isa-fdc 14:floppy 19:virtio-net-pci"),
        ("10.0", f"-machine pc,hpet=off,vmport=off -smp 3 -drive {CD}=0",
         "6:ide-cd 7:ide-cd 10:VGA 15:isa-fdc 16:floppy 19:e1000"),
        ("10.0", "-machine q35", "5:hpet 14:ich9-ahci 15:ide-cd 16:ICH9-SMB 25:VGA 26:e1000e"),
        ("10.0", f"-machine q35 -nodefaults -usb -nic user -drive {CD}=3",
         "5:hpet 12:ich9-ahci 13:ide-cd 14:ich9-usb-ehci1 17:ich9-usb-uhci3 18:ICH9-SMB"
         " 27:e1000e"),
        ("10.0", "-machine q35,sata=off -nic none", "5:hpet 14:ICH9-SMB 23:VGA"),
        ("10.0", "-machine q35,i8042=off -nic user,model=rtl8139 -nic user",
         "5:hpet 10:ich9-ahci 11:ide-cd 12:ICH9-SMB 21:VGA 22:rtl8139 23:e1000e"),
        ("10.0", "-machine pc,acpi=off -usb -nic user,model=virtio",
         "4:ide-cd 7:VGA 8:hpet 13:isa-fdc 14:floppy 19:virtio-net-pci"),
        ("10.0", f"-machine isapc -nodefaults -drive {CD}=2 -nic user,model=ne2k_isa",
         "7:isa-fdc 12:ne2k_isa 15:ide-cd"),
        ("11.1", "-machine pc -nodefaults -usb -nic user,model=e1000",
         "6:hpet 9:isa-fdc 14:e1000"),
        ("11.1", "-machine q35,smbus=off -usb -nic user -nic user,model=ne2k_isa",
         "5:hpet 14:ich9-ahci 15:ide-cd 16:ich9-usb-ehci1 19:ich9-usb-uhci3 20:VGA 21:ne2k_isa"
         " 22:e1000e"),
    ],
)  # fmt: skip
async def test_devices_are_numbered_in_order_of_creation(
    profile: str, line: str, numbers: str
) -> None:
    async with FakeQemu(*line.split(), profile=profile) as machine:
        assert await numbered(machine) == numbers


@pytest.mark.parametrize(("profile", "slot"), [("7.2", 7), ("10.0", 3)])
async def test_the_address_of_a_net_nic(profile: str, slot: int) -> None:
    argv = ("-machine", "pc", "-net", "nic,model=e1000,addr=7")
    async with FakeQemu(*argv, profile=profile) as machine:
        (bus, *_) = await machine.qmp("query-pci")
        found = [each["slot"] for each in bus["devices"] if each["class_info"]["class"] == 0x200]
        assert found == [slot]


async def test_slow_devices_sit_on_the_ports_of_companions() -> None:
    devices = ("usb-kbd", "usb-tablet", "usb-mouse", "usb-mouse", "usb-mouse", "usb-mouse")
    argv = [word for name in devices for word in ("-device", name)]
    async with FakeQemu("-machine", "q35", "-nodefaults", "-usb", *argv) as machine:
        text = await machine.hmp("info usb")
    ports = re.findall(r"Port ([\d.]+), Speed (\d+) Mb/s", text)
    # the last free port gets a hub
    high = [(str(number), "480") for number in range(1, 6)]
    assert ports == [*high, ("6", "12"), ("6.1", "12")]


@pytest.mark.parametrize("profile", ["7.2", "10.0"])
async def test_a_mouse_port_without_a_keyboard_controller(profile: str) -> None:
    machine = FakeQemu("-machine", "pc,i8042=off,vmport=on", profile=profile)
    if profile == "7.2":
        async with machine:
            assert await machine.qmp("query-status")
        return
    with pytest.raises(StartupError, match="vmport requires the i8042 controller"):
        async with machine:
            pass


async def test_every_drive_without_a_place_is_named() -> None:
    machine = FakeQemu("-machine", "microvm", "-drive", "if=floppy", "-drive", "if=ide,index=1")
    with pytest.raises(StartupError) as caught:
        async with machine:
            pass
    lines = str(caught.value).splitlines()
    assert [re.sub(".*support ", "", line) for line in lines] == [
        "if=floppy,bus=0,unit=0",
        "if=ide,bus=0,unit=1",
    ]


async def test_a_virtio_drive_has_the_place_of_its_device() -> None:
    async with FakeQemu("-machine", "pc", "-drive", "if=virtio,id=d,file=null-co://") as machine:
        (block,) = [b for b in await machine.qmp("query-block") if b["device"] == "d"]
        assert block["qdev"] == "/machine/peripheral-anon/device[0]/virtio-backend"


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("7.2", "machine type does not support if=xen,bus=0,unit=0"),
        ("10.0", "No 'xen-bus' bus found for device 'xen-disk'"),
    ],
)
async def test_a_xen_drive_is_one_of_the_board_or_a_device(profile: str, text: str) -> None:
    machine = FakeQemu("-machine", "pc", "-drive", "if=xen,file=null-co://", profile=profile)
    with pytest.raises(StartupError, match=text):
        async with machine:
            pass


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["-fda", "", "-global", "floppy.drive=floppy0"],
         "-global floppy.drive=... conflicts with drive=floppy0"),
        (["-drive", "if=ide,id=a,media=cdrom", "-drive", "if=none,id=n",
          "-global", "ide-cd.drive=n"], "-global ide-cd.drive=... conflicts with drive=a"),
        (["-nic", "user,id=u", "-netdev", "user,id=v", "-global", "e1000.netdev=v"],
         "-global e1000.netdev=... conflicts with netdev=u"),
    ],
)  # fmt: skip
def test_what_the_board_sets_is_not_set_by_a_global(profile, argv, text):
    """A NIC's ends a real QEMU by abort(), with the same text."""
    with pytest.raises(StartupError) as refused:
        Booted("-machine", "pc", "-S", *argv, profile=profile)
    assert refused.value.text == text


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    ("device", "given", "text"),
    [
        ("e1000,netdev=v", "e1000.netdev=u", "-global e1000.netdev=... conflicts with netdev=v"),
        ("virtio-net-pci,netdev=v", "virtio-net-device.netdev=u",
         "-global virtio-net-device.netdev=... conflicts with netdev=v"),
        ("virtio-net-pci,netdev=v", "virtio-net-pci.netdev=u",
         "netdev=v conflicts, and override is not implemented"),
        ("isa-serial,chardev=c", "isa-serial.chardev=d",
         "chardev=c conflicts, and override is not implemented"),
        ("ide-cd,drive=b", "ide-cd.drive=b", "-global ide-cd.drive=... conflicts with drive=b"),
        ("virtio-blk-pci,drive=b", "virtio-blk-pci.drive=a",
         "Cannot find device='' nor node-name='b'"),
    ],
)  # fmt: skip
def test_what_one_device_alone_can_have_is_not_set_twice(profile, device, given, text):
    options = ["-netdev user,id=u", "-netdev user,id=v", "-chardev null,id=c", "-chardev null,id=d"]
    backends = " ".join(options).split()
    drives = [word for id in "ab" for word in ("-drive", f"if=none,id={id},driver=null-co")]
    with pytest.raises(StartupError) as refused:
        Booted("-machine", "pc", "-S", *backends, *drives, "-device", device, "-global", given,
               profile=profile)  # fmt: skip
    assert refused.value.text == text


def test_a_global_gives_a_device_what_it_needs():
    drive = ["-drive", "if=none,id=n,driver=null-co", "-global", "virtio-blk-pci.drive=n"]
    machine = Booted("-machine", "pc", "-S", *drive, "-device", "virtio-blk-pci,id=d",
                     profile="10.0")  # fmt: skip
    assert "Attached to:      /machine/peripheral/d/" in machine.hmp("info block")
