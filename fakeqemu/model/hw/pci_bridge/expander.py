"""PCI expanders (pxb, pxb-pcie): a device that brings along a host bridge with a root bus.

The host bridge sits on the system bus. That of a PCIe expander has the bus that ports are plugged
into; that of a PCI expander has a bus for one bridge, whose own bus has the device's name.

See hw/pci-bridge/pci_expander_bridge.c: pxb_dev_realize_common(), pxb_register_bus() and
pxb_bus_num(); hw/pci/pci.c: do_pci_register_device().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.bus import PCI_EXPANDER_HOST
from fakeqemu.model.qdev.device import DeviceObject, user_devices
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qdev.monitor import Devices
    from fakeqemu.model.qom.tree import Qom
    from fakeqemu.profile import Profile

#: QOM types of expanders that are modelled
TYPES = ("pxb", "pxb-pcie")
#: NUMA_NODE_UNASSIGNED
_NO_NODE = 128


def check(qom: Qom, profile: Profile, device: DeviceObject, nodes: int) -> None:
    """Whether an expander can be where it is; `nodes`: NUMA nodes there are. Raises QapiError."""
    bus = device.bus
    if bus is None:
        return
    is_pcie = device.type != "pxb"
    if is_pcie != (bus.type == "PCIE"):
        kind, other = (device.type, "PCI") if is_pcie else ("pxb", "PCIe")
        raise QapiError(f"{kind} devices cannot reside on a {other} bus")
    if "bus_nr" not in device.given:
        device.values["bus_nr"] = 0  # the recorded one was given a number
    node, number = device.values["numa_node"], device.values["bus_nr"]
    if node != _NO_NODE and node >= nodes:
        raise QapiError(f"Illegal numa node {node}")
    if profile.is_a(getattr(bus.object.parent, "type", ""), "base-pci-bridge"):
        raise QapiError("PXB devices can be attached only to root bus")
    # nobody has numbered the buses behind bridges
    bridges = [each for each in bus.devices if profile.is_a(each.type, "base-pci-bridge")]
    taken = {0} if bridges else set()
    others = (each for each in user_devices(qom) if each.type in TYPES and each is not device)
    if number in taken | {each.values["bus_nr"] for each in others}:
        raise QapiError(f"Bus {number} is already in use")


def check_child(profile: Profile, device: DeviceObject, bus: Bus) -> None:
    """Only bridges go onto such a root bus. Raises QapiError."""
    if is_root(bus) and not profile.is_a(device.type, "base-pci-bridge"):
        kind = bus.type.removesuffix("-bus")
        raise QapiError(f"PCI: Only PCI/PCIe bridges can be plugged into {kind}")


def is_root(bus: Bus) -> bool:
    """Whether a bus is the root bus of an expander."""
    return getattr(bus.object.parent, "type", "") == PCI_EXPANDER_HOST


def number_of(bus: Bus) -> int:
    """The number of the root bus of an expander."""
    parent = bus.object.parent
    assert isinstance(parent, DeviceObject)
    return parent.root_bus


def add_root_bus(devices: Devices, expander: DeviceObject, facts: dict[str, Any]) -> None:
    """Make what `expander` brings along; `facts` is what is recorded of its type."""
    number = int(expander.values["bus_nr"])
    host = devices.add_onboard(facts["host"], expander.id)
    host.id = None
    host.root_bus = number
    host.values["bypass-iommu"] = expander.values["bypass_iommu"]
    system = devices.buses.system()
    assert system is not None
    system.add(host)
    (root,) = system.buses.of(host)
    if "acpi_uid" in root.object.values:
        root.object.values["acpi_uid"] = number
    if "bridge" not in facts:
        return
    bridge = devices.add_onboard(facts["bridge"], expander.id)
    bridge.values["chassis_nr"] = number
    devices.realize(bridge, root)
