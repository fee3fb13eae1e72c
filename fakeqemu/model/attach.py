"""What realizing a device does to the bus it sits on and to the backends it takes.

PCI hands out slots, USB ports, SCSI addresses; a network card takes a netdev, a serial port a
character device. Here are their checks, in QEMU's words, and what is undone when it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fakeqemu.model import deviceproperties
from fakeqemu.model.buses import Bus, buses_of
from fakeqemu.model.device import DeviceObject
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.cpus import Cpu
    from fakeqemu.model.machine import Machine

#: slots on a PCI bus, functions in a slot
_SLOTS, _FUNCTIONS = 32, 8


class DeviceFrontend:
    """A device on a character device: takes what comes and keeps nothing."""

    can_hotswap = True

    def chr_opened(self) -> None:
        """A client is there."""

    def chr_received(self, data: bytes, fds: Sequence[int]) -> None:
        """The guest, which is not there, would read it."""

    def chr_closed(self) -> None:
        """The client has gone."""


def realize(vm: Machine, device: DeviceObject, bus: Bus | None) -> None:
    """Take the place on `bus` and the backends. Raises QapiError, nothing taken then."""
    if bus is not None:
        if bus.is_a("PCI"):
            _take_slot(vm, device, bus)
            _take_chassis(vm, device)
        elif bus.is_a("usb-bus"):
            _take_port(vm, device, bus)
        elif bus.is_a("SCSI"):
            _take_address(device, bus)
        bus.add(device)
        device.bus = bus
    try:
        _take_backends(vm, device)
    except BaseException:
        if bus is not None:
            bus.drop(device)
        raise


def unrealize(vm: Machine, device: DeviceObject) -> None:
    """Give back what `realize` took."""
    if device.bus is not None:
        device.bus.drop(device)
        if device.port:
            _free_ports(vm, device.bus).append(device.port)
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
    for name in ("rx_queue_size", "tx_queue_size"):
        _check_queue(name, _value(vm, device, name))
    holder = deviceproperties.owner(vm, device, "netdev")
    if holder.has("netdev") and holder.has("mac"):
        vm.net.add_nic(device, holder)
    vm.block.realize(device)
    name = _value(vm, device, "chardev")
    if name and name in vm.chardevs:
        vm.chardevs[name].attach(DeviceFrontend(), fe_open=True)


def _check_queue(name: str, size: Any) -> None:
    """The queues of a virtio network card."""
    if isinstance(size, int) and not (256 <= size <= 1024 and size & (size - 1) == 0):
        raise QapiError(
            f"Invalid {name} (= {size}), must be a power of 2 between 256 and 1024."
        )


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


# -- USB -----------------------------------------------------------------------------------

#: property of a controller or hub that says how many ports it has, and the number where none does
_PORT_PROPERTIES = ("p2", "ports", "num-ports", "maxframes")
_PORTS_ELSE = {"maxframes": 2}
_EHCI_PORTS = 6


def ports_of(bus: Bus) -> int:
    """How many devices a USB bus takes."""
    controller = bus.object.parent
    if controller is None:
        return 0
    while controller.parent is not None and not any(
        controller.has(name) for name in _PORT_PROPERTIES
    ):
        controller = controller.parent
        if controller.name in ("peripheral", "peripheral-anon", "unattached"):
            return _EHCI_PORTS
    name = next(n for n in _PORT_PROPERTIES if controller.has(n))
    if name == "p2":
        numbers = [v for n in ("p2", "p3") if isinstance(v := controller.values.get(n), int)]
        return max(numbers, default=0)
    return _PORTS_ELSE.get(name) or int(controller.values.get(name, 0))


def _take_port(vm: Machine, device: DeviceObject, bus: Bus) -> None:
    free = _free_ports(vm, bus)
    wanted = device.values.get("port", "")
    if wanted:
        if wanted not in free:
            raise QapiError(f"usb port {wanted} (bus {bus.name}) not found (in use?)")
        port = wanted
    elif not free:
        raise QapiError(
            f"tried to attach usb device {device.type} to a bus with no free ports"
        )
    elif len(free) == 1 and device.type != "usb-hub":
        raise NotModelledError("the hub that QEMU adds when one USB port is left")
    else:
        port = free[0]
    free.remove(port)
    device.port = port


def _free_ports(vm: Machine, bus: Bus) -> list[str]:
    """The ports nobody sits in: one that was left comes last."""
    ports = vm.devices.usb_ports
    if bus.object not in ports:
        taken = {other.port for other in bus.devices}
        numbers = (str(n) for n in range(1, ports_of(bus) + 1))
        ports[bus.object] = [port for port in numbers if port not in taken]
    return ports[bus.object]


# -- SCSI ----------------------------------------------------------------------------------

#: targets and LUNs that most adapters have room for, beyond which the bus refuses
_SCSI_TARGETS, _SCSI_LUNS = 255, 16383


def _take_address(device: DeviceObject, bus: Bus) -> None:
    target, lun = device.values.get("scsi-id", -1), device.values.get("lun", -1)
    channel = device.values.get("channel", 0)
    # the recorded device has the place it got, not the -1 that asks for one
    target = target if "scsi-id" in device.given else -1
    lun = lun if "lun" in device.given else -1
    taken = {
        (d.values.get("channel", 0), d.values.get("scsi-id"), d.values.get("lun")): d
        for d in bus.devices
    }
    if target < 0:
        lun = max(lun, 0)
        target = _free_target(taken, channel)
    elif lun < 0:
        lun = next(n for n in range(_SCSI_LUNS + 1) if (channel, target, n) not in taken)
    elif (channel, target, lun) in taken:
        raise QapiError(f"lun already used by '{taken[channel, target, lun].id or '(null)'}'")
    device.values.update({"scsi-id": target, "lun": lun})


def _free_target(taken: dict[Any, DeviceObject], channel: int) -> int:
    for target in range(_SCSI_TARGETS + 1):
        if (channel, target, 0) not in taken:
            return target
    raise QapiError("no free target")


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
    from fakeqemu.model.board import cpu_object, recorded_tree
    from fakeqemu.model.cpus import Cpu
    from fakeqemu.model.propertytypes import convert

    if vm.machine_type is None or not vm.machine_type.hotpluggable_cpus:
        raise NotModelledError(f"device {driver}")
    ids: dict[str, int] = {}
    for name, value in given.items():
        if name not in _CPU_IDS:
            raise NotModelledError(f"{driver}.{name}")
        ids[name] = convert(vm.profile.schema, "int32", value, name, text=not typed)
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
    recorded = recorded_tree(vm, vm.machine_type).at("machine/unattached/device[0]")
    cpu = cpu_object(vm, recorded, index)
    cpu.id = id
    cpu.values["hotplugged"] = vm.ready
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
    "ports_of",
    "realize",
    "unplug_cpu",
    "unrealize",
]
