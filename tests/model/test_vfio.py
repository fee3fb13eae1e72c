"""Passed-through devices: refused by what the host has of them, in each version's words."""

import os

import pytest

from fakeqemu.io.host_facts import HostFacts
from fakeqemu.model.null_host import NullHost
from fakeqemu.qapi.errors import QapiError
from tests.support.machines import Booted

IOMMU = ("-object", "iommufd,id=i,fd=0")
ADDRESS = "Property 'vfio-pci.host' doesn't take value '{}'"


class LookingHost(HostFacts, NullHost):
    """This host's files, and nothing else of it."""

    def read_file(self, path: str) -> bytes:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read()


def refused(profile, *options, machine=(), **properties):
    vm = Booted("-machine", "pc", *machine, *options, profile=profile, host=LookingHost())
    with pytest.raises(QapiError) as caught:
        vm.ask("device_add", driver="vfio-pci", **properties)
    return caught.value.desc


@pytest.fixture
def folder(tmp_path):
    """A device as sysfs shows one, in group 1000007, which no host has."""
    made = tmp_path / "0000:00:1f.7"
    (made / "vfio-dev" / "vfio1000007").mkdir(parents=True)
    (made / "iommu_group").symlink_to("../../kernel/iommu_groups/1000007")
    return made


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("7.2", "failed to open /dev/vfio/1000007: No such file or directory"),
        ("10.0", "Could not open '/dev/vfio/1000007': No such file or directory"),
        ("11.1", "Could not open '/dev/vfio/1000007': No such file or directory"),
    ],
)
def test_a_group_without_a_driver(profile, text, folder):
    assert refused(profile, sysfsdev=str(folder)) == f"vfio 0000:00:1f.7: {text}"


def test_a_device_without_a_group(folder):
    (folder / "iommu_group").unlink()
    said = refused("11.1", sysfsdev=f"{folder}/")
    assert said == "vfio 0000:00:1f.7: no iommu_group found: No such file or directory"
    (folder / "iommu_group").symlink_to("x7")
    said = refused("11.1", sysfsdev=str(folder))
    assert said == "vfio 0000:00:1f.7: failed to read x7: No such file or directory"


def test_a_device_that_the_host_has_not():
    assert refused("10.0") == "No provided host device"
    said = "vfio {}: no such host device: No such file or directory"
    assert refused("10.0", sysfsdev="") == said.format("")
    place = "/sys/bus/pci/devices/fffe:fd:1f.7"
    assert refused("7.2", host="fffe:0xfd:1f.7") == said.format(place)


BAD_ADDRESSES = ["", "x", "1:2", "0:0:20.0", "10000:0:0.0", "0:0:0.8", "0:0.0x"]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_what_is_no_address(address):
    assert refused("10.0", host=address) == ADDRESS.format(address)


@pytest.mark.parametrize(
    ("profile", "hint"),
    [("10.0", ""), ("11.1", " (is your kernel config missing CONFIG_VFIO_DEVICE_CDEV?)")],
)
def test_with_iommufd_the_device_has_a_file_of_its_own(profile, hint, folder):
    def said():
        text = refused(profile, machine=IOMMU, iommufd="i", sysfsdev=str(folder))
        start = f"vfio 0000:00:1f.7: vfio {folder}/vfio-dev: "
        assert text.startswith(start)
        return text.removeprefix(start)

    device = folder / "vfio-dev" / "vfio1000007"
    assert said() == f'failed to load "{device}/dev"{hint}'
    (device / "dev").write_text("x")
    assert said() == f'failed to get major:minor for "{device}/dev"'
    (device / "dev").write_text("1:2\n")
    assert said() == "Failed to open /dev/vfio/devices/vfio1000007"
    device.rename(folder / "vfio-dev" / "other")
    assert said() == "failed to find vfio-dev/vfioX/dev"


@pytest.mark.parametrize(("profile", "kind"), [("10.0", "remote object"), ("11.1", "object")])
def test_by_descriptor(profile, kind):
    assert refused(profile, fd="1") == "Use FD passing only with iommufd backend"
    assert refused(profile, machine=IOMMU, iommufd="i", fd="-1") == (
        f"Could not parse {kind} fd -1:Invalid file descriptor number '-1'"
    )
    with open(os.devnull) as file:  # noqa: PTH123
        fd = file.fileno()
        said = refused(profile, machine=IOMMU, iommufd="i", fd=str(fd))
    start = f"vfio VFIO_FD{fd}: error bind device fd={fd} to iommufd=0: "
    assert said == start + "Inappropriate ioctl for device"
    said = refused(profile, machine=IOMMU, iommufd="i", fd=str(fd))
    assert said == start + "Bad file descriptor"


@pytest.mark.parametrize(("profile", "first"), [("7.2", False), ("10.0", True)])
def test_ballooning_is_for_mediated_devices(profile, first, folder):
    said = refused(profile, sysfsdev=str(folder), **{"x-balloon-allowed": True})
    assert ("x-balloon-allowed only potentially compatible with mdev devices" in said) is first


def test_a_device_that_could_be_had_is_not_modelled(folder):
    class Host(LookingHost):
        def file_error(self, path):
            return None if path == "/dev/vfio/1000007" else super().file_error(path)

    vm = Booted("-machine", "pc", host=Host())
    with pytest.raises(QapiError, match="fakeqemu does not model 'device vfio-pci'"):
        vm.ask("device_add", driver="vfio-pci", sysfsdev=str(folder))
