"""Devices and tables that a board does not take, and addresses without a port."""

import os

import pytest

from fakeqemu.io.host_facts import HostFacts
from fakeqemu.model.null_host import NullHost
from fakeqemu.qapi.errors import QapiError, StartupError
from tests.support.machines import Booted

FOREIGN = "Parameter 'driver' expects a dynamic sysbus device type for the machine"


def refused(*argv, **how):
    with pytest.raises((StartupError, QapiError)) as caught:
        Booted(*argv, **how)
    return str(caught.value)


@pytest.mark.parametrize(
    ("machine", "device", "taken"),
    [
        ("q35", "intel-iommu", True),
        ("pc", "intel-iommu", False),
        ("pc", "ramfb", True),
        ("none", "ramfb", False),
        ("isapc", "ramfb", False),
        ("microvm", "ramfb", True),
        ("microvm", "vmbus-bridge", False),
    ],
)
def test_a_board_takes_some_devices_of_the_system_bus(machine, device, taken):
    argv = ("-machine", machine, "-device", device)
    if taken:
        Booted(*argv, profile="10.0")
    else:
        assert FOREIGN in refused(*argv, profile="10.0")


def test_tables_longer_than_the_entry_point_holds(tmp_path):
    """The lengths beside a real 7.2 and 10.0."""
    blob = tmp_path / "table"

    def line(size, *argv, machine="pc"):
        blob.write_bytes(bytes(size))
        return ("-machine", machine, *argv, "-smbios", f"file={blob}")

    def length(*how, profile="7.2", **options):
        return refused(*line(*how, **options), profile=profile)

    text = "SMBIOS 2.1 table length {} exceeds 65535"
    assert text.format(70321) in length(70000)
    more = ("-smp", "3", "-m", "5G")
    assert text.format(70342) in length(70000, *more, machine="q35")
    fields = ("-smbios", "type=1,serial=abc", "-smbios", "type=2")
    assert text.format(70394) in length(70000, *fields)
    Booted(*line(65214), profile="7.2")
    assert text.format(65536) in length(65215)
    assert text.format(70000) in length(70000, machine="isapc")
    Booted(*line(70000), profile="10.0")
    old = "pc,smbios-entry-point-type=32"
    assert text.format(70324) in length(70000, profile="10.0", machine=old)


class World(HostFacts, NullHost):
    """A host's files and descriptors, of which only some were passed."""

    def passed_fd(self, fd):
        return -1 if fd in range(3, 20) else fd


NO_DEVICE = "Inappropriate ioctl for device"
NO_RULES = "failed to parse default acl file `/etc/qemu/bridge.conf'"
NOT_OPEN = "t: Can't use file descriptor {}: Bad file descriptor"


@pytest.mark.parametrize(
    ("profile", "options", "text"),
    [
        ("10.0", "tap,fd=8", NOT_OPEN.format(8)),
        ("7.2", "tap,vhostfd=15", NOT_OPEN.format(15)),
        ("11.1", "tap,vhostfd=15",
         "Can't set file descriptor 15 non-blocking: Bad file descriptor: Bad file descriptor"),
        ("10.0", "tap,vhostfds=1:1", "vhostfds= is invalid if fds= wasn't specified"),
        ("10.0", "tap,helper=/nosuch", "bridge helper failed"),
        ("10.0", "tap,helper=/bin/sh", "fakeqemu does not model 'netdev tap,helper='"),
        ("10.0", "bridge,helper=/nosuch", "bridge helper failed"),
        ("10.0", "bridge,helper=/bin/sh", "fakeqemu does not model 'netdev bridge'"),
    ],
)  # fmt: skip
def test_descriptors_and_helpers_of_interfaces(profile, options, text):
    assert refused("-netdev", f"{options},id=t", profile=profile, host=World()) == text


def test_a_vhost_descriptor_of_something_else():
    argv = ("-netdev", f"tap,id=t,vhostfd={os.open(os.devnull, os.O_RDWR)}")
    with pytest.raises(StartupError) as caught:
        Booted(*argv, profile="10.0", host=type("Here", (HostFacts, NullHost), {})())
    said = [line.removeprefix(f"{' '.join(argv)}: ") for line in caught.value.lines]
    os.close(int(argv[1].rpartition("=")[2]))
    assert said == [
        f"vhost_set_owner failed: {NO_DEVICE}",
        "vhost-net requested but could not be initialized",
    ]


def test_the_helper_of_bridges_misses_its_rules():
    class Bare(NullHost):
        def path_error(self, path):
            return "No such file or directory"

    host = Bare()
    text = refused("-netdev", "bridge,id=t", profile="7.2", host=host)
    assert text == "bridge helper failed"
    assert host.warnings == [NO_RULES]


@pytest.mark.parametrize(
    ("profile", "machine", "text"),
    [
        ("7.2", "pc", ""),
        ("10.0", "pc", "This machine doesn't have an FDT"),
        ("11.1", "none", "This machine doesn't have an FDT"),
        ("10.0", "microvm", "This machine doesn't have an FDT"),
        ("11.1", "microvm", "fakeqemu does not model 'dumpdtb'"),
    ],
)
def test_the_device_tree_of_a_machine(profile, machine, text):
    argv = ("-machine", f"{machine},dumpdtb=x")
    if text:
        assert refused(*argv, profile=profile) == text
    else:
        Booted(*argv, profile=profile)


def test_the_driver_of_directories():
    text = refused("-drive", "file=fat:.,if=none", profile="10.0")
    assert text == "fakeqemu does not model 'block driver vvfat'"
