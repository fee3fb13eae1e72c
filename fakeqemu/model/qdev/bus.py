"""Buses: where devices can be plugged, found by name, path or kind as QEMU finds them.

A bus is an object whose type descends from `bus`, child of the device that offers it. The
system bus is the root; devices added last are looked at first.

See system/qdev-monitor.c: qbus_find(), qbus_find_recursive() and qdev_device_add_from_qdict().
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qdev.recorded import alias_of
from fakeqemu.model.qom.tree import QomObject
from fakeqemu.qapi.errors import DeviceNotFoundError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.qom.tree import Qom
    from fakeqemu.profile import Profile

#: how many devices a bus takes, for kinds that have a limit
_LIMITS = {
    "IDE": 2,
    "virtio-pci-bus": 1,
    "virtio-mmio-bus": 1,
    "nvme-bus": 0,
    "sd-bus": 1,
    "ccid-bus": 1,
}
#: QOM type of the host bridge that an expander brings along
PCI_EXPANDER_HOST = "pxb-host"
_ONBOARD = r"/machine/unattached/device\[(\d+)\]"
_SYSTEM = "/machine/unattached/sysbus"


class Bus:
    """One bus: a view made for each query of the object, which is what persists."""

    def __init__(self, buses: Buses, obj: QomObject) -> None:
        #: all buses of the machine
        self.buses = buses
        self.object = obj

    @property
    def name(self) -> str:
        """Its name, which need not be the only one of the kind."""
        return "main-system-bus" if self.object.path == _SYSTEM else self.object.name

    @property
    def type(self) -> str:
        """Its QOM type: "PCIE", "usb-bus"."""
        return self.object.type

    def is_a(self, kind: str) -> bool:
        """Whether devices for buses of `kind` fit."""
        return self.buses.profile.is_a(self.object.type, kind)

    @property
    def devices(self) -> list[DeviceObject]:
        """The devices on it, the one added last first."""
        links = [name for name in self.object.shapes if name.startswith("child[")]
        links.sort(key=lambda name: int(name[6:-1]), reverse=True)
        found = (self.buses.qom.at(self.object.get(name)) for name in links)
        return [device for device in found if isinstance(device, DeviceObject)]

    @property
    def full(self) -> bool:
        """Whether it takes no further device."""
        limit = _LIMITS.get(self.object.type, 0)
        return bool(limit) and len(self.devices) >= limit

    @property
    def hotpluggable(self) -> bool:
        """Whether devices may come and go while the machine is there."""
        handler = self.object.values.get("hotplug-handler", "")
        if not handler:
            return False
        if self.object.type == "PCIE":
            parent = self.object.parent
            return parent is not None and self.buses.profile.is_a(parent.type, "pcie-slot")
        return True

    def add(self, device: DeviceObject) -> None:
        """Put `device` on the bus."""
        taken = [int(n[6:-1]) for n in self.object.shapes if n.startswith("child[")]
        number = self.buses.next_child(self.object, max(taken, default=-1) + 1)
        name = f"child[{number}]"
        self.object.own_shapes()[name] = f"link<{device.type}>"
        self.object.values[name] = lambda: device.path
        device.values["parent_bus"] = lambda: self.object.path

    def drop(self, device: DeviceObject) -> None:
        """Take `device` off the bus."""
        for name in [n for n in self.object.shapes if n.startswith("child[")]:
            if self.object.get(name) == device.path:
                del self.object.own_shapes()[name], self.object.values[name]

    def put_in_order(self) -> None:
        """Number the links to the board's devices in the order of these, without gaps."""
        obj = self.object
        links = [name for name in obj.shapes if name.startswith("child[")]
        shapes = obj.own_shapes()
        found = [(name, shapes.pop(name), obj.values.pop(name)) for name in sorted(
            links, key=lambda name: int(name[6:-1])
        )]  # fmt: skip
        ordered: list[tuple[int, str, Any]] = []
        for _, shape, value in found:
            path = value() if callable(value) else value
            if self.buses.qom.at(path) is None:
                continue
            own = re.match(_ONBOARD, path)
            number = int(own[1]) if own is not None else -1
            at = next(
                (n for n, (other, _, _) in enumerate(ordered) if other > number >= 0), len(ordered)
            )
            ordered.insert(at, (number, shape, value))
        for index, (_, shape, value) in enumerate(ordered):
            shapes[f"child[{index}]"] = shape
            obj.values[f"child[{index}]"] = value
        self.buses.forget_counts(obj)


class Buses:
    """The buses of one machine."""

    def __init__(self, qom: Qom, profile: Profile) -> None:
        self.qom = qom
        self.profile = profile
        #: bus object -> number its next child link gets
        self._counts: dict[QomObject, int] = {}
        #: QOM type of buses -> number that the next automatic name gets
        self._automatic: dict[str, int] = {}

    def next_child(self, bus: QomObject, least: int) -> int:
        """The number of the next link from a bus to a device on it, `least` or more."""
        number = max(self._counts.get(bus, 0), least)
        self._counts[bus] = number + 1
        return number

    def forget_counts(self, bus: QomObject) -> None:
        """The next link from a bus gets the first free number."""
        self._counts.pop(bus, None)

    def automatic_name(self, kind: str) -> str:
        """The name of a new bus of that QOM type on a device without an id.

        See hw/core/bus.c: qbus_init_internal().
        """
        if kind not in self._automatic:
            own = re.compile(re.escape(kind.lower()) + r"\.(\d+)")
            numbers = [
                int(found[1]) for bus in self.all()
                if bus.type == kind and (found := own.fullmatch(bus.name))
                # the root bus of a host bridge is named by the board
                and not self.profile.is_a(getattr(bus.object.parent, "type", ""), "pci-host-bridge")
            ]  # fmt: skip
            self._automatic[kind] = max(numbers, default=-1) + 1
        number = self._automatic[kind]
        self._automatic[kind] += 1
        return f"{kind.lower()}.{number}"

    def give_back_name(self, kind: str) -> None:
        """The last automatic name of that QOM type is not used after all."""
        self._automatic[kind] -= 1

    def put_in_order(self) -> None:
        """Links to the board's devices are numbered in the order in which these were made."""
        for bus in list(self.all()):
            bus.put_in_order()

    def at(self, obj: QomObject) -> Bus:
        """The bus that an object is."""
        return Bus(self, obj)

    def system(self) -> Bus | None:
        """The root of all buses; None while there is no board."""
        obj = self.qom.at(_SYSTEM)
        return Bus(self, obj) if obj is not None else None

    def of(self, device: QomObject) -> list[Bus]:
        """The buses that `device` offers, the one made last first."""
        found = device.children_if(lambda type: self.profile.is_a(type, "bus"))
        found.sort(key=lambda child: child.name, reverse=True)
        return [Bus(self, child) for child in found]

    def all(self) -> Iterator[Bus]:
        """Every bus, each before those on its devices."""

        def below(bus: Bus) -> Iterator[Bus]:
            yield bus
            for device in bus.devices:
                for child in self.of(device):
                    yield from below(child)

        root = self.system()
        if root is not None:
            yield from below(root)

    def pci_root(self) -> Bus | None:
        """The root bus of the board's own PCI host bridge; None if it has none."""
        for bus in self.all():
            owner = getattr(bus.object.parent, "type", "")
            own = self.profile.is_a(owner, "pci-host-bridge") and bus.is_a("PCI")
            if own and owner != PCI_EXPANDER_HOST:
                return bus
        return None

    def find_by_kind(self, kind: str) -> Bus | None:
        """The first bus of `kind` with room, else a full one, else None."""
        full: Bus | None = None
        for bus in self.all():
            if bus.is_a(kind):
                if not bus.full:
                    return bus
                full = full or bus
        return full

    def _find_by_name(self, name: str) -> Bus | None:
        full: Bus | None = None
        for bus in self.all():
            if bus.name == name:
                if not bus.full:
                    return bus
                full = full or bus
        return full

    def find_by_path(self, path: str) -> Bus:
        """The bus that `bus=PATH` means: a name, or devices and buses with slashes between.

        Raises QapiError.
        """
        parts = [part for part in path.split("/") if part]
        if path.startswith("/"):
            bus = self.system()
        else:
            first = parts.pop(0) if parts else ""
            bus = self._find_by_name(first)
            if bus is None:
                raise QapiError(f"Bus '{first}' not found")
        if bus is None:
            raise QapiError("Bus '' not found")
        while parts:
            bus = self._step(bus, parts)
        if bus.full:
            raise QapiError(f"Bus '{path}' is full")
        return bus

    def _step(self, bus: Bus, parts: list[str]) -> Bus:
        """From `bus` over the device that `parts` begin with to one of its buses."""
        element = parts.pop(0)
        device = self._device_on(bus, element)
        if device is None:
            known = ", ".join(
                f'"{d.type}"' + (f'/"{d.id}"' if d.id else "") for d in bus.devices
            )
            raise DeviceNotFoundError(
                f"Device '{element}' not found", hint=f'devices at "{bus.name}": {known}'
            )
        offered = self.of(device)
        hint = f'child buses at "{device.id or device.type}": ' + ", ".join(
            f'"{child.name}"' for child in offered
        )
        if not parts:
            if len(offered) == 1:
                return offered[0]
            if offered:
                raise QapiError(f"Device '{element}' has multiple child buses", hint=hint)
            raise QapiError(f"Device '{element}' has no child bus")
        element = parts.pop(0)
        for child in offered:
            if child.name == element:
                return child
        raise QapiError(f"Bus '{element}' not found", hint=hint)

    def _device_on(self, bus: Bus, element: str) -> DeviceObject | None:
        """The device on `bus` with that id, else of that type, else with that alias."""
        devices = bus.devices
        for matches in (
            lambda d: d.id == element,
            lambda d: d.type == element,
            lambda d: alias_of(self.profile, d.type) == element,
        ):
            for device in devices:
                if matches(device):
                    return device
        return None
