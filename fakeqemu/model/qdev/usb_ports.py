"""USB ports: who gives them out, hubs that have more of them, and the speeds that they carry.

A hub's ports belong to the bus that the hub sits on. When a bus has one port left, QEMU puts a
hub there by itself.

See hw/usb/bus.c: usb_claim_port() and usb_check_attach(); hw/usb/dev-hub.c: usb_hub_realize().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakeqemu.model.qdev.bus import Bus, Buses
    from fakeqemu.model.qom.tree import QomObject
    from fakeqemu.profile import Profile

HUB = "usb-hub"
#: property of a controller or hub that says how many ports it has, and the number where none does
_PORT_PROPERTIES = ("p2", "ports", "num-ports", "maxframes")
_PORTS_ELSE = {"maxframes": 2}
_EHCI_PORTS = 6
_UHCI_PORTS = 2
_HUB_PORTS = 8

LOW, FULL, HIGH, SUPER = "low", "full", "high", "super"
#: megabits a second
_MEGABITS = {SUPER: "5000", HIGH: "480", FULL: "12", LOW: "1.5"}
_SLOW = frozenset({LOW, FULL})
_ANY = frozenset(_MEGABITS)
_HID = frozenset({FULL, HIGH})
#: type -> product, speeds that it can have
_DEVICES: dict[str, tuple[str, frozenset[str]]] = {
    "usb-tablet": ("QEMU USB Tablet", _HID),
    "usb-mouse": ("QEMU USB Mouse", _HID),
    "usb-kbd": ("QEMU USB Keyboard", _HID),
    "usb-storage": ("QEMU USB MSD", frozenset({FULL, HIGH, SUPER})),
    "usb-bot": ("QEMU USB MSD", frozenset({FULL, HIGH, SUPER})),
    "usb-uas": ("USB Attached SCSI HBA", frozenset({HIGH, SUPER})),
    "usb-mtp": ("QEMU USB MTP", _HID),
    "usb-hub": ("QEMU USB Hub", frozenset({FULL})),
    "usb-audio": ("QEMU USB Audio Interface", frozenset({FULL})),
    "usb-wacom-tablet": ("QEMU PenPartner Tablet", frozenset({FULL})),
    "usb-serial": ("QEMU USB Serial", frozenset({FULL})),
    "usb-braille": ("QEMU USB Braille", frozenset({FULL})),
    "usb-net": ("QEMU USB Network Interface", frozenset({FULL})),
    "usb-ccid": ("QEMU USB CCID", frozenset({FULL})),
    "u2f-emulated": ("QEMU U2F USB key", frozenset({FULL})),
    "usb-redir": ("USB Redirection Device", _ANY),
}
#: types that tell the guest nothing until their own devices are there
_DETACHED = frozenset({"usb-bot", "usb-uas"})


def product(device: DeviceObject) -> str:
    """What the device calls itself."""
    return _DEVICES.get(device.type, (device.type, _ANY))[0]


def megabits(profile: Profile, device: DeviceObject, bus: Bus) -> str:
    """The speed it runs at in its port."""
    if device.type in _DETACHED:
        return _MEGABITS[FULL]
    both = _speeds(device) & _port_speeds(profile, bus, device.port)
    return next((text for name, text in _MEGABITS.items() if name in both), _MEGABITS[FULL])


def _speeds(device: DeviceObject) -> frozenset[str]:
    if device.values.get("usb_version") == 1:
        return frozenset({FULL})
    return _DEVICES.get(device.type, ("", _ANY))[1]


def _port_speeds(profile: Profile, bus: Bus, port: str) -> frozenset[str]:
    controller = bus.object.parent
    if "." in port:
        return _SLOW
    if controller is None:
        return _ANY
    kind = controller.type
    if profile.is_a(kind, "pci-uhci-usb") or "ohci" in kind:
        return _SLOW
    if "ehci" in kind:
        taken = any(int(port) in ports for ports in _companions(bus).values())
        return frozenset({HIGH}) | (_SLOW if taken else frozenset())
    found: set[str] = set()
    for name, speeds in (("p2", (LOW, FULL, HIGH)), ("p3", (SUPER,))):
        count = _owner_value(bus, name)
        if count is None:
            return _ANY
        if int(port) <= count:
            found.update(speeds)
    return frozenset(found)


def _owner_value(bus: Bus, name: str) -> int | None:
    """A number of the controller, or of the device around it."""
    here = bus.object.parent
    while here is not None:
        value = here.values.get(name)
        if isinstance(value, int):
            return value
        here = here.parent if isinstance(here.parent, DeviceObject) else None
    return None


def ports_of(bus: Bus) -> int:
    """How many ports the controller of a USB bus has."""
    controller = bus.object.parent
    if controller is None:
        return 0
    if "ehci" in controller.type:
        return _EHCI_PORTS
    while controller.parent is not None and not any(
        controller.has(name) for name in _PORT_PROPERTIES
    ):
        controller = controller.parent
    name = next(n for n in _PORT_PROPERTIES if controller.has(n))
    if name == "p2":
        numbers = [v for n in ("p2", "p3") if isinstance(v := controller.values.get(n), int)]
        return max(numbers, default=0)
    return _PORTS_ELSE.get(name) or int(controller.values.get(name, 0))


def be_companion(device: DeviceObject, buses: Buses) -> None:
    """Let a controller serve slow devices on ports of its `masterbus`. Raises QapiError.

    See hw/usb/bus.c: usb_register_companion(); hw/usb/hcd-ehci.c: ehci_register_companion().
    """
    master = device.values["masterbus"]
    bus = next(
        (each for each in buses.all() if each.is_a("usb-bus") and each.name == master), None
    )
    if bus is None:
        raise QapiError(f"USB bus '{master}' not found")
    if bus.object.parent is None or "ehci" not in bus.object.parent.type:
        raise QapiError(
            f"Can't use USB bus '{master}' as masterbus, it doesn't support companion controllers"
        )
    ports = _companion_ports(device)
    if ports.stop - 1 > _EHCI_PORTS:
        raise QapiError(f"firstport must be between 0 and {_EHCI_PORTS - len(ports)}")
    for taken in _companions(bus).values():
        both = set(ports) & set(taken)
        if both:
            first = ports.start - 1
            raise QapiError(
                f"firstport {first} asks for ports {first}-{first + len(ports) - 1},"
                f" but port {min(both) - 1} has a companion assigned already"
            )
    for name, child in list(device.children.items()):
        if child.type == "usb-bus":
            device.forget_child(name)
            if device.id is None:
                buses.give_back_name(child.type)


def _companions(bus: Bus) -> dict[DeviceObject, range]:
    """The controllers that serve ports of a bus, and the numbers of these."""
    return {
        device: _companion_ports(device)
        for each in bus.buses.all() if each.is_a("PCI")
        for device in each.devices if device.values.get("masterbus") == bus.name
    }  # fmt: skip


def _companion_ports(device: DeviceObject) -> range:
    first = int(device.values.get("firstport", 0)) + 1
    return range(first, first + int(device.values.get("num-ports", _UHCI_PORTS)))


def _names(speeds: frozenset[str]) -> str:
    return "+".join(name for name in (FULL, HIGH, SUPER) if name in speeds) or "unknown"


class UsbPorts:
    """The ports of one machine."""

    def __init__(
        self,
        profile: Profile,
        plug_hub: Callable[[Bus], None],
        unplug: Callable[[DeviceObject], None],
    ) -> None:
        """`plug_hub` puts a hub on a bus (may raise QapiError), `unplug` takes a device out."""
        self._profile = profile
        self._plug_hub = plug_hub
        self._unplug = unplug
        #: USB bus object -> its free ports, in the order they are given out
        self._free: dict[QomObject, list[str]] = {}

    def take(self, device: DeviceObject, bus: Bus) -> None:
        """Sit down in a port. Raises QapiError."""
        free = self.free_ports(bus)
        wanted = device.values.get("port", "")
        if wanted:
            if wanted not in free:
                raise QapiError(f"usb port {wanted} (bus {bus.name}) not found (in use?)")
            port = wanted
        else:
            if len(free) == 1 and device.type != HUB:
                self._plug_hub(bus)
            if not free:
                raise QapiError(
                    f"tried to attach usb device {product(device)} to a bus with no free ports"
                )
            port = free[0]
        free.remove(port)
        device.port = port
        if device.type in _DETACHED:
            return
        can, there = _speeds(device), _port_speeds(self._profile, bus, port)
        if not can & there:
            self.release(device, bus)
            raise QapiError(
                f'Warning: speed mismatch trying to attach usb device "{product(device)}"'
                f' ({_names(can)} speed) to bus "{bus.name}", port "{port}" ({_names(there)} speed)'
            )
        if device.type == HUB:
            free += [f"{port}.{n}" for n in range(1, device.values.get("ports", _HUB_PORTS) + 1)]

    def release(self, device: DeviceObject, bus: Bus) -> None:
        """Leave the port; what sits behind a hub goes with it."""
        free = self.free_ports(bus)
        if device.type == HUB:
            behind = f"{device.port}."
            for other in reversed(bus.devices):
                if other.port.startswith(behind):
                    self._unplug(other)
            free[:] = [port for port in free if not port.startswith(behind)]
        free.append(device.port)
        device.port = ""

    def free_ports(self, bus: Bus) -> list[str]:
        """The free ports; the one freed last comes last."""
        ports = self._free
        if bus.object not in ports:
            taken = {other.port for other in bus.devices}
            numbers = (str(n) for n in range(1, ports_of(bus) + 1))
            ports[bus.object] = [port for port in numbers if port not in taken]
        return ports[bus.object]
