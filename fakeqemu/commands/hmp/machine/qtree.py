"""`info qtree`: buses and devices as they hang together, each with its properties.

The order of properties, and what lines interrupts and clocks have, are recorded (profile part
`qtree`); values are the model's. A device of a type that was not recorded refuses the whole.

See system/qdev-monitor.c: hmp_info_qdm(), hmp_info_qtree(), qbus_print() and qdev_print_props();
qapi/string-output-visitor.c; hw/pci/pci-hmp-cmds.c: pcibus_dev_print(); hw/usb/bus.c:
usb_bus_dev_print(); hw/char/virtio-serial-bus.c: virtser_bus_dev_print(); hw/core/sysbus.c:
sysbus_dev_print().
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.commands.hmp.block.info_block import size_text
from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model.boards.pci_info import entry_of
from fakeqemu.model.boards.targets import by_cpus
from fakeqemu.model.qdev import usb_ports
from fakeqemu.model.qdev.addresses import devfn_of
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.qdev.bus import Bus
    from fakeqemu.model.qdev.device import DeviceObject

_NOTHING = "<null>"
_WORD = (1 << 64) - 1
#: type of properties that count bytes
_SIZE = "size"


@hmp("info qtree")
def qtree(vm: Machine, brief: bool = False) -> str:
    """Buses and devices; without -b their properties too."""
    root = vm.buses.system()
    if root is None:
        return ""
    return _Printer(vm, brief=brief).bus(root, 0)


@hmp("info qdm")
def qdm(vm: Machine) -> str:
    """All device types, as recorded."""
    try:
        return vm.profile.help("info qdm")
    except KeyError:
        raise NotModelledError("info qdm") from None


class _Printer:
    """One walk over the tree."""

    def __init__(self, vm: Machine, *, brief: bool) -> None:
        self._vm = vm
        self._brief = brief
        self._recorded: dict[str, Any] = {} if brief else vm.profile.part("qtree")
        self._is_pc = vm.state.is_a("x86-machine")
        #: device type -> how many of it were printed
        self._seen: Counter[str] = Counter()

    def bus(self, bus: Bus, indent: int) -> str:
        """A bus and all that hangs on it."""
        pad = " " * indent
        text = f"{pad}bus: {bus.name}\n{pad}  type {bus.type}\n"
        for device in bus.devices:
            text += f'{pad}  dev: {device.type}, id "{device.id or ""}"\n'
            if not self._brief:
                lines = self._device(device, bus)
                text += "".join(f"{pad}    {line}\n" for line in lines)
            for child in self._vm.buses.of(device):
                text += self.bus(child, indent + 4)
        return text

    def _device(self, device: DeviceObject, bus: Bus) -> list[str]:
        if device.type not in self._recorded:
            raise NotModelledError(f"info qtree with {device.type}")
        wiring, names, memory = self._recorded[device.type]
        if not self._is_pc:
            wiring = by_cpus.wiring(device, wiring)
        lines = [*wiring, *(f"{name} = {self._value(device, name)}" for name in names)]
        if bus.is_a("System"):
            number = self._seen[device.type]
            self._seen[device.type] += 1
            if memory:
                printed = memory[self._board(memory)]
                lines += by_cpus.memory(device, printed, number)
        elif bus.is_a("PCI"):
            lines += self._on_pci(device, bus)
        elif bus.is_a("usb-bus"):
            lines.append(self._on_usb(device, bus))
        elif bus.is_a("virtio-serial-bus"):
            lines.append(_on_virtio_serial(device))
        return lines

    def _board(self, memory: Mapping[str, Any]) -> str:
        """The board there that the machine is one of, perhaps an older one; "" if it is none."""
        machine, profile = self._vm.state.type, self._vm.profile
        if machine is None or len(memory) == 1:
            return ""
        if machine.name in memory:
            return machine.name
        family = profile.qom_types[machine.typename].parent
        for name in memory:
            # what has no alias has no older ones either
            newest = profile.machine(name) if name else None
            if (
                newest is not None
                and newest.alias == name
                and profile.qom_types[newest.typename].parent == family
            ):
                return name
        return ""

    def _value(self, device: DeviceObject, name: str) -> str:
        if name == "addr" and self._vm.profile.is_a(device.type, "pci-device"):
            slot, function = divmod(devfn_of(device), 8)
            return f"{slot:02x}.{function:x}"
        try:
            value = device.get(name)
        except QapiError as error:
            if isinstance(error, NotModelledError):
                raise
            return _NOTHING
        return _text(value, device.shapes[name])

    def _on_pci(self, device: DeviceObject, bus: Bus) -> list[str]:
        number = getattr(bus.object.parent, "root_bus", 0)
        entry = entry_of(self._vm.state, device, number)
        id, about = entry["id"], entry["class_info"]
        name = about.get("desc", f"Class {about['class']:04x}")
        lines = [
            f"class {name}, addr {number:02x}:{entry['slot']:02x}.{entry['function']:x}, "
            f"pci id {id['vendor']:04x}:{id['device']:04x} "
            f"(sub {id.get('subsystem-vendor', 0):04x}:{id.get('subsystem', 0):04x})"
        ]
        for region in entry["regions"]:
            kind = "i/o" if region["type"] == "io" else "mem"
            first = region["address"] & _WORD
            last = (region["address"] + region["size"] - 1) & _WORD
            lines.append(f"bar {region['bar']}: {kind} at {first:#x} [{last:#x}]")
        return lines

    def _on_usb(self, device: DeviceObject, bus: Bus) -> str:
        buses = [each for each in self._vm.buses.all() if each.is_a("usb-bus")]
        number = [each.object for each in reversed(buses)].index(bus.object)
        speed = usb_ports.megabits(self._vm.profile, device, bus)
        attached = ", attached" if device.values.get("attached", True) else ""
        return (
            f"addr {number}.0, port {device.port}, speed {speed}, "
            f"name {usb_ports.product(device)}{attached}"
        )


def _on_virtio_serial(device: DeviceObject) -> str:
    chardev = device.values.get("chardev")
    if chardev:
        raise NotModelledError("info qtree with the character device of a virtio-serial port")
    return f"port {device.get('nr')}, guest off, host off, throttle off"


def _ranges(numbers: list[int]) -> str:
    """See qapi/string-output-visitor.c: string_output_append() and format_string()."""
    found: list[list[int]] = []
    for number in sorted({*numbers}):
        if found and found[-1][1] + 1 == number:
            found[-1][1] = number
        else:
            found.append([number, number])
    texts = (
        ",".join(form(first) if first == last else f"{form(first)}-{form(last)}"
                 for first, last in found)
        for form in (str, hex)
    )  # fmt: skip
    return "{} ({})".format(*texts)


def _text(value: Any, shape: str) -> str:
    """A value as people are shown it."""
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if shape == _SIZE:
            return f"{value} ({size_text(value)})"
        # as if it had a sign, whatever the property's type
        signed = value - (1 << 64) if value >> 63 == 1 else value
        return f"{signed} ({value & _WORD:#x})"
    if isinstance(value, str):
        return f'"{value}"'
    if value == []:
        return _NOTHING
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        return _ranges(value)
    raise NotModelledError(f"info qtree with a property of type {shape}")
