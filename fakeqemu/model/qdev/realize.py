"""What realizing a device does to the bus it sits on and to the backends it takes.

PCI hands out slots, USB ports, SCSI addresses; a network card takes a netdev, a serial port a
character device. Here are their checks, in QEMU's words, and what is undone when it goes.

See hw/pci/pci.c: do_pci_register_device(); hw/usb/bus.c: usb_claim_port(); hw/scsi/scsi-bus.c:
scsi_qdev_realize(); hw/ide/ide-dev.c: ide_dev_initfn().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev import (
    properties as deviceproperties,
    realize_checks as devicechecks,
    usb_ports as usbports,
    virtio_serial as serialports,
)
from fakeqemu.model.qdev.bus import Bus, buses_of
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpu
    from fakeqemu.model.machine import Machine

#: the second of this name is what drivers from before virtio 1.0 use
_LEGACY_REGION = "virtio-pci[1]"
#: slots on a PCI bus, functions in a slot
_SLOTS, _FUNCTIONS = 32, 8


class DeviceFrontend:
    """A device on a character device: what comes goes to the guest, if anything there listens."""

    def __init__(self, follows: Callable[[], bool] = lambda: True) -> None:
        self._follows = follows
        #: takes input and descriptors; None: nobody reads, nothing is kept
        self.on_data: Callable[[bytes, Sequence[int]], None] | None = None
        #: called with whether a client is there when that changes
        self.on_client: Callable[[bool], None] | None = None

    @property
    def can_hotswap(self) -> bool:
        """Whether the device goes on when another takes its character device's place."""
        return self._follows()

    def chr_opened(self) -> None:
        """A client is there."""
        if self.on_client is not None:
            self.on_client(True)

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """The guest would read it."""
        if self.on_data is not None:
            self.on_data(data, fds)

    def chr_closed(self) -> None:
        """The client has gone."""
        if self.on_client is not None:
            self.on_client(False)


def realize(
    vm: Machine, device: DeviceObject, bus: Bus | None, check: Callable[[], None] | None = None
) -> None:
    """Take the place on `bus` and the backends. Raises QapiError, nothing taken then.

    `check`, what the type asks for, comes when the bus has been satisfied.
    """
    if bus is not None:
        if bus.is_a("PCI"):
            _take_slot(vm, device, bus)
            _take_chassis(vm, device)
            if "disable-legacy" in device.values and "disable-legacy" not in device.given:
                _be_modern(vm, device, bus)
        elif bus.is_a("usb-bus"):
            usbports.take(vm, device, bus)
        elif bus.is_a("SCSI"):
            _take_address(vm, device, bus)
        elif bus.is_a("IDE"):
            _take_unit(vm, device, bus)
        elif bus.is_a("virtio-serial-bus"):
            serialports.take(vm, device, bus)
        bus.add(device)
        device.bus = bus
    try:
        if check is not None:
            check()
        devicechecks.check(vm, device)
        _take_backends(vm, device)
    except BaseException:
        if bus is not None:
            _leave(vm, device, bus)
        raise


def _leave(vm: Machine, device: DeviceObject, bus: Bus) -> None:
    bus.drop(device)
    if device.port:
        usbports.release(vm, device, bus)


def unrealize(vm: Machine, device: DeviceObject) -> None:
    """Give back what `realize` took."""
    if device.bus is not None:
        _leave(vm, device, device.bus)
    vm.net.remove_nic(device)
    name = _value(vm, device, "chardev")
    chardev = vm.chardevs.get(name) if name else None
    if chardev is not None and isinstance(chardev.frontend, DeviceFrontend):
        chardev.detach()


def asks_guest(vm: Machine, device: DeviceObject) -> bool:
    """Whether taking the device out waits for the guest's consent."""
    return vm.profile.is_a(device.type, "pci-device")


def _value(vm: Machine, device: DeviceObject, name: str) -> Any:
    """A property's value, wherever it is kept; None if there is none."""
    holder = deviceproperties.owner(vm, device, name)
    value = holder.values.get(name)
    return value() if callable(value) else value


def _take_backends(vm: Machine, device: DeviceObject) -> None:
    holder = deviceproperties.owner(vm, device, "netdev")
    if holder.has("netdev") and holder.has("mac"):
        vm.net.add_nic(device, holder)
    vm.block.realize(device)
    name = _value(vm, device, "chardev")
    if name and name in vm.chardevs:
        # the host sees of a virtio port whether the guest has opened it
        waits = device.type == "virtserialport"
        # a virtio port lets go of it while the guest does not run
        port = vm.profile.is_a(device.type, "virtio-serial-port")
        frontend = DeviceFrontend(lambda: not port or vm.runstate.running)
        vm.chardevs[name].attach(frontend, fe_open=not waits, paused=waits)


# -- PCI -----------------------------------------------------------------------------------


def devfn_of(device: DeviceObject) -> int:
    """Slot and function of a PCI device that sits on its bus."""
    value = device.values.get("addr", -1)
    return value if isinstance(value, int) else -1


def _is_downstream(vm: Machine, bus: Bus) -> bool:
    """Whether the bus is behind a port that has one slot only."""
    parent = bus.object.parent
    return bus.type == "PCIE" and parent is not None and vm.profile.is_a(parent.type, "pcie-slot")


def _take_slot(vm: Machine, device: DeviceObject, bus: Bus) -> None:
    taken = {devfn_of(other): other for other in bus.devices if devfn_of(other) >= 0}
    # the recorded device has the slot it got, not the -1 that asks for one
    devfn = devfn_of(device) if "addr" in device.given else -1
    name = device.type
    if devfn < 0:
        free = (slot * _FUNCTIONS for slot in range(_SLOTS) if slot * _FUNCTIONS not in taken)
        found = next(free, None)
        if found is None:
            raise QapiError(
                f"PCI: no slot/function available for {name}, all in use or reserved"
            )
        devfn = found
    slot, function = divmod(devfn, _FUNCTIONS)
    if devfn in taken:
        other = taken[devfn]
        raise QapiError(
            f"PCI: slot {slot} function {function} not available for {name},"
            f" in use by {other.type},id={other.id or '(null)'}"
        )
    one_only = _is_downstream(vm, bus) and vm.profile.traits.port_takes_one_hotplug
    first = taken.get(0 if one_only else slot * _FUNCTIONS)
    if device.values.get("hotplugged") and first is not None:
        raise QapiError(
            f"PCI: slot {devfn_of(first) // _FUNCTIONS} function 0 already occupied by"
            f" {first.type}, new func {name} cannot be exposed to guest."
        )
    _check_functions(device, taken, slot, function)
    if _is_downstream(vm, bus) and slot and vm.profile.traits.pcie_slot_warning:
        vm.host.warn(
            f"warning: PCI: slot {slot} is not valid for {name},"
            " parent device only allows plugging into slot 0."
        )
    device.values["addr"] = devfn
    if "legacy-addr" in device.values:
        device.values["legacy-addr"] = f"{slot:02x}.{function:x}"


def _be_modern(vm: Machine, device: DeviceObject, bus: Bus) -> None:
    """A virtio device behind a port has no legacy half; the recorded one was not behind one."""
    if _is_downstream(vm, bus):
        device.values["disable-legacy"] = "on"
        device.forget_child(_LEGACY_REGION)


def _take_chassis(vm: Machine, device: DeviceObject) -> None:
    """Chassis and slot number of a PCIe port are taken only once."""
    if not vm.profile.is_a(device.type, "pcie-slot"):
        return
    mine = (device.values.get("chassis"), device.values.get("slot"))
    for other in vm.devices.user_devices():
        if other is device or not vm.profile.is_a(other.type, "pcie-slot"):
            continue
        if other.bus is not None and mine == (
            other.values.get("chassis"),
            other.values.get("slot"),
        ):
            raise QapiError("Can't add chassis slot, error -16")


def _check_functions(
    device: DeviceObject, taken: dict[int, DeviceObject], slot: int, function: int
) -> None:
    """Several functions in a slot need the first one to say so."""
    if function:
        first = taken.get(slot * _FUNCTIONS)
        if first is not None and not first.values.get("multifunction"):
            raise QapiError(
                "PCI: single function device can't be populated "
                f"in function {slot:x}.{function:x}"
            )
        return
    if device.values.get("multifunction"):
        return
    for other in range(1, _FUNCTIONS):
        if slot * _FUNCTIONS + other in taken:
            raise QapiError(
                f"PCI: {slot:x}.0 indicates single function, "
                f"but {slot:x}.{other:x} is already populated."
            )


# -- SCSI ----------------------------------------------------------------------------------

#: adapter -> the last target and LUN that its bus has
_SCSI_LIMITS = {
    "virtio-scsi-common": (255, 16383),
    "lsi53c895a": (7, 0),
    "megasas-base": (128, 255),
    "mptsas1068": (8, 1),
    "am53c974": (7, 7),
    "esp": (7, 7),
    "pvscsi": (64, 0),
    "usb-bot": (0, 15),
    "usb-uas": (0, 255),
    "usb-storage": (0, 0),
}
_SCSI_MOST = (255, 16383)


def _scsi_limits(vm: Machine, bus: Bus) -> tuple[int, int]:
    adapter = bus.object.parent
    kinds = (kind for kind in _SCSI_LIMITS if adapter and vm.profile.is_a(adapter.type, kind))
    return _SCSI_LIMITS.get(next(kinds, ""), _SCSI_MOST)


def _take_address(vm: Machine, device: DeviceObject, bus: Bus) -> None:
    target, lun = device.values.get("scsi-id", -1), device.values.get("lun", -1)
    channel = device.values.get("channel", 0)
    # the recorded device has the place it got, not the -1 that asks for one
    target = target if "scsi-id" in device.given else -1
    lun = lun if "lun" in device.given else -1
    targets, luns = _scsi_limits(vm, bus)
    for what, number, most in (
        ("channel id", channel, 0),
        ("device id", target, targets),
        ("device lun", lun, luns),
    ):
        if number > most:
            raise QapiError(f"bad scsi {what}: {number}")
    taken = {
        (d.values.get("channel", 0), d.values.get("scsi-id"), d.values.get("lun")): d
        for d in bus.devices
    }
    if target < 0:
        lun = max(lun, 0)
        target = _free_target(taken, channel, targets)
    elif lun < 0:
        free = (n for n in range(luns + 1) if (channel, target, n) not in taken)
        lun = next(free, -1)
        if lun < 0:
            raise QapiError("no free lun")
    elif (channel, target, lun) in taken:
        raise QapiError(f"lun already used by '{taken[channel, target, lun].id or '(null)'}'")
    device.values.update({"scsi-id": target, "lun": lun})


def _free_target(taken: dict[Any, DeviceObject], channel: int, last: int) -> int:
    for target in range(last + 1):
        if (channel, target, 0) not in taken:
            return target
    raise QapiError("no free target")


# -- IDE -----------------------------------------------------------------------------------


def _take_unit(vm: Machine, device: DeviceObject, bus: Bus) -> None:
    """Allocate the IDE unit, 0 or 1; a SATA port has only unit 0."""
    controller = bus.object.parent
    own = controller is not None and vm.profile.is_a(controller.type, "ich9-ahci")
    units = 1 if own else 2
    taken = {other.values.get("unit") for other in bus.devices}
    # the recorded device has the unit it got, not the -1 that asks for one
    unit = device.values.get("unit", -1) if "unit" in device.given else -1
    if unit == -1:
        unit = 1 if 0 in taken else 0
    if unit >= units:
        raise QapiError(f"Can't create IDE unit {unit}, bus supports only {units} units")
    if unit in taken:
        raise QapiError(f"IDE unit {unit} is in use")
    device.values["unit"] = unit


# -- CPUs ----------------------------------------------------------------------------------

#: property -> level of the topology
_CPU_IDS = {
    "socket-id": "sockets",
    "die-id": "dies",
    "module-id": "modules",
    "core-id": "cores",
    "thread-id": "threads",
}
#: levels that a machine without them lets a CPU leave out
_OPTIONAL_LEVELS = frozenset({"die-id", "module-id"})


def plug_cpu(
    vm: Machine, driver: str, id: str | None, given: dict[str, Any], *, typed: bool
) -> DeviceObject:
    """device_add of a CPU: it goes into the slot that its numbers name. Raises QapiError."""
    from fakeqemu.model.boards.board import cpu_object, recorded_tree
    from fakeqemu.model.boards.cpus import Cpu
    from fakeqemu.model.qom.property_types import convert

    if vm.state.type is None or not vm.state.type.hotpluggable_cpus:
        raise NotModelledError(f"device {driver}")
    ids: dict[str, int] = {}
    text = None if typed else vm.profile.traits
    for name, value in given.items():
        if name not in _CPU_IDS:
            raise NotModelledError(f"{driver}.{name}")
        ids[name] = convert(vm.profile.schema, "int32", value, name, text=text)
    if driver != vm.cpus.type:
        raise QapiError(f"Invalid CPU type, expected cpu type: '{vm.cpus.type}'")
    levels = vm.cpus.topology.levels
    for name, level in _CPU_IDS.items():
        if name in _OPTIONAL_LEVELS and (levels[level] == 1 or not vm.cpus):
            ids.setdefault(name, 0)
        if name not in ids:
            raise QapiError(f"CPU {name} is not set")
        if not 0 <= ids[name] < levels[level]:
            raise QapiError(
                f"Invalid CPU {name}: {ids[name]} must be in range 0:{levels[level] - 1}"
            )
    index = 0
    for name, level in _CPU_IDS.items():
        index = index * levels[level] + ids[name]
    if index in vm.cpus:
        raise QapiError(f"CPU[{index}] with APIC ID {vm.cpus.topology.apic_id(index)} exists")
    recorded = recorded_tree(vm.state, vm.state.type).at("machine/unattached/device[0]")
    cpu = cpu_object(vm.cpus, vm.profile, recorded, index)
    cpu.id = id
    cpu.values["hotplugged"] = vm.process.phases.ready
    vm.devices.enter(cpu, id)
    vm.cpus.add(Cpu(index, cpu, boot=False))
    return cpu


def unplug_cpu(vm: Machine, cpu: Cpu) -> None:
    """device_del of a CPU: the guest is asked, and does not answer. Raises QapiError."""
    if cpu.index == 0:
        raise QapiError("Boot CPU is unpluggable")
    if not vm.profile.traits.cpu_unplug_without_guest:
        raise QapiError(
            f"acpi: device unplug request for not supported device type: {cpu.object.type}"
        )


__all__ = [
    "asks_guest",
    "buses_of",
    "devfn_of",
    "plug_cpu",
    "realize",
    "unplug_cpu",
    "unrealize",
]
