"""-nic and -net: backends with the NICs that belong to them, and the default network.

Backends and what is known of the NICs come with the other net backends; the board makes the
NICs. See net/net.c: net_init_clients(), net_param_nic(), net_init_nic().
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fakeqemu.boot.checks.backends import net_arguments, nic_arguments, parse_mac
from fakeqemu.boot.state import error_location
from fakeqemu.configuration import OptionString
from fakeqemu.model.net.check import NicConfig
from fakeqemu.model.qdev.bus import Bus
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qdev.properties import owner
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.net.client import NetClient

_MAX_NICS = 8
#: short names that boards know besides QOM types (hw/pci/pci.c: pci_init_nic_devices())
_ALIASES = {"virtio": "virtio-net-pci"}
_ISA_NIC = "ne2k_isa"
_DEVICE = re.compile(r"device\[(\d+)\]")
_HELP = ("help", "?")


def create_nic_backends(boot: BootState) -> None:
    """The backend halves of -nic and -net, or of the default network. Raises StartupError."""
    configuration = boot.configuration
    for entry in configuration.nics:
        with error_location(entry.location):
            _create_nic(boot, entry)
    for entry in configuration.nets:
        with error_location(entry.location):
            _create_net(boot, entry)
    if configuration.defaults.net:
        for kind in ("nic", "user"):
            _create_net(boot, OptionString("net", kind, "", {"type": kind}, (("type", kind),)))


def _create_nic(boot: BootState, entry: OptionString) -> None:
    arguments = nic_arguments(entry, boot.profile)
    if arguments is None:
        return
    net = boot.vm.net
    model = entry.values.get("model")
    _refuse_help(model)
    if len(net.nic_configs) >= _MAX_NICS:
        raise QapiError("no more on-board/default NIC slots available")
    mac = _mac(entry.values.get("mac"), "NIC cannot have multicast MAC address")
    arguments["id"] = entry.id or net.generate_id()
    mac = net.macs.take(mac)
    client = net.add(arguments, generated=entry.id is None)
    net.nic_configs.append(NicConfig(None, model, mac, client.name))


def _create_net(boot: BootState, entry: OptionString) -> None:
    arguments = net_arguments(entry, boot.profile)
    net, kind = boot.vm.net, arguments["type"]
    if kind == "none":
        return
    if kind == "hubport":
        raise QapiError(
            "network backend 'hubport' is only supported with -netdev/-nic"
        )
    arguments["id"] = entry.id or net.generate_id()
    if kind == "nic":
        _configure_nic(boot, arguments)
        return
    port = net.add_hub_port(0)
    net.clients.append(port)
    port.is_netdev = False
    net.add(arguments, peer=port)


def _configure_nic(boot: BootState, arguments: dict[str, Any]) -> None:
    """See net/net.c: net_init_nic()."""
    net, netdev = boot.vm.net, arguments.get("netdev")
    model = arguments.get("model")
    _refuse_help(model)
    if netdev is None:
        port: NetClient = net.add_hub_port(0)
        port.is_netdev = False
        net.clients.append(port)
        netdev = port.name
    if len(net.nic_configs) >= _MAX_NICS:
        raise QapiError("too many NICs")
    if netdev not in net.backends:
        raise QapiError(f"netdev '{netdev}' not found")
    mac = _mac(
        arguments.get("macaddr"), "NIC cannot have multicast MAC address (odd 1st byte)"
    )
    vectors = arguments.get("vectors")
    if vectors is not None and vectors > 0x7FFFFFF:
        raise QapiError(f"invalid # of vectors: {vectors}")
    config = NicConfig(arguments["id"], model, net.macs.take(mac), netdev)
    config.address, config.vectors = arguments.get("addr"), vectors
    net.nic_configs.append(config)


def _refuse_help(model: str | None) -> None:
    if model in _HELP:
        raise NotModelledError("model=help")


def _mac(text: str | None, multicast: str) -> str:
    """An address in its usual form; "" for none. Raises QapiError for a group's."""
    mac = parse_mac(text) if text is not None else None
    if mac is None:
        return ""
    if int(mac[:2], 16) & 1:
        raise QapiError(multicast)
    return mac


# -- the board's half --------------------------------------------------------------------------


def create_board_nics(boot: BootState) -> None:
    """Make the NICs that are asked for, as far as the board can. Raises StartupError."""
    vm = boot.vm
    recorded = _recorded_nics(vm, vm.qom.container("/machine/unattached").children.values())
    default = recorded[0].type if recorded else _default_model(boot)
    for config in vm.net.nic_configs:
        type = _ALIASES.get(config.model or "", config.model) or default
        bus = None if type is None or default is None else _bus_for(boot, type)
        if bus is None or type is None:
            continue
        found = next((device for device in recorded if device.type == type), None)
        if found is not None:
            recorded.remove(found)
            # what was recorded before it may be gone, and its slot with it
            bus.drop(found)
        else:
            found = _new_device(vm, type)
        try:
            _plug(vm, found, bus, config)
        except QapiError as exc:
            raise StartupError(exc.desc, hint=exc.hint) from exc
        config.made = True
    for device in recorded:
        for bus in vm.buses.all():
            bus.drop(device)
        device.remove()


def _recorded_nics(vm: Machine, objects: Any) -> list[DeviceObject]:
    return [
        each for each in objects
        if isinstance(each, DeviceObject)
        and owner(vm.profile, each, "netdev").has("netdev")
    ]  # fmt: skip


def _default_model(boot: BootState) -> str | None:
    """The type of NIC that the board has by default; None for a board without."""
    if not boot.vm.net.nic_configs or boot.vm.state.type is None:
        return None
    tree = boot.profile.object_tree(boot.vm.state.type.name, defaults=True)
    for node in tree.at("machine").at("unattached").children.values():
        if any(name == "netdev" for name, _ in node.properties):
            return node.type
    return None


def _bus_for(boot: BootState, type: str) -> Bus | None:
    """Where a NIC of that type goes; None if the board has no such bus. Raises StartupError."""
    vm = boot.vm
    kind = "ISA" if type == _ISA_NIC else "PCI"
    known = type in vm.profile.qom_types and vm.profile.is_a(
        type, "isa-device" if type == _ISA_NIC else "pci-device"
    )
    if not known and vm.profile.traits.unknown_nic_model_refused:
        raise StartupError(f"Unsupported NIC model: {type}")
    return vm.buses.find_by_kind(kind) if known else None


def _new_device(vm: Machine, type: str) -> DeviceObject:
    """A NIC among the board's devices; it gets the next number."""
    device = vm.devices.bare(type)
    container = vm.qom.container("/machine/unattached")
    numbers = [int(m[1]) for name in container.children if (m := _DEVICE.fullmatch(name))]
    container.add_child(f"device[{max(numbers, default=-1) + 1}]", device)
    vm.devices.properties.apply_defaults(device)
    return device


def _plug(vm: Machine, device: DeviceObject, bus: Bus, config: NicConfig) -> None:
    """Put a NIC on its bus. Raises QapiError."""
    if config.address is not None:
        vm.devices.properties.set(device, "addr", config.address, typed=False)
    if config.vectors is not None and device.has("vectors"):
        vm.devices.properties.set(device, "vectors", str(config.vectors), typed=False)
    _configure(vm, device, config)
    vm.devices.realize(device, bus)


def _configure(vm: Machine, device: DeviceObject, config: NicConfig) -> None:
    """See hw/core/qdev-properties-system.c: qdev_set_nic_properties()."""
    holder = owner(vm.profile, device, "netdev")
    for obj in (device, holder):
        obj.values["netdev"] = config.netdev
        obj.values["mac"] = config.mac
    device.given.add("mac")
