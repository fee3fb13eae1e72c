"""-vga: the board has the adapter that was asked for, and what it makes later moves."""

from __future__ import annotations

import pytest

from fakeqemu.testing import FakeQemu

_SHOWN = ("VGA", "Ethernet")
UNUSED = "warning: A -vga option was passed but this machine type does not use that option"


async def slots(machine: FakeQemu) -> dict[int, str]:
    """The slots of adapters and NICs on the root bus."""
    (bus, *_) = await machine.qmp("query-pci")
    places = [(each["slot"], each["function"]) for each in bus["devices"]]
    assert len(set(places)) == len(places)
    described = {each["slot"]: each["class_info"]["desc"] for each in bus["devices"]}
    return {slot: desc for slot, desc in described.items() if desc.split()[0] in _SHOWN}


async def numbers(machine: FakeQemu) -> dict[str, list[int]]:
    """Type -> its numbers among the board's devices."""
    found: dict[str, list[int]] = {}
    for each in await machine.qmp("qom-list", path="/machine/unattached"):
        assert not each["name"].startswith("display")
        if each["name"].startswith("device["):
            type = each["type"].removeprefix("child<").removesuffix(">")
            found.setdefault(type, []).append(int(each["name"][7:-1]))
    return found


@pytest.mark.parametrize(
    ("argv", "adapter", "number", "nic"),
    [
        # as a 7.2 numbers them
        (("-machine", "pc"), "VGA", 8, 21),
        (("-machine", "pc", "-vga", "std"), "VGA", 8, 21),
        (("-machine", "pc", "-vga", "cirrus"), "cirrus-vga", 8, 21),
        (("-machine", "pc", "-vga", "none"), None, None, 20),
        (("-machine", "pc", "-device", "cirrus-vga,addr=7"), None, None, 20),
        (("-machine", "pc", "-vga", "virtio", "-smp", "3"), "virtio-vga", 10, 23),
        (("-machine", "pc", "-nodefaults", "-vga", "std"), "VGA", 8, None),
        (("-machine", "pc", "-nodefaults"), None, None, None),
        (("-machine", "q35", "-nodefaults", "-vga", "cirrus"), "cirrus-vga", 25, None),
        (("-machine", "isapc", "-vga", "std"), "isa-vga", 6, 18),
        (("-machine", "isapc", "-nodefaults", "-vga", "cirrus"), "isa-cirrus-vga", 6, None),
    ],
)
async def test_the_board_makes_the_adapter_in_its_place(
    argv: tuple[str, ...], adapter: str | None, number: int | None, nic: int | None
) -> None:
    async with FakeQemu(*argv, profile="7.2") as machine:
        found = await numbers(machine)
        adapters = {type: at for type, at in found.items() if type.lower().endswith("vga")}
        assert adapters == ({} if adapter is None else {adapter: [number]})
        nics = [at for type in ("e1000", "e1000e", "ne2k_isa") for at in found.get(type, ())]
        assert nics == ([] if nic is None else [nic])
        # no number is left out
        every = sorted(at for each in found.values() for at in each)
        assert every == list(range(len(every)))


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (("-machine", "pc"), {2: "VGA controller", 3: "Ethernet controller"}),
        (("-machine", "pc", "-vga", "none"), {2: "Ethernet controller"}),
        (("-machine", "pc", "-nodefaults", "-vga", "vmware"), {2: "VGA controller"}),
        (("-machine", "q35", "-device", "VGA"), {1: "Ethernet controller", 2: "VGA controller"}),
    ],
)
async def test_the_bus_shows_it_once_and_the_nic_after_it(
    argv: tuple[str, ...], wanted: dict[int, str]
) -> None:
    async with FakeQemu(*argv, profile="10.0") as machine:
        assert await slots(machine) == wanted


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("-machine", "none", "-vga", "std"), UNUSED),
        (("-machine", "microvm", "-vga", "cirrus"), UNUSED),
        (("-machine", "isapc", "-vga", "virtio"), "isa_vga_init: virtio-vga: no PCI bus"),
        (("-machine", "isapc", "-vga", "vmware"), "isa_vga_init: vmware_vga: no PCI bus"),
        (("-machine", "none", "-vga", "none"), ""),
        (("-machine", "pc", "-vga", "std"), ""),
    ],
)
async def test_a_board_without_a_use_for_it_says_so(argv: tuple[str, ...], said: str) -> None:
    async with FakeQemu(*argv, "-display", "none", profile="10.0") as machine:
        text = machine.stderr.getvalue()
        assert said in text
        assert bool(said) == ("vga" in text)
