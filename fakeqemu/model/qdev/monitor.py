"""Plugging and unplugging devices: the checks of device_add in QEMU's order, and what follows.

What a device of a type looks like, what refuses it when nothing is given, and whether it can
be hot-plugged are recorded (profile part `devices`); what a property takes is decided in
`properties`, what a bus demands in `realize`.

See system/qdev-monitor.c: qdev_device_add_from_qdict(), qmp_device_add(), qdev_unplug() and
qmp_device_del().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from fakeqemu.model.boards.machine_state import plugged_by_machine
from fakeqemu.model.boards.memory_devices import pc_dimm
from fakeqemu.model.boards.memory_devices.address_space import is_memory_device
from fakeqemu.model.qdev import migration_blockers as migratability
from fakeqemu.model.qdev.device import DeviceObject, find_device, user_devices
from fakeqemu.model.qdev.properties import Properties, alias_inner, owner
from fakeqemu.model.qdev.realize import Realizer
from fakeqemu.model.qdev.realize_checks import RealizeChecks, Unrecorded, check_unset
from fakeqemu.model.qdev.recorded import about, cannot_hotplug, check_required, device_of, driver_of
from fakeqemu.model.qdev.usb_ports import HUB, UsbPorts
from fakeqemu.profile.facts import TreeObject
from fakeqemu.qapi import qdict, reads, texts
from fakeqemu.qapi.errors import NotModelledError, QapiError
from fakeqemu.qapi.readers.scalars import is_identifier

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpus
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.hw.vfio import VfioDevices
    from fakeqemu.model.lifecycle import Lifecycle
    from fakeqemu.model.migration import CurrentMigration
    from fakeqemu.model.net.failover import Failover
    from fakeqemu.model.process import Process
    from fakeqemu.model.qdev.backends import DeviceBackends
    from fakeqemu.model.qdev.bus import Bus, Buses

#: what devices need that say so themselves if they lack it
_OWN_ORDER = {"tpmdev", "bus_nr"}
#: what goes into a slot for CPUs
_CPUS = ("cpu", "spapr-cpu-core")


class Devices:
    """The devices of one machine that users made."""

    def __init__(
        self,
        process: Process,
        state: MachineState,
        cpus: Cpus,
        numa: Numa,
        *,
        lifecycle: Lifecycle,
        buses: Buses,
        backends: DeviceBackends,
        migration: CurrentMigration,
        vfio: VfioDevices,
    ) -> None:
        self._process = process
        self._profile = process.profile
        self._state = state
        self._qom = state.qom
        self._cpus = cpus
        self.buses = buses
        self._backends = backends
        self._migration = migration
        self._anonymous = 0
        self._entered = 0
        #: sets the properties of devices that are being made
        self.properties = Properties(state, backends, process.host.warn)
        self._checks = RealizeChecks(process.host, state, numa, backends)
        self._vfio = vfio
        usb = UsbPorts(process.profile, self._plug_hub, self.gone)
        self._realizer = Realizer(process, state.qom, usb, self._checks, backends)
        #: called with each device when it is there, and when it has gone
        self.on_added: list[Callable[[DeviceObject], None]] = []
        self.on_removed: list[Callable[[DeviceObject], None]] = []
        #: called with a device that the guest is asked to release
        self.on_unplug_request: list[Callable[[DeviceObject], None]] = []
        lifecycle.on_reset.append(self._release_connectors)
        lifecycle.after_reset.append(self._finish_unplug)

    # -- plugging ----------------------------------------------------------------------------

    def create(
        self, options: Mapping[str, Any], *, typed: bool, monitor: Any = None
    ) -> DeviceObject | None:
        """Make and plug a device, if it is not hidden: `-device`, device_add. Raises QapiError.

        `typed`: values are JSON; otherwise all are texts. `monitor`: whose named descriptors
        count.
        """
        name = options.get("driver")
        if not isinstance(name, str):
            raise QapiError(texts.missing_parameter("driver"))
        driver = driver_of(self._state, name, ready=self._process.phases.ready)
        bus = self._bus(driver, options)
        if "failover_pair_id" in options and self._failover.hides(options, bus):
            return None
        if self._migration.running:
            if self._profile.traits.device_add_asks_bus_first:
                self._check_bus(bus)
            raise QapiError("device_add not allowed while migrating")
        facts = about(self._profile, driver)
        if self._process.phases.ready:
            self._check_hotplug(driver, facts, bus)
        id = options.get("id")
        id = id if isinstance(id, str) else None
        if id is not None:
            self._check_id(id)
        given = {k: v for k, v in options.items() if k not in ("driver", "bus", "id")}
        if reads.log is not None:
            given = reads.log.flat(given, f"device {driver}")
        if any(self._profile.is_a(driver, kind) for kind in _CPUS):
            from fakeqemu.model.boards import cpu_hotplug

            where = cpu_hotplug.Where(self._state, self._cpus, self.properties, self.enter)
            return cpu_hotplug.plug(where, driver, given, id=id, typed=typed)
        if facts.get("tree") is None:
            unrecorded = Unrecorded(driver, facts, given)
            self._checks.refuse(unrecorded, self.properties, self._vfio, monitor, typed=typed)
        device = self._make(driver, facts, id)
        self.enter(device, id)
        try:
            self.properties.apply_defaults(device)
            for key, value in qdict.items(given):
                check_unset(self._state, device, owner(self._profile, device, key), key, value)
                self.properties.set(device, key, value, typed=typed)
            migratability.check_device(self._state, driver)
            # memory modules, TPMs, expanders are refused in an order of their own
            own_order = self._profile.is_a(driver, "pc-dimm") or _OWN_ORDER & {*facts["options"]}
            known = {name: device.values.get(name) for name in device.given} | dict(given)
            required = None if own_order else partial(check_required, facts, known)
            self._realizer.realize(device, bus, required)
            if "host" in facts:
                from fakeqemu.model.hw.pci_bridge import expander

                expander.add_root_bus(self, device, facts)
            self._may_block_migration(device)
        except BaseException:
            self._backends.release_drive(device)
            device.remove()
            raise
        for listener in tuple(self.on_added):
            listener(device)
        return device

    @cached_property
    def _failover(self) -> Failover:
        from fakeqemu.model.net.failover import Failover

        return Failover(self._process, self._qom)

    def _may_block_migration(self, device: DeviceObject) -> None:
        try:
            migratability.device_added(self._profile, self._migration.object, device)
        except QapiError:
            migratability.device_removed(self._migration.object, device)
            self._realizer.unrealize(device)
            raise

    def _bus(self, driver: str, options: Mapping[str, Any]) -> Bus | None:
        kind = about(self._profile, driver)["class"]["bus"]
        path = options.get("bus")
        if isinstance(path, str):
            bus = self.buses.find_by_path(path)
            if kind is None or not bus.is_a(kind):
                raise QapiError(f"Device '{driver}' can't go on {bus.type} bus")
            return bus
        if kind is None:
            return None
        found = self.buses.find_by_kind(kind)
        if found is not None and found.full and self._profile.traits.full_bus_named:
            raise QapiError(f"A '{kind}' bus was found but is full")
        if found is None or found.full:
            raise QapiError(f"No '{kind}' bus found for device '{driver}'")
        return found

    def _check_hotplug(self, driver: str, facts: dict[str, Any], bus: Bus | None) -> None:
        never = cannot_hotplug(driver)
        if facts.get("hotplug") == never:
            raise QapiError(never)
        self._check_bus(bus)
        nowhere = f"Device '{driver}' can not be hotplugged on this machine"
        never_there = facts.get("hotplug") == nowhere and not self._profile.is_a(driver, "cpu")
        if never_there or (bus is None and not self._is_handled(driver)):
            raise QapiError(nowhere)

    @staticmethod
    def _check_bus(bus: Bus | None) -> None:
        if bus is not None and not bus.hotpluggable:
            raise QapiError(f"Bus '{bus.name}' does not support hotplugging")

    def _is_handled(self, driver: str) -> bool:
        """Whether the machine itself takes devices of a type that sit on no bus."""
        kinds = plugged_by_machine(self._state)
        return any(self._profile.is_a(driver, kind) for kind in kinds)

    def _check_id(self, id: str) -> None:
        if self._profile.traits.qdev_id_checked and not is_identifier(id):
            raise QapiError(f"Invalid qdev ID '{id}'")
        if self._qom.container("/machine/peripheral").has(id):
            raise QapiError(f"Duplicate device ID '{id}'")

    def _make(self, driver: str, facts: dict[str, Any], id: str | None) -> DeviceObject:
        if facts.get("tree") is None:
            raise NotModelledError(f"device {driver}")
        device = device_of(self._profile, TreeObject.of(facts["tree"]), id, self.buses)
        device.id = id
        alias_inner(self._profile, device)
        device.values["hotplugged"] = self._process.phases.ready
        device.values["realized"] = True
        device.slot_powered = not self._process.phases.ready
        return device

    def bare(self, driver: str) -> DeviceObject:
        """A device of a type that is neither plugged nor in the tree: one of the board's."""
        return self._make(driver, about(self._profile, driver), None)

    def plug_unattached(self, driver: str, bus: Bus) -> None:
        """Plug a device that QEMU adds by itself. Raises QapiError."""
        device = self.add_onboard(about(self._profile, driver)["tree"], None)
        try:
            self._realizer.realize(device, bus)
        except BaseException:
            device.remove()
            raise

    def add_onboard(self, tree: dict[str, Any], id: str | None) -> DeviceObject:
        """A device as `tree` shows it, in the tree where QEMU's own devices are."""
        device = self._make(tree["type"], {"tree": tree}, id)
        unattached = self._qom.container("/machine/unattached")
        number = 0
        while unattached.has(f"device[{number}]"):
            number += 1
        unattached.add_child(f"device[{number}]", device)
        return device

    def realize(self, device: DeviceObject, bus: Bus) -> None:
        """Put a device of the board on its bus. Raises QapiError."""
        self._realizer.realize(device, bus)

    def take_usb_ports(self) -> None:
        """Have the board's USB devices sit down in ports."""
        self._realizer.take_usb_ports(self.buses.all())

    def _plug_hub(self, bus: Bus) -> None:
        self.plug_unattached(HUB, bus)

    def enter(self, device: DeviceObject, id: str | None) -> None:
        """Put `device` into the tree where users' devices are."""
        self._entered += 1
        device.number = self._entered
        if id is not None:
            self._qom.container("/machine/peripheral").add_child(id, device)
            return
        self._qom.container("/machine/peripheral-anon").add_child(
            f"device[{self._anonymous}]", device
        )
        self._anonymous += 1

    # -- unplugging --------------------------------------------------------------------------

    def find(self, id: str) -> DeviceObject:
        """The device called `id`, or at absolute path `id`. Raises QapiError."""
        return find_device(self._qom, self._profile.traits, id)

    def remove(self, id: str) -> None:
        """What device_del does: take the device out, or ask the guest to. Raises QapiError."""
        device = self.find(id)
        module = pc_dimm.is_module(self._profile, device)
        connectors = self._connectors(device)
        if device.unplug_pending and not (module or connectors):
            raise QapiError(f"Device {id} is already in the process of unplug")
        cpu = self._cpus.of(device)
        if cpu is not None:
            from fakeqemu.model.boards.cpu_hotplug import check_unplug

            check_unplug(self._state, cpu)
            return
        self.check_unplug(device)
        if self._migration.running:
            raise QapiError("device_del not allowed while migrating")
        if is_memory_device(self._profile, device):
            from fakeqemu.model.boards.memory_devices import devices as memory_devices

            memory_devices.check_unplug(self._state, device)
        # a machine without devices does not need it
        from fakeqemu.model.hw.pci_bridge import pcie_slots

        if connectors:
            for each in connectors.leaving_with(self._state, device):
                if each.slot_powered:
                    self._ask_guest(each)
                else:
                    self.gone(each, in_command=each.bus is not None)
        elif pcie_slots.lets_go_at_once(self._profile, device):
            for each in pcie_slots.leaving_with(device):
                self.gone(each, in_command=True)
        elif module or self._profile.is_a(device.type, "pci-device"):
            self._ask_guest(device)
        else:
            self.gone(device, in_command=True)

    def _ask_guest(self, device: DeviceObject) -> None:
        device.unplug_pending = True
        for listener in tuple(self.on_unplug_request):
            listener(device)

    def check_unplug(self, device: DeviceObject) -> None:
        """Whether a device can be taken out while the machine runs. Raises QapiError."""
        bus = device.bus if device.bus is not None else self._bus_of(device)
        if bus is not None and not bus.hotpluggable:
            raise QapiError(f"Bus '{bus.name}' does not support hotplugging")
        never = f"Device '{device.type}' does not support hotplugging"
        if about(self._profile, device.type).get("hotplug") == never:
            raise QapiError(never)

    def _bus_of(self, device: DeviceObject) -> Bus | None:
        where = device.values.get("parent_bus")
        path = where() if callable(where) else where
        obj = self._qom.at(path) if path else None
        return self.buses.at(obj) if obj is not None else None

    def gone(self, device: DeviceObject, *, in_command: bool = False) -> None:
        """Take `device` out at once; DEVICE_DELETED for it and the devices inside follow.

        A device is finalized by RCU's thread, so a command that removes one is answered before
        these events. See hw/core/qdev.c: bus_free_bus_child() and device_finalize().
        """
        path = device.path
        deleted: list[dict[str, Any]] = []
        self._realizer.unrealize(device)
        migratability.device_removed(self._migration.object, device)
        for child in tuple(device.children.values()):
            if isinstance(child, DeviceObject) and self._profile.is_a(child.type, "virtio-device"):
                deleted.append({"path": child.path})
        for cpu in self._cpus.within(device):
            from fakeqemu.model.boards import cpu_hotplug

            deleted += cpu_hotplug.leave(self._cpus, cpu, device)
        if (connectors := self._connectors(device)) is not None:
            connectors.detach(self._state, device)
        device.remove()
        deleted.append(({"device": device.id} if device.id is not None else {}) | {"path": path})
        announce = partial(self._announce_deleted, deleted)
        if not (in_command and self._process.host.yield_turn(announce)):
            announce()
        self._backends.release_drive(device)
        for listener in tuple(self.on_removed):
            listener(device)

    def _announce_deleted(self, deleted: list[dict[str, Any]]) -> None:
        if self._process.exit_code is None:
            for data in deleted:
                self._process.events.emit("DEVICE_DELETED", data)

    def user_devices(self) -> list[DeviceObject]:
        """Devices that users made, those with ids first."""
        return user_devices(self._qom)

    def _connectors(self, device: DeviceObject) -> Any:
        """What pseries machines do otherwise, where `device` hangs on a connector of theirs."""
        if not self._state.is_a("spapr-machine"):
            return None
        from fakeqemu.model.boards.targets import spapr_drc

        return spapr_drc if spapr_drc.has_connector(self._state, device) else None

    def _release_connectors(self, _cause: str) -> None:
        for device in self._everything():
            if device.unplug_pending and device.bus is None and self._connectors(device):
                self.gone(device)

    def _finish_unplug(self) -> None:
        for device in self._everything():
            device.slot_powered = True
            if not device.unplug_pending:
                continue
            from fakeqemu.model.hw.pci_bridge import pcie_slots

            # a guest that starts anew is asked for memory again
            module = pc_dimm.is_module(self._profile, device)
            kept = module or pcie_slots.is_native(self._profile, device.bus)
            if not kept or self._connectors(device):
                self.gone(device, in_command=True)

    def _everything(self) -> list[DeviceObject]:
        return [*reversed(self.user_devices()), *self._cpus.cores_of_board()]
