"""I/O ports with effects, as the human monitor's `i` and `o` reach them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakeqemu.testing import FakeQemu

BARE = ("-nodefaults", "-display", "none")


def seen(vm: FakeQemu) -> list[tuple[str, Any]]:
    return [(event.name, event.data) for event in vm.events]


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("o /b 0xcf9 6", ("RESET", {"guest": True, "reason": "guest-reset"})),
        ("o /b 0x92 1", ("RESET", {"guest": True, "reason": "guest-reset"})),
        ("o /b 0x64 0xfe", ("RESET", {"guest": True, "reason": "guest-reset"})),
        ("o /h 0x604 0x2000", ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})),
        ("o /h 0x604 0x2400", ("SUSPEND", None)),
        ("o /h 0x604 0x2800", ("SUSPEND_DISK", None)),
        ("o /b 0x505 1", ("GUEST_PANICKED", {"action": "pause"})),
        ("o /b 0x505 2", ("GUEST_CRASHLOADED", {"action": "run"})),
    ],
)
async def test_what_a_write_brings_about(machine: str, line: str, event: Any) -> None:
    options = ("-machine", machine, *BARE, "-device", "pvpanic", "-no-shutdown")
    async with FakeQemu(*options, profile="10.0", clock="virtual") as vm:
        assert await vm.hmp(line) == ""
        assert event in seen(vm)


@pytest.mark.parametrize("machine", ["pc", "q35"])
async def test_before_firmware_has_run_power_management_is_not_there(machine: str) -> None:
    async with FakeQemu("-machine", machine, *BARE, "-S", profile="10.0") as vm:
        assert await vm.hmp("i /b 0x604") == "portb[0x0604] = 0xff\n"
        await vm.hmp("o /h 0x604 0x2000")
        assert seen(vm) == []
        await vm.qmp("cont")
        assert await vm.hmp("i /h 0x604") == "portw[0x0604] = 0x0000\n"


@pytest.mark.parametrize(("profile", "code"), [("7.2", 7), ("11.1", 7)])
async def test_debug_exit(profile: str, code: int) -> None:
    options = ("-machine", "q35", *BARE, "-device", "isa-debug-exit,iobase=0xf4,iosize=4")
    async with FakeQemu(*options, profile=profile) as vm:
        await vm.hmp("o /w 0xf4 3")
        assert await vm.wait_exit() == code
        told = ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
        assert (told in seen(vm)) is (profile != "7.2")


async def test_formats_and_a_register_behind_a_port() -> None:
    async with FakeQemu("-machine", "pc", *BARE, "-m", "128", profile="10.0") as vm:
        lines = {
            "i /b 0x1234": "portb[0x1234] = 0xff\n",
            "i /h 0x1234": "portw[0x1234] = 0xffff\n",
            "i 0x1234": "portw[0x1234] = 0xffff\n",
            "i /w 0x1234": "portl[0x1234] = 0xffffffff\n",
            "i /g 0x1234": "portb[0x1234] = 0x00000000000000ff\n",
            # base memory in KiB: 640
            "i /b 0x70.0x15": "portb[0x0071] = 0x80\n",
            "i /b 0x70.0x16": "portb[0x0071] = 0x02\n",
        }
        for line, text in lines.items():
            assert await vm.hmp(line) == text
        missed = vm.journal.of("unclaimed-port", "0x1234")
        assert missed
        assert missed[0].data == {"access": "read"}


async def test_pci_devices_are_where_query_pci_has_them() -> None:
    options = ("-machine", "q35", *BARE, "-device", "virtio-net-pci,addr=5", "-device", "e1000")
    async with FakeQemu(*options, profile="11.1", clock="virtual") as vm:
        (bus,) = await vm.qmp("query-pci")
        assert {5, 31} < {device["slot"] for device in bus["devices"]}, "added ones, built-in ones"
        for device in bus["devices"]:
            number = device["slot"] << 3 | device["function"]
            await vm.hmp(f"o /w 0xcf8 {0x80000000 | number << 8:#x}")
            id = device["id"]
            wanted = id["device"] << 16 | id["vendor"]
            assert await vm.hmp("i /w 0xcfc") == f"portl[0x0cfc] = {wanted:#010x}\n"
            await vm.hmp(f"o /w 0xcf8 {0x80000000 | number << 8 | 8:#x}")
            found = (await vm.hmp("i /h 0xcfe")).split(" = ")[1]
            assert int(found, 16) == device["class_info"]["class"]


async def test_a_serial_port_prints_and_reads() -> None:
    options = ("-machine", "pc", *BARE, "-chardev", "ringbuf,id=s")
    device = ("-device", "isa-serial,chardev=s,iobase=0x3f8,irq=4")
    async with FakeQemu(*options, *device, profile="10.0") as vm:
        assert await vm.hmp("i /b 0x3fd") == "portb[0x03fd] = 0x60\n"
        for letter in b"ok":
            await vm.hmp(f"o /b 0x3f8 {letter}")
        assert await vm.qmp("ringbuf-read", device="s", size=10) == "ok"


async def test_devices_that_come_and_go_take_their_ports_along() -> None:
    async with FakeQemu("-machine", "none", *BARE, profile="10.0") as vm:
        assert await vm.hmp("i /b 0xcf9") == "portb[0x0cf9] = 0xff\n"
        await vm.hmp("o /b 0xcf9 6")
        assert seen(vm) == [("RESUME", None)]


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize("machine", ["pc", "q35"])
async def test_serial_ports_that_were_asked_for(
    profile: str, machine: str, tmp_path: Path
) -> None:
    first, third = tmp_path / "first", tmp_path / "third"
    options = ("-machine", machine, *BARE, "-serial", f"file:{first}", "-serial", "none")
    async with FakeQemu(*options, "-serial", f"file:{third}", profile=profile) as vm:
        for port, letter in ((0x3F8, "A"), (0x2F8, "B"), (0x3E8, "C")):
            await vm.hmp(f"o /b {port:#x} {ord(letter)}")
        assert await vm.hmp("i /b 0x3fd") == "portb[0x03fd] = 0x60\n"
        assert await vm.hmp("i /b 0x2fd") == "portb[0x02fd] = 0xff\n"
        assert (first.read_text(), third.read_text()) == ("A", "C")
        below = await vm.qmp("qom-list", {"path": "/machine/unattached"})
        numbers = {
            each["type"]: int(each["name"][7:-1])
            for each in below
            if each["type"] in ("child<isa-serial>", "child<i8042>")
        }
        path = f"/machine/unattached/device[{numbers['child<isa-serial>']}]"
        assert await vm.qmp("qom-get", {"path": path, "property": "type"}) == "isa-serial"
        # boards make their ports before the keyboard controller
        assert numbers["child<isa-serial>"] < numbers["child<i8042>"]
        names = [each["name"] for each in below if each["name"].startswith("device[")]
        assert sorted(names) == sorted(f"device[{n}]" for n in range(len(names)))


async def test_a_board_without_serial_ports_has_none() -> None:
    async with FakeQemu("-machine", "q35", *BARE, profile="10.0") as vm:
        assert await vm.hmp("i /b 0x3fd") == "portb[0x03fd] = 0xff\n"
        below = await vm.qmp("qom-list", {"path": "/machine/unattached"})
        assert "child<isa-serial>" not in [each["type"] for each in below]
