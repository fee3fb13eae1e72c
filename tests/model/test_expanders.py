"""PCI expanders: a root bus of its own for each, and what may be on it. As real ones have it."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.qapi.errors import StartupError
from fakeqemu.testing import FakeQemu, QmpError

PORT = "ioh3420,port=0,chassis=3,id=pci.2,bus=pci.1,addr=0x0"
Q35 = ("-machine", "q35", "-nodefaults")
PC = ("-machine", "pc", "-nodefaults")


def devices(*given: str) -> list[str]:
    return [argument for device in given for argument in ("-device", device)]


def places(buses: list[dict[str, Any]]) -> list[tuple[int, list[tuple[int, str]]]]:
    return [
        (bus["bus"], [(each["slot"], each["qdev_id"]) for each in bus["devices"]])
        for bus in buses
    ]


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
async def test_a_root_bus_of_pci_express(profile: str) -> None:
    argv = devices(
        "pxb-pcie,bus_nr=254,id=pci.1,bus=pcie.0,addr=0x1",
        PORT,
        "virtio-balloon-pci,id=b,bus=pci.2",
        "pxb-pcie,bus_nr=100,bus=pcie.0",
    )
    async with FakeQemu(*Q35, *argv, profile=profile) as vm:
        found = places(await vm.qmp("query-pci"))
        assert found[:2] == [(100, []), (254, [(0, "pci.2")])]
        assert found[2][0] == 0
        assert (1, "pci.1") in found[2][1]
        assert len(found) == 3
        tree = await vm.hmp("info qtree")
        assert 'dev: pxb-host, id ""\n' in tree
        assert "class PCI bridge, addr fe:00.0, pci id 8086:3420 (sub 0000:0000)\n" in tree
        system = await vm.qmp("qom-list", path="/machine/unattached/sysbus")
        assert [each["type"] for each in system].count("link<pxb-host>") == 2
        port = "/machine/peripheral/pci.2"
        if profile != "7.2":
            assert await vm.qmp("qom-get", path=port, property="busnr") == 254
        root = await vm.qmp("qom-get", path=port, property="parent_bus")
        assert root.startswith("/machine/unattached/device[")
        assert root.endswith("]/pci.1")
        with pytest.raises(QmpError, match=r"Bus 'pci\.1' does not support hotplugging"):
            await vm.qmp("device_add", driver="pcie-root-port", id="r", bus="pci.1")


@pytest.mark.parametrize("profile", ["7.2", "10.0", "11.1"])
async def test_a_root_bus_of_pci_has_a_bridge(profile: str) -> None:
    argv = devices("pxb,bus_nr=5,id=e", "virtio-balloon-pci,id=b,bus=e,addr=1")
    async with FakeQemu(*PC, *argv, profile=profile) as vm:
        assert places(await vm.qmp("query-pci"))[0] == (5, [(0, "e")])
        (bus,) = [
            await vm.qmp("qom-get", path="/machine/peripheral/b", property="parent_bus")
        ]
        bridge = bus.rsplit("/", 1)[0]
        assert await vm.qmp("qom-get", path=bridge, property="type") == "pci-bridge"
        assert await vm.qmp("qom-get", path=bridge, property="chassis_nr") == 5


@pytest.mark.parametrize(
    ("machine", "given", "said"),
    [
        (Q35, ["pcie-root-port", "pxb-pcie"], "Bus 0 is already in use"),
        (Q35, ["pxb-pcie,bus_nr=9,id=a", "pxb-pcie,bus_nr=9,bus=pcie.0"],
         "Bus 9 is already in use"),
        (Q35, ["pxb-pcie,bus_nr=9,id=a", "virtio-balloon-pci"],
         "PCI: Only PCI/PCIe bridges can be plugged into pxb-pcie"),
        (PC, ["pxb,bus_nr=9", "virtio-balloon-pci,bus=pxb-internal"],
         "PCI: Only PCI/PCIe bridges can be plugged into pxb"),
        (Q35, ["pxb-pcie,bus_nr=9,numa_node=3"], "Illegal numa node 3"),
        (Q35, ["pxb,bus_nr=9"], "pxb devices cannot reside on a PCIe bus"),
        (PC, ["pxb-pcie,bus_nr=9"], "pxb-pcie devices cannot reside on a PCI bus"),
        (PC, ["pci-bridge,id=b,chassis_nr=1", "pxb,bus_nr=9,bus=b"],
         "PXB devices can be attached only to root bus"),
    ],
)  # fmt: skip
async def test_what_is_refused(machine: tuple[str, ...], given: list[str], said: str) -> None:
    with pytest.raises(StartupError) as caught:
        async with FakeQemu(*machine, *devices(*given), profile="10.0"):
            pass
    assert caught.value.lines == (f"-device {given[-1]}: {said}",)


async def test_the_first_number_is_free_where_no_bridge_is() -> None:
    async with FakeQemu(*Q35, *devices("pxb-pcie"), profile="10.0") as vm:
        assert [bus["bus"] for bus in await vm.qmp("query-pci")] == [0, 0]




async def test_without_a_legacy_half_ids_are_those_of_virtio_1() -> None:
    argv = devices("virtio-balloon-pci,id=b,disable-legacy=on", "virtio-balloon-pci,id=l")
    async with FakeQemu(*Q35, *argv, profile="10.0") as vm:
        (bus,) = await vm.qmp("query-pci")
        found = {each["qdev_id"]: each for each in bus["devices"]}
        modern, legacy = found["b"], found["l"]
        assert (modern["id"]["device"], modern["id"]["subsystem"]) == (0x1045, 0x1100)
        assert (legacy["id"]["device"], legacy["id"]["subsystem"]) == (0x1002, 5)
        assert 0 not in [region["bar"] for region in modern["regions"]]
        assert 0 in [region["bar"] for region in legacy["regions"]]
