"""Plugging and unplugging devices: the checks of device_add in QEMU's order, and what follows.

What a device of a type looks like, what refuses it when nothing is given, and whether it can
be hot-plugged are recorded (profile part `devices`); what a property takes is decided in
`deviceproperties`, what a bus demands in `attach`.

See system/qdev-monitor.c: qdev_device_add_from_qdict(), qmp_device_add(), qdev_unplug() and
qmp_device_del().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from fakeqemu.model.boards import pc_dimm as memorydevices
from fakeqemu.model.qdev import (
    bus as buses,
    migration_blockers as migratability,
    properties as deviceproperties,
    realize as attach,
    realize_checks as devicechecks,
)
from fakeqemu.model.qdev.device import DeviceObject, user_devices
from fakeqemu.model.qom.tree import QomObject, from_recorded, node_of
from fakeqemu.qapi import qdict, reads, texts
from fakeqemu.qapi.errors import DeviceNotFoundError, NotModelledError, QapiError
from fakeqemu.qapi.readers.scalars import is_identifier

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import TreeObject

#: what the recorded device was called
_PROBE = "/machine/peripheral/probe"


class Devices:
    """The devices of one machine that users made."""

    def __init__(self, vm: Machine) -> None:
        self._vm = vm
        self._anonymous = 0
        #: bus object -> number its next child link gets
        self.bus_counts: dict[QomObject, int] = {}
        #: USB bus object -> its free ports, in the order they are given out
        self.usb_ports: dict[QomObject, list[str]] = {}
        #: called with each device when it is there, and when it has gone
        self.on_added: list[Callable[[DeviceObject], None]] = []
        self.on_removed: list[Callable[[DeviceObject], None]] = []
        #: called with a device that the guest is asked to release
        self.on_unplug_request: list[Callable[[DeviceObject], None]] = []
        vm.lifecycle.after_reset.append(self._finish_unplug)

    # -- what a version has ------------------------------------------------------------------

    def about(self, driver: str) -> dict[str, Any]:
        """The recorded facts of a device type. NotModelledError if there are none."""
        try:
            facts: dict[str, Any] = self._vm.profile.part("devices").get(driver)
        except KeyError:
            raise NotModelledError(f"device {driver}") from None
        return facts

    def alias_of(self, driver: str) -> str | None:
        """The short name of a device type."""
        try:
            alias: str | None = self._vm.profile.part("devices").get(driver, "class", "alias")
        except KeyError:
            return None
        return alias

    def driver(self, name: str) -> str:
        """The device type that `name` or alias `name` means. Raises QapiError."""
        profile = self._vm.profile
        driver = name
        if driver not in profile.qom_types:
            devices = profile.part("devices")
            driver = next(
                (d for d in devices if devices.get(d, "class", "alias") == name), driver
            )
        if driver not in profile.qom_types or not profile.is_a(driver, "device"):
            raise QapiError(f"'{name}' is not a valid device model name")
        if profile.qom_types[driver].abstract:
            raise QapiError(texts.parameter_expects("driver", "a non-abstract device type"))
        not_pluggable = texts.parameter_expects("driver", "a pluggable device type")
        facts = self.about(driver)
        if not facts["class"]["user"] or (
            self._vm.process.phases.ready and facts.get("hotplug") == not_pluggable
        ):
            raise QapiError(not_pluggable)
        return driver

    # -- plugging ----------------------------------------------------------------------------

    def create(self, options: Mapping[str, Any], *, typed: bool) -> DeviceObject:
        """Make and plug a device: `-device`, device_add. Raises QapiError.

        `typed`: values are JSON; otherwise all are texts.
        """
        name = options.get("driver")
        if not isinstance(name, str):
            raise QapiError(texts.missing_parameter("driver"))
        driver = self.driver(name)
        bus = self._bus(driver, options)
        if self._vm.migration.running:
            if self._vm.profile.traits.device_add_asks_bus_first:
                self._check_bus(bus)
            raise QapiError("device_add not allowed while migrating")
        facts = self.about(driver)
        if self._vm.process.phases.ready:
            self._check_hotplug(driver, facts, bus)
        id = options.get("id")
        id = id if isinstance(id, str) else None
        if id is not None:
            self._check_id(id)
        given = {k: v for k, v in options.items() if k not in ("driver", "bus", "id")}
        if reads.log is not None:
            given = reads.log.flat(given, f"device {driver}")
        if self._vm.profile.is_a(driver, "cpu"):
            return attach.plug_cpu(self._vm, driver, id, given, typed=typed)
        if facts.get("tree") is None:
            self._refuse(driver, facts, given, typed=typed)
        device = self._make(driver, facts, id)
        self.enter(device, id)
        try:
            deviceproperties.apply_defaults(self._vm, device)
            for key, value in qdict.items(given):
                deviceproperties.set_property(self._vm, device, key, value, typed=typed)
            migratability.check_device(self._vm, driver)
            # a memory module is refused by the machine first, in its own order
            module = self._vm.profile.is_a(driver, "pc-dimm")
            required = None if module else partial(self._check_required, facts, given)
            attach.realize(self._vm, device, bus, required)
            self._may_block_migration(device)
        except BaseException:
            self._vm.block.unrealize(device)
            device.remove()
            raise
        for listener in tuple(self.on_added):
            listener(device)
        return device

    def _may_block_migration(self, device: DeviceObject) -> None:
        try:
            migratability.device_added(self._vm, device)
        except QapiError:
            migratability.device_removed(self._vm, device)
            attach.unrealize(self._vm, device)
            raise

    def _bus(self, driver: str, options: Mapping[str, Any]) -> buses.Bus | None:
        kind = self.about(driver)["class"]["bus"]
        path = options.get("bus")
        if isinstance(path, str):
            bus = buses.find_by_path(self._vm, path)
            if kind is None or not bus.is_a(kind):
                raise QapiError(f"Device '{driver}' can't go on {bus.type} bus")
            return bus
        if kind is None:
            return None
        found = buses.find_by_kind(self._vm, kind)
        if found is not None and found.full and self._vm.profile.traits.full_bus_named:
            raise QapiError(f"A '{kind}' bus was found but is full")
        if found is None or found.full:
            raise QapiError(f"No '{kind}' bus found for device '{driver}'")
        return found

    def _check_hotplug(self, driver: str, facts: dict[str, Any], bus: buses.Bus | None) -> None:
        never = f"Device '{driver}' does not support hotplugging"
        if facts.get("hotplug") == never:
            raise QapiError(never)
        self._check_bus(bus)
        nowhere = f"Device '{driver}' can not be hotplugged on this machine"
        if facts.get("hotplug") == nowhere or (bus is None and not self._is_handled(driver)):
            raise QapiError(nowhere)

    @staticmethod
    def _check_bus(bus: buses.Bus | None) -> None:
        if bus is not None and not bus.hotpluggable:
            raise QapiError(f"Bus '{bus.name}' does not support hotplugging")

    def _is_handled(self, driver: str) -> bool:
        """Whether the machine itself takes devices of a type that sit on no bus."""
        machine = self._vm.state.type
        kinds = ["cpu"]
        if machine is not None and self._vm.profile.is_a(machine.typename, "generic-pc-machine"):
            kinds += ["pc-dimm", "x86-iommu", "sgx-epc"]
        return any(self._vm.profile.is_a(driver, kind) for kind in kinds)

    def _check_id(self, id: str) -> None:
        if self._vm.profile.traits.qdev_id_checked and not is_identifier(id):
            raise QapiError(f"Invalid qdev ID '{id}'")
        if self._vm.qom.container("/machine/peripheral").has(id):
            raise QapiError(f"Duplicate device ID '{id}'")

    @staticmethod
    def _check_required(facts: dict[str, Any], given: Mapping[str, Any]) -> None:
        if facts.get("error") and not any(given.get(name) for name in facts["options"]):
            raise QapiError(facts["error"])

    def _refuse(
        self, driver: str, facts: dict[str, Any], given: Mapping[str, Any], *, typed: bool
    ) -> NoReturn:
        """A type that could not be recorded: say what is wrong with its options, if anything."""
        probe = DeviceObject(driver)
        try:
            for key, value in qdict.items(given):
                deviceproperties.set_property(self._vm, probe, key, value, typed=typed)
            migratability.check_device(self._vm, driver)
            if (refusal := migratability.refusal(self._vm, driver, given)) is not None:
                raise refusal
            devicechecks.check(self._vm, probe)
        finally:
            self._vm.block.unrealize(probe)
        if not given and facts.get("error"):
            raise QapiError(facts["error"])
        raise NotModelledError(f"device {driver}")

    def _make(self, driver: str, facts: dict[str, Any], id: str | None) -> DeviceObject:
        if facts.get("tree") is None:
            raise NotModelledError(f"device {driver}")
        box: list[DeviceObject] = []

        def rename(text: str) -> str:
            if text.startswith(_PROBE):
                return box[0].path + text[len(_PROBE) :]
            if text == "probe" or text.startswith("probe."):
                return (id if id is not None else self._automatic(driver)) + text[5:]
            return text

        def make(type: str) -> QomObject:
            device = self._vm.profile.is_a(type, "device")
            obj = DeviceObject(type) if device else QomObject(type)
            if not box and isinstance(obj, DeviceObject):
                box.append(obj)
            return obj

        device = lazily(node_of(facts["tree"]), rename, make)
        assert isinstance(device, DeviceObject)
        device.id = id
        deviceproperties.alias_inner(self._vm, device)
        device.values["hotplugged"] = self._vm.process.phases.ready
        device.values["realized"] = True
        return device

    def bare(self, driver: str) -> DeviceObject:
        """A device of a type that is neither plugged nor in the tree: one of the board's."""
        return self._make(driver, self.about(driver), None)

    def plug_unattached(self, driver: str, bus: buses.Bus) -> None:
        """Plug a device that QEMU adds by itself. Raises QapiError."""
        device = self.bare(driver)
        unattached = self._vm.qom.container("/machine/unattached")
        number = 0
        while unattached.has(f"device[{number}]"):
            number += 1
        unattached.add_child(f"device[{number}]", device)
        try:
            attach.realize(self._vm, device, bus)
        except BaseException:
            device.remove()
            raise

    def _automatic(self, driver: str) -> str:
        """The start of a bus's name when its device has no id."""
        return driver

    def enter(self, device: DeviceObject, id: str | None) -> None:
        """Put `device` into the tree where users' devices are."""
        if id is not None:
            self._vm.qom.container("/machine/peripheral").add_child(id, device)
            return
        self._vm.qom.container("/machine/peripheral-anon").add_child(
            f"device[{self._anonymous}]", device
        )
        self._anonymous += 1

    # -- unplugging --------------------------------------------------------------------------

    def find(self, id: str) -> DeviceObject:
        """The device called `id`, or at absolute path `id`. Raises QapiError."""
        if id.startswith("/"):
            found = self._vm.qom.at(id)
        else:
            found = self._vm.qom.at(f"/machine/peripheral/{id}")
        if found is None:
            raise DeviceNotFoundError(texts.device_not_found(id))
        if not isinstance(found, DeviceObject):
            raise QapiError(self._vm.profile.traits.not_a_device.format(id))
        return found

    def remove(self, id: str) -> None:
        """What device_del does: take the device out, or ask the guest to. Raises QapiError."""
        device = self.find(id)
        module = memorydevices.is_module(self._vm.profile, device)
        if device.unplug_pending and not module:
            raise QapiError(f"Device {id} is already in the process of unplug")
        cpu = self._vm.cpus.of(device)
        if cpu is not None:
            attach.unplug_cpu(self._vm, cpu)
            return
        bus = device.bus if device.bus is not None else self._bus_of(device)
        if bus is not None and not bus.hotpluggable:
            raise QapiError(f"Bus '{bus.name}' does not support hotplugging")
        never = f"Device '{device.type}' does not support hotplugging"
        if self.about(device.type).get("hotplug") == never:
            raise QapiError(never)
        if self._vm.migration.running:
            raise QapiError("device_del not allowed while migrating")
        if module:
            memorydevices.check_unplug(self._vm.state)
        if module or attach.asks_guest(self._vm, device):
            device.unplug_pending = True
            for listener in tuple(self.on_unplug_request):
                listener(device)
        else:
            self.gone(device)

    def _bus_of(self, device: DeviceObject) -> buses.Bus | None:
        where = device.values.get("parent_bus")
        path = where() if callable(where) else where
        obj = self._vm.qom.at(path) if path else None
        return buses.Bus(self._vm, obj) if obj is not None else None

    def gone(self, device: DeviceObject) -> None:
        """Take `device` out at once: DEVICE_DELETED for it and the devices inside."""
        path = device.path
        attach.unrealize(self._vm, device)
        migratability.device_removed(self._vm, device)
        for child in tuple(device.children.values()):
            if isinstance(child, DeviceObject) and self._vm.profile.is_a(
                child.type, "virtio-device"
            ):
                self._vm.events.emit("DEVICE_DELETED", {"path": child.path})
        device.remove()
        data = {"device": device.id} if device.id is not None else {}
        self._vm.events.emit("DEVICE_DELETED", {**data, "path": path})
        for listener in tuple(self.on_removed):
            listener(device)

    def user_devices(self) -> list[DeviceObject]:
        """Devices that users made, those with ids first."""
        return user_devices(self._vm.qom)

    def _finish_unplug(self) -> None:
        for device in reversed(self.user_devices()):
            # a guest that starts anew is asked for memory again
            if device.unplug_pending and not memorydevices.is_module(self._vm.profile, device):
                self.gone(device)


def lazily(
    node: TreeObject, rename: Callable[[str], str], make: Callable[[str], QomObject]
) -> QomObject:
    """As `from_recorded`, but values that name paths are worked out when asked for.

    The device's own path is not known before it is in the tree.
    """
    obj = from_recorded(node, make=make)
    for name, value in node.values.items():
        if isinstance(value, str) and value.startswith("/machine/"):
            obj.values[name] = partial(rename, value)
    obj.replace_children(
        {
            rename(name): partial(lazily, child, rename, make)
            for name, child in node.children.items()
        }
    )
    return obj
