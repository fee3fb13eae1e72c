"""Commands of QAPI's machine modules: CPUs, memory, PCI, NUMA and who the machine is.

See hw/core/machine-qmp-cmds.c: qmp_query_cpus_fast(), qmp_query_hotpluggable_cpus(),
qmp_query_memory_devices() and qmp_set_numa_node().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.machine.unsupported import recorded
from fakeqemu.commands.registry import command, commands
from fakeqemu.model.boards import memory, pci_info as pci
from fakeqemu.model.boards.memory_devices import devices as memory_devices, pc_dimm
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError, error_of_class

Json = dict[str, Any]

_NO_UUID = "00000000-0000-0000-0000-000000000000"


@command("query-name")
def query_name(vm: Machine) -> Json:
    """NameInfo."""
    name = vm.configuration.name.guest
    return {} if name is None else {"name": name}


@command("query-uuid")
def query_uuid(vm: Machine) -> Json:
    """UuidInfo."""
    return {"UUID": (vm.configuration.uuid or _NO_UUID).lower()}


@command("query-kvm")
def query_kvm(vm: Machine) -> Json:
    """KvmInfo."""
    present = recorded(vm, "query-kvm")["present"]
    return {"enabled": vm.state.accelerator == "kvm", "present": present}


@command("query-accelerators")
def query_accelerators(vm: Machine) -> Json:
    """AcceleratorInfo."""
    return {**recorded(vm, "query-accelerators"), "enabled": vm.state.accelerator}


@command("query-hotpluggable-cpus")
def query_hotpluggable_cpus(vm: Machine) -> list[Json]:
    """HotpluggableCPU list."""
    machine = vm.state.type
    if machine is None or not machine.hotpluggable_cpus:
        raise QapiError(recorded_text(vm, "query-hotpluggable-cpus"))
    return vm.cpus.slots()


def recorded_text(vm: Machine, name: str) -> str:
    """The text of the recorded error of query `name`."""
    text: str = vm.profile.query(name)["error"]["desc"]
    return text


@command("query-memory-size-summary")
def query_memory_size_summary(vm: Machine) -> Json:
    """MemoryInfo; a program that was built without memory devices tells of none.

    See hw/mem/memory-device-stubs.c: get_plugged_memory_size().
    """
    found = {"base-memory": vm.state.memory.size}
    recorded = None if vm.state.type is None else vm.profile.per_machine(vm.state.type.name)
    if recorded is None or "plugged-memory" in recorded["memory"]:
        found["plugged-memory"] = memory_devices.plugged_size(vm.state)
    return found


@command("query-memory-devices")
def query_memory_devices(vm: Machine) -> list[Json]:
    """MemoryDeviceInfo list."""
    return memory_devices.describe_all(vm.state)


@command("query-vm-generation-id")
def query_vm_generation_id(vm: Machine) -> Json:
    """GuidInfo. Raises QapiError."""
    device = next((d for d in vm.devices.user_devices() if d.type == "vmgenid"), None)
    if device is None:
        raise QapiError("VM Generation ID device not found")
    return {"guid": device.values["guid"]}


@command("set-numa-node", raw=True)
def set_numa_node(vm: Machine, arguments: Json) -> None:
    """Describe NUMA while the boot waits in preconfig."""
    if vm.process.phases.reached("machine-initialized"):
        raise QapiError("The command is permitted only before the machine has been created")
    vm.numa.set_node(arguments)


@command("query-acpi-ospm-status")
def query_acpi_ospm_status(vm: Machine) -> list[Json]:
    """ACPIOSTInfo list: one entry for each slot of a memory module and of a CPU."""
    facts = vm.profile.per_machine(vm.state.type.name) if vm.state.type else None
    if facts is None or facts["acpi"] is None:
        error = vm.profile.query("query-acpi-ospm-status")["error"]
        raise error_of_class(error["class"], error["desc"])
    found: list[Json] = pc_dimm.slots(vm.state)
    slots = vm.cpus.topology.maxcpus if facts["acpi"] else 0
    for index in range(slots):
        cpu = vm.cpus.get(index)
        id = getattr(cpu.object, "id", None) if cpu is not None else None
        entry: Json = {} if id is None else {"device": id}
        found.append({**entry, "slot": str(index), "slot-type": "CPU", "source": 0, "status": 0})
    return found


def balloon_device(vm: Machine) -> Any:
    """The balloon that is plugged. Raises DeviceNotActive if there is none."""
    for device in vm.devices.user_devices():
        parts = (device, *device.children.values())
        if any(vm.profile.is_a(part.type, "virtio-balloon-device") for part in parts):
            return device
    raise error_of_class("DeviceNotActive", recorded_text(vm, "query-balloon"))


@command("query-balloon")
def query_balloon(vm: Machine) -> Json:
    """BalloonInfo: what the guest has kept."""
    balloon_device(vm)
    return {"actual": vm.guest.actual}


@command("balloon")
def balloon(vm: Machine, value: int) -> None:
    """Ask the guest for memory; whether it hears is its affair."""
    balloon_device(vm)
    if value <= 0:
        name = vm.profile.traits.balloon_parameter
        raise QapiError(f"Parameter '{name}' expects a size")
    vm.guest.balloon_asked(value)


def numa_text(vm: Machine) -> str:
    """What info numa prints."""
    text = f"{len(vm.numa.nodes)} nodes\n"
    for number in sorted(vm.numa.nodes):
        cpus = "".join(
            f" {cpu.index}" for cpu in vm.cpus.present() if vm.cpus.nodes.get(cpu.index) == number
        )
        size = vm.numa.nodes[number].mem >> 20
        text += f"node {number} cpus:{cpus}\nnode {number} size: {size} MB\n"
        text += f"node {number} plugged: 0 MB\n"
    return text


@command("rtc-reset-reinjection")
def rtc_reset_reinjection(vm: Machine) -> None:
    """Forget interrupts of the clock that the guest has missed."""


commands(
    {
        "query-cpus-fast": lambda vm: vm.cpus.fast(),
        "query-memdev": lambda vm: memory.memdevs(vm.qom, vm.profile),
        "query-pci": lambda vm: pci.query(vm.state, vm.buses),
        "x-query-numa": lambda vm: {"human-readable-text": numa_text(vm)},
    }
)
