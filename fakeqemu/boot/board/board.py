"""The machine object and what its board brings along, built from the recorded tree.

What was recorded is one fresh machine with one default CPU. Here it is made into the machine
that was asked for: more CPUs, other CPU models, other memory.

See hw/core/machine.c: machine_run_board_init(); hw/i386/pc_piix.c: pc_init1(); hw/i386/pc_q35.c:
pc_q35_init(); qom/object.c: object_apply_global_props().
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fakeqemu.boot.board import drives, nics, switches, usb
from fakeqemu.boot.board.numbering import Numbering
from fakeqemu.boot.board.onboard import apply_globals, create_cpu
from fakeqemu.boot.board.vga import add_vga
from fakeqemu.model.boards.board import (
    MachineObject,
    inserted_at,
    maker,
    recorded_tree,
)
from fakeqemu.model.boards.guest_memory import below_4g
from fakeqemu.model.qdev.device import DeviceObject
from fakeqemu.model.qom.tree import QomObject, from_recorded
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import Port
    from fakeqemu.model.chardev.chardevs import Chardevs
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import MachineType, Profile, TreeObject

_MEMORY_BACKEND = "memory-backend"
_SOUTH_BRIDGE = "PIIX3"
#: options that also show what was chosen: of pseries machines, of Arm boards
_IC_MODE, _GIC = "ic-mode", "gic-version"
#: a device of the board that has an id; see hw/arm/virt.c: create_platform_bus()
_PLATFORM_BUS = "platform-bus-device"
#: a CPU that is a device of the machine, or a thread of a core that is one
_CPU = re.compile(r"unattached/device\[(\d+)\](/thread\[0\])?")
_CONTAINERS = ("peripheral", "peripheral-anon", "unattached")


class ChardevContainer(QomObject):
    """The object `/chardevs`: whatever character devices there are at the moment."""

    def __init__(self, chardevs: Chardevs, profile: Profile) -> None:
        super().__init__("container")
        self._chardevs = chardevs
        self._profile = profile
        self._seen: dict[str, QomObject] = {}

    @property
    def children(self) -> dict[str, QomObject]:
        """One object for each character device."""
        found: dict[str, QomObject] = {}
        for id, chardev in self._chardevs.items():
            obj = self._seen.get(id)
            type = f"chardev-{chardev.backend}"
            if obj is None or obj.type != type:
                obj = self._object(id, type)
            found[id] = obj
        self._seen = found
        return found

    def _object(self, id: str, type: str) -> QomObject:
        obj = QomObject(type)
        obj.name, obj.parent = id, self
        try:
            entries = self._profile.qom_properties(type)
        except KeyError:
            entries = []
        obj.own_shapes().update((e["name"], e["type"]) for e in entries)
        if "connected" in obj.shapes:
            obj.values["connected"] = lambda: self._chardevs[id].connected
        return obj


def create_machine(vm: Machine, machine: MachineType) -> None:
    """Make the machine object, without its board, and the containers around it."""
    vm.state.type = machine
    tree = recorded_tree(vm.state, machine)
    node = tree.at("machine")
    made_late = () if vm.profile.traits.objects_container_first else ("objects",)
    vm.qom.start_anew([n for n in tree.children if n != "machine" and n not in made_late])
    vm.qom.root.children["chardevs"] = _chardev_container(vm)
    plain = {entry["name"] for entry in vm.profile.machine_properties(machine)}
    obj = MachineObject(machine.typename)
    obj.order = [name for name, _ in node.properties]
    for name, shape in node.properties:
        if name in plain and not shape.startswith("child<"):
            obj.own_shapes()[name] = shape
            if name in node.values:
                obj.values[name] = node.values[name]
    obj.values["type"] = machine.typename
    if _MEMORY_BACKEND in obj.values:
        obj.values[_MEMORY_BACKEND] = ""
    vm.qom.root.add_child("machine", obj)
    _order_as_made(vm)
    for name in _CONTAINERS:
        obj.add_child(name, QomObject("container"))
    _follow_model(vm, obj)


def create_board(vm: Machine) -> list[Port]:
    """Make what the board consists of: CPUs, chips, buses. Returns the ports that it takes."""
    machine = vm.state.type
    if machine is None:
        raise RuntimeError("no machine to make a board for")
    chosen = vm.qom.container("/machine").values
    if _GIC in chosen:
        from fakeqemu.model.boards.targets.variants import choose_gic

        choose_gic(vm.state, vm.cpus.topology.maxcpus)
    node = recorded_tree(vm.state, machine).at("machine")
    if _GIC in chosen:
        chosen[_GIC] = node.values[_GIC]
    facts = vm.profile.per_machine(machine.name)
    cpu_type = facts["cpus"][0].get("qom-type") if facts["cpus"] else None
    first = facts["cpus"][0]["qom-path"].removeprefix("/machine/") if facts["cpus"] else None
    if first is not None:
        cpu_type = node.at(first).type
    vm.cpus.type = vm.cpus.type or cpu_type or ""
    numbering = Numbering(node.at("unattached"), _usual(vm, machine).at("machine/unattached"))
    is_pc = vm.state.is_a("x86-machine")
    of_other_target = first is not None and not is_pc
    if of_other_target:
        from fakeqemu.boot.board import cpu_parts

        cpu_parts.add_controllers(vm, numbering)
    without = None
    if _IC_MODE in chosen:
        from fakeqemu.model.boards.targets import spapr_irq

        chosen[_IC_MODE] = spapr_irq.mode_of(chosen[_IC_MODE], vm.cpus.type)
        without = spapr_irq.left_out(chosen[_IC_MODE])
        for number in numbering.find(lambda obj: obj.type == without):
            numbering.leave_out(number)
    _plan(vm, node, numbering, first)
    rename = numbering.rename
    obj = vm.qom.container("/machine")
    whole = from_recorded(node, rename=rename, make=maker(vm.profile))
    for name, shape in whole.shapes.items():
        if name not in obj.shapes:
            obj.own_shapes()[name] = shape
            if name in whole.values:
                obj.values[name] = whole.values[name]
    for name, child in whole.children.items():
        if name == without:
            continue
        if name in _CONTAINERS:
            # which numbers there are decides the order, not what has them
            obj.children[name].order = [name for name, _ in node.children[name].properties]
            for below, grandchild in list(child.children.items()):
                _move(grandchild, obj.children[name], below)
                if grandchild.type == _PLATFORM_BUS and isinstance(grandchild, DeviceObject):
                    grandchild.id = _PLATFORM_BUS
        else:
            _move(child, obj, name)
    for name in numbering.left_out():
        obj.children["unattached"].forget_child(name)
    apply_globals(vm, obj)
    _set_memory_of_bridge(vm, obj)
    if of_other_target:
        from fakeqemu.model.boards.targets.spapr_vio import name_devices

        name_devices(obj.children["unattached"])
    for number, make in numbering.makers():
        make(number)
    if vm.cpus.type and first is not None and not len(vm.cpus):
        from fakeqemu.boot.board import cpu_parts

        cpu_parts.create_on_chips(vm, node, first)
    nics.apply_globals_to_nics(vm)
    vm.buses.put_in_order()
    obj.children["unattached"].never_had_others()
    vm.lifecycle.wakeup_support = facts["current-machine"]["wakeup-suspend-support"]
    if is_pc:
        return vm.ports
    from fakeqemu.boot.board.ports import wire_ports

    if of_other_target:
        vm.devices.take_usb_ports()
        from fakeqemu.model.boards.targets.by_cpus import grow

        grow(obj, vm.cpus.topology, cpu_parts.sockets_of(vm), vm.cpus.type)
        if vm.state.is_a("spapr-machine"):
            from fakeqemu.model.boards.targets import spapr_drc

            spapr_drc.add_for_memory(vm.state)
            for core in vm.cpus.cores():
                spapr_drc.attach(vm.state, core)
    unused = wire_ports(vm.state, vm.ports, _usual(vm, machine).at("machine"))
    return [port for port in vm.ports if port not in unused]


def _usual(vm: Machine, machine: MachineType) -> TreeObject:
    """The recorded tree of such a machine with its default devices, or without if that is all."""
    try:
        return vm.profile.object_tree(machine.name, defaults=True)
    except KeyError:
        return recorded_tree(vm.state, machine)


def _plan(vm: Machine, node: TreeObject, numbering: Numbering, first_cpu: str | None) -> None:
    """What the board makes, and leaves out, besides what was recorded.

    Where the board makes several at one place they come in the order of these calls.
    `first_cpu`: where in `node` the recorded CPU is.
    """
    properties = vm.qom.container("/machine").values
    switches.leave_out(
        properties,
        vm.configuration.machine_options,
        numbering,
        checked=vm.profile.traits.vmport_needs_i8042,
    )
    if properties.get("acpi") in switches.OFF:
        for number in numbering.find(lambda obj: obj.type == _SOUTH_BRIDGE):
            numbering.keep(number, partial(_remove_pm, vm))
    if speaker := properties.get("pcspk-audiodev"):
        for number in numbering.find(lambda obj: obj.type == "isa-pcspk"):
            numbering.keep(number, partial(_connect_speaker, vm, speaker))
    if vm.cpus.type and first_cpu is not None:
        _plan_cpus(vm, node, numbering, first_cpu)
    if properties.get("isa-serial", True):
        from fakeqemu.boot.board.ports import add_ports

        add_ports(vm.state, vm.ports, numbering, partial(_create_port, vm))
    drives.add_floppies(vm, numbering)
    add_vga(vm, numbering)
    drives.add_disks(vm, numbering)
    usb.add_controllers(vm, numbering)
    nics.add_nics(vm, numbering)


def _connect_speaker(vm: Machine, audiodev: str, number: int) -> None:
    device = vm.qom.container("/machine/unattached").child(f"device[{number}]")
    assert device is not None
    device.values["audiodev"] = audiodev


def _plan_cpus(vm: Machine, node: TreeObject, numbering: Numbering, first: str) -> None:
    """Have the CPUs made that number devices; `first`: where the recorded one is in `node`."""
    found = _CPU.fullmatch(first)
    if found is None:
        return
    number = int(found[1])
    device = node.at(f"unattached/device[{number}]")
    step, create = 1, create_cpu
    if found[2] is not None:
        from fakeqemu.boot.board import cpu_parts

        step, create = vm.cpus.topology.levels["threads"], cpu_parts.create_core
    numbering.keep(number, partial(create, vm, device, 0, numbering.rename))
    for index in range(step, vm.cpus.topology.cpus, step):
        make = partial(create, vm, device, index, numbering.rename)
        numbering.add(number + inserted_at(node) - 1, make)


def _order_as_made(vm: Machine) -> None:
    """The tree's containers in the order in which QEMU makes them: it decides how they are listed.

    See system/vl.c: qemu_create_machine(); qom/object.c: object_get_root().
    """
    objects_first = vm.profile.traits.objects_container_first
    first = ["objects", "machine"] if objects_first else ["machine", "objects"]
    children = vm.qom.root.children
    order = [name for name in (*first, "chardevs", "backend") if name in children]
    for name in (*order, *(name for name in list(children) if name not in order)):
        children[name] = children.pop(name)


def _chardev_container(vm: Machine) -> QomObject:
    """The container of character devices, in its place in the tree."""
    container = ChardevContainer(vm.chardevs, vm.profile)
    container.name, container.parent = "chardevs", vm.qom.root
    return container


def use_memory(vm: Machine, backend: str) -> int:
    """Make the backend `backend` the machine's memory; its bytes. Raises QapiError without it."""
    obj = vm.objects.get(backend)
    if obj is None or not vm.profile.is_a(obj.type, "memory-backend"):
        raise QapiError(f"Memory backend '{backend}' not found")
    vm.qom.container("/machine").values[_MEMORY_BACKEND] = obj.path
    return int(obj.get("size"))


def create_memory(vm: Machine) -> None:
    """The machine's own memory, unless backends that were named are it. Raises QapiError."""
    own = vm.state.type.default_ram_id if vm.state.type is not None else None
    named = vm.qom.container("/machine").values.get(_MEMORY_BACKEND)
    backend = vm.qom.at(named) if named else None
    if backend is not None:
        if backend.get("size") != vm.state.memory.size:
            raise QapiError("Machine memory size does not match the size of the memory backend")
        return
    if not vm.state.memory.size or not own or vm.numa.has_memdevs:
        return
    if vm.objects.get(own) is not None:
        text, hint = vm.profile.traits.memory_name_taken
        raise QapiError(text.format(own), hint.format(own))
    path = vm.configuration.mem_path
    kind = "memory-backend-ram" if path is None else "memory-backend-file"
    options: dict[str, Any] = {"qom-type": kind, "id": own, "size": vm.state.memory.size}
    if path is not None:
        options["mem-path"] = path
        options["prealloc"] = vm.configuration.mem_prealloc
    vm.objects.add(options)
    use_memory(vm, own)


def _move(child: QomObject, parent: QomObject, name: str) -> None:
    child.parent = None
    parent.add_child(name, child)


def _follow_model(vm: Machine, obj: MachineObject) -> None:
    """Let properties that the model knows show its values."""
    members = tuple(obj.values.get("smp", ()))
    computed: dict[str, Callable[[], Any]] = {
        "smp": lambda: vm.cpus.topology.property(members),
        "memory": vm.state.memory.property,
    }
    obj.computed.update({name: get for name, get in computed.items() if name in obj.shapes})


def _set_memory_of_bridge(vm: Machine, machine: QomObject) -> None:
    """The host bridge's properties about the memory that it leaves room for."""
    size = vm.state.memory.size
    low = below_4g(vm.state, size)
    for bridge in machine.children.values():
        for name, value in (("below-4g-mem-size", low), ("above-4g-mem-size", size - low)):
            if name in bridge.values:
                bridge.values[name] = value


def _remove_pm(vm: Machine, number: int) -> None:
    """Without ACPI the south bridge has no power management, which plugs PCI devices."""
    south = vm.qom.container("/machine/unattached").child(f"device[{number}]")
    assert south is not None
    pm = south.child("pm")
    if pm is None:
        return
    for bus in vm.buses.all():
        if bus.object.values.get("hotplug-handler") == pm.path:
            bus.object.values["hotplug-handler"] = ""
    south.values["has-acpi"] = False
    pm.remove()


def _create_port(
    vm: Machine, model: TreeObject, properties: dict[str, int | str], number: int
) -> None:
    """Make a port like a recorded one."""
    obj = from_recorded(model, make=maker(vm.profile))
    assert isinstance(obj, DeviceObject)
    obj.values.update({name: v for name, v in properties.items() if name in obj.shapes})
    vm.qom.container("/machine/unattached").add_child(f"device[{number}]", obj)
    bus = vm.buses.find_by_kind("ISA")
    assert bus is not None, "a recorded board with ports has such a bus"
    bus.add(obj)
    apply_globals(vm, obj)
