"""-nic and -net: backends with the NICs that belong to them, and the default network.

Backends and what is known of the NICs come with the other net backends; the board makes the
NICs. See net/net.c: net_init_clients(), net_param_nic(), net_init_nic().
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.boot.board.onboard import new_onboard
from fakeqemu.boot.checks.backends import net_arguments, nic_arguments, parse_mac
from fakeqemu.boot.state import error_location
from fakeqemu.configuration import OptionString
from fakeqemu.model.net.check import NicConfig
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qdev.properties import owner
from fakeqemu.model.qdev.realize_checks import check_unset
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError

if TYPE_CHECKING:
    from fakeqemu.boot.board.numbering import Numbering
    from fakeqemu.boot.state import BootState
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.net.client import NetClient
    from fakeqemu.profile import Profile, TreeObject

_MAX_NICS = 8
#: short names that boards know besides QOM types (hw/pci/pci.c: pci_init_nic_devices();
#: hw/ppc/spapr.c: spapr_machine_init())
_ALIASES = {"virtio": "virtio-net-pci", "ibmveth": "spapr-vlan"}
_ISA_NIC = "ne2k_isa"
#: devices on the bus of virtual devices of pseries machines: all, NICs, what is made after those
_VIRTUAL, _USUAL_VIRTUAL, _AFTER_VIRTUAL = "vio-spapr-device", "spapr-vlan", "spapr-vscsi"
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
    config = NicConfig(None, model, mac, client.name)
    # it is zeroed, which asks for no MSI-X: net/net.c: net_param_nic()
    config.vectors = 0
    net.nic_configs.append(config)


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


def add_nics(vm: Machine, numbering: Numbering) -> None:
    """Have the NICs made that are asked for, as far as the board can. Raises StartupError.

    See hw/i386/pc.c: pc_nic_init().
    """
    recorded = numbering.find(_is_nic)
    usual = next((obj.type for obj in numbering.usual.values() if _is_nic(obj)), None)
    place = numbering.place_of(_is_nic)
    wanted = [] if place is None or usual is None else [
        (_ALIASES.get(config.model or "", config.model) or usual, config)
        for config in vm.net.nic_configs
    ]
    if vm.profile.traits.isa_nics_first:
        wanted.sort(key=lambda each: each[0] != _ISA_NIC)
    for type, config in wanted:
        is_usual = bool(recorded) and numbering.recorded[recorded[0]].type == type
        if not is_usual and not _fits(vm, type, numbering):
            continue
        config.made = True
        if is_usual:
            place = recorded.pop(0)
            numbering.keep(place, partial(_replug, vm, config))
        else:
            assert place is not None
            numbering.add(place, partial(_create, vm, type, config))
    for number in recorded:
        numbering.leave_out(number)


def apply_globals_to_nics(vm: Machine) -> None:
    """-global for NIC models that are not used: a board with PCI creates one of each model once.

    Raises StartupError. See net/net.c: qemu_get_nic_models().
    """
    given = [each.driver for each in vm.configuration.globals]
    if not given or not vm.profile.traits.nic_models_made or vm.buses.find_by_kind("PCI") is None:
        return
    for type in sorted(_network_devices(vm.profile)):
        if vm.profile.is_a(type, "pci-device"):
            for obj in vm.devices.bare(type).walk():
                if isinstance(obj, DeviceObject):
                    vm.devices.properties.apply_globals(obj)


def _network_devices(profile: Profile) -> list[str]:
    """The types of that category; see system/qdev-monitor.c: qdev_print_devinfos()."""
    _, _, rest = profile.help("-device help").partition("Network devices:\n")
    return re.findall(r'^name "([^"]+)"', rest.partition("\n\n")[0], re.MULTILINE)


def _is_nic(obj: TreeObject) -> bool:
    return "netdev" in obj.shapes


def _fits(vm: Machine, type: str, numbering: Numbering) -> bool:
    """Whether the board has a bus for a NIC of that type. Raises StartupError."""
    bus = "isa-device" if type == _ISA_NIC else "pci-device"
    known = type in vm.profile.qom_types and vm.profile.is_a(type, bus)
    if numbering.find(lambda obj: vm.profile.is_a(obj.type, _VIRTUAL)) and type == _USUAL_VIRTUAL:
        if numbering.find(lambda obj: obj.type == _AFTER_VIRTUAL):
            # they would have other addresses
            raise NotModelledError(f"several NICs before a {_AFTER_VIRTUAL}")
        return True
    if not known and vm.profile.traits.unknown_nic_model_refused:
        raise StartupError(f"Unsupported NIC model: {type}")
    return known and (
        any(_has(vm.profile, obj, bus) for obj in numbering.recorded.values())
    )


def _has(profile: Profile, obj: TreeObject, type: str) -> bool:
    """Whether it is, or is made of, such a device; a host bridge has one on its bus."""
    return profile.is_a(obj.type, type) or any(
        profile.is_a(child.type, type) for child in obj.children.values()
    )


def _create(vm: Machine, type: str, config: NicConfig, number: int) -> None:
    """Make a NIC among the board's devices. Raises StartupError."""
    try:
        _plug(vm, new_onboard(vm, type, number), config)
    except QapiError as exc:
        raise StartupError(exc.desc, hint=exc.hint) from exc


def _replug(vm: Machine, config: NicConfig, number: int) -> None:
    """Give the recorded NIC of that number its backend, and its place. Raises StartupError."""
    device = vm.qom.container("/machine/unattached").child(f"device[{number}]")
    assert isinstance(device, DeviceObject)
    # what was recorded before it may be gone, and its slot with it
    for bus in vm.buses.all():
        bus.drop(device)
    try:
        _plug(vm, device, config)
    except QapiError as exc:
        raise StartupError(exc.desc, hint=exc.hint) from exc


def _plug(vm: Machine, device: DeviceObject, config: NicConfig) -> None:
    """Put a NIC on its bus. Raises QapiError."""
    virtual = vm.profile.is_a(device.type, _VIRTUAL)
    bus = vm.buses.find_by_kind(
        "ISA" if device.type == _ISA_NIC else "spapr-vio-bus" if virtual else "PCI"
    )
    assert bus is not None, "its board has one"
    if config.address is not None and vm.profile.traits.net_nic_addr_used:
        vm.devices.properties.set(device, "addr", config.address, typed=False)
    if config.vectors is not None and device.has("vectors"):
        vm.devices.properties.set(device, "vectors", str(config.vectors), typed=False)
    _configure(vm, device, config)
    vm.devices.realize(device, bus)


def _configure(vm: Machine, device: DeviceObject, config: NicConfig) -> None:
    """See hw/core/qdev-properties-system.c: qdev_set_nic_properties()."""
    holder = owner(vm.profile, device, "netdev")
    check_unset(vm.state, device, holder, "netdev", config.netdev)
    for obj in (device, holder):
        obj.values["netdev"] = config.netdev
        obj.values["mac"] = config.mac
    device.given.add("mac")
