"""Which of two faults on one command line is reported: the one that QEMU meets first."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakeqemu.boot.cmdline.options import parse_command_line
from fakeqemu.profile import Profile
from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu

FAULTS = {
    "acpitable": (("-acpitable", "file=/nosuch"), "acpitable"),
    "audiodev": (("-audiodev", "none,id=a,foo=1"), "Parameter 'foo' is unexpected"),
    "bios": (("-bios", "nosuch"), "could not load PC BIOS"),
    "cpu": (("-cpu", "qemu64,+nosuch"), "Property 'qemu64-x86_64-cpu.nosuch' not found"),
    "device": (("-device", "nosuch"), "is not a valid device model name"),
    "display": (("-display", "nosuch"), "-display nosuch"),
    "drive": (("-drive", "if=sd"), "machine type does not support if=sd"),
    "fw_cfg": (("-fw_cfg", "name=opt/a,file=/nosuch"), "can't load /nosuch"),
    "gdb": (("-gdb", "unix:/nowhere/g,server=on,wait=off"), "/nowhere/g"),
    "icount": (("-icount", "shift=3,rr=replay,rrfile=/nosuch"), "Replay: open /nosuch"),
    "machine": (("-machine", "nosuch"), "unsupported machine type"),
    "mem-path": (("-mem-path", "/nosuch/x"), "can't open backing store /nosuch/x"),
    "numa": (("-numa", "node,memdev=nosuch"), "memdev=nosuch is ambiguous"),
    "object": (("-object", "rng-random,id=r,filename=/nosuch"), "Could not open '/nosuch'"),
    "pidfile": (("-pidfile", "/nowhere/p"), "cannot create PID file"),
    "plugin": (("-plugin", "file=/nosuch.so"), "Could not load plugin"),
    "qtest": (("-qtest", "unix:/nowhere/q"), "Failed to initialize device for qtest"),
    "rtc": (("-rtc", "base=nosuch"), "invalid datetime format"),
    "smbios": (("-smbios", "file=/nosuch"), "Cannot read SMBIOS file"),
    "trace": (("-trace", "file=/nowhere/t"), "Error opening logfile /nowhere/t"),
}


# seen with real ones of 7.2, 10.0 and 11.1
@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("machine", "qtest"),
        ("drive", "device"),
        ("drive", "fw_cfg"),
        ("fw_cfg", "device"),
        ("device", "gdb"),
        ("plugin", "drive"),
        ("numa", "plugin"),
        ("plugin", "mem-path"),
        ("mem-path", "bios"),
        ("qtest", "plugin"),
        ("cpu", "bios"),
        ("bios", "drive"),
        ("acpitable", "machine"),
        ("smbios", "rtc"),
        ("audiodev", "pidfile"),
        ("pidfile", "trace"),
        ("trace", "icount"),
        ("icount", "rtc"),
        ("rtc", "machine"),
        ("machine", "object"),
        ("object", "qtest"),
    ],
)
async def test_the_first_of_two_is_reported(profile: str, first: str, second: str) -> None:
    said = await refusal(*FAULTS[second][0], *FAULTS[first][0], profile=profile)
    assert FAULTS[first][1] in said
    # each alone is one
    for name in (first, second):
        assert FAULTS[name][1] in await refusal(*FAULTS[name][0], profile=profile)


# both are judged while options are read, from left to right
@pytest.mark.parametrize(
    ("first", "second"),
    [("acpitable", "display"), ("display", "acpitable"), ("smbios", "audiodev")],
)
def test_files_of_tables_are_read_with_the_options(first: str, second: str) -> None:
    argv = [*FAULTS[first][0], *FAULTS[second][0]]
    with pytest.raises(StartupError) as caught:
        parse_command_line(argv, Profile.load("10.0"))
    assert FAULTS[first][1] in caught.value.message


def test_warnings_stand_before_a_log_file_that_cannot_be_made() -> None:
    with pytest.raises(StartupError) as caught:
        parse_command_line(["-D", "/nowhere/log", "-mon", "chardev=c"], Profile.load("11.1"))
    assert [line.startswith("-mon chardev=c: warning") for line in caught.value.earlier] == [True]


async def refusal(*argv: str, profile: str) -> str:
    machine = FakeQemu("-machine", "pc", "-nodefaults", *argv, profile=profile)
    with pytest.raises(StartupError) as caught:
        async with machine:
            pass
    return caught.value.message


@pytest.mark.parametrize(
    ("profile", "given", "said"),
    [
        ("7.2", "e1000.mac=x", None),
        ("10.0", "e1000.mac=x", "can't apply global e1000.mac=x"),
        ("10.0", "virtio-net-device.mac=x", "can't apply global virtio-net-device.mac=x"),
        ("10.0", "ne2k_isa.mac=x", None),
        ("10.0", "usb-net.mac=x", None),
    ],
)
async def test_a_global_for_a_nic_that_nobody_asked_for(
    profile: str, given: str, said: str | None
) -> None:
    machine = FakeQemu("-machine", "pc", "-nodefaults", "-global", given, profile=profile)
    if said is None:
        async with machine:
            assert machine.stderr.getvalue() == ""
        return
    with pytest.raises(StartupError, match=said):
        async with machine:
            pass


async def test_the_server_of_spice_is_not_modelled() -> None:
    said = await refusal("-spice", "port=0", profile="7.2")
    assert said == "fakeqemu does not model '-spice'"
    assert "expects a number" in await refusal("-spice", "port=x", profile="7.2")


async def test_a_trace_file_is_made(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    async with FakeQemu("-machine", "none", "-trace", f"file={file}"):
        assert file.read_bytes() == b""


# as real ones say it
@pytest.mark.parametrize(
    ("profile", "cpu", "said"),
    [
        ("7.2", "qemu64,family=271",
         "family=271: Property .family doesn't take value 271 (minimum: 0, maximum: 270)"),
        ("10.0", "qemu64,+foo,model=256", "model=256: parameter 'model' can be at most 255"),
        ("10.0", "qemu64,stepping=-1", "stepping=-1: parameter 'stepping' can be at most 15"),
        ("7.2", "qemu64,model=x", "model=x: Parameter 'model' expects int64"),
        ("10.0", "qemu64,model=x", "model=x: Parameter 'model' expects uint64"),
        ("7.2", "qemu64,vendor=x", "vendor=x: Property '.vendor' doesn't take value 'x'"),
        ("11.1", "qemu64,vendor=x",
         "vendor=x: value of property 'vendor' must consist of exactly 12 characters"),
        ("10.0", "host,foo=on", "foo=on: Property 'host-x86_64-cpu.foo' not found"),
        ("10.0", "host,+foo", "CPU model 'host' requires KVM or HVF"),
    ],
)  # fmt: skip
async def test_what_a_cpu_cannot_be(profile: str, cpu: str, said: str) -> None:
    assert (await refusal("-cpu", cpu, profile=profile)).endswith(said)


async def test_the_largest_version_of_a_cpu_is_one() -> None:
    cpu = "qemu64,family=270,model=255,stepping=15,vendor=AuthenticAMD"
    async with FakeQemu("-machine", "pc", "-cpu", cpu) as machine:
        assert (await machine.qmp("query-cpus-fast"))[0]["cpu-index"] == 0


async def test_why_the_address_of_incoming_is_refused() -> None:
    said = await refusal("-incoming", "unix:" + "y" * 120, profile="10.0")
    assert said.endswith("is too long\nPath must be less than 108 bytes")
