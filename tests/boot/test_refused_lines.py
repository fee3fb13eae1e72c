"""Devices and tables that a board does not take, and addresses without a port."""

import pytest

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
