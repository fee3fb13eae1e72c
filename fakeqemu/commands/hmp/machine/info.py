"""Human monitor commands that show the machine: `info ...`.

See hw/core/machine-hmp-cmds.c: hmp_info_cpus() and hmp_info_memdev(); hw/core/machine-qmp-cmds.c:
qmp_x_query_numa(); chardev/char-hmp-cmds.c: hmp_info_chardev(); net/net-hmp-cmds.c:
hmp_info_network(); hw/pci/pci-hmp-cmds.c: hmp_info_pci();
qom/qom-hmp-cmds.c: hmp_info_qom_tree().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.commands import char as chardev_commands
from fakeqemu.commands.hmp.registry import HmpMonitor, hmp
from fakeqemu.commands.machine import machine as machine_commands, qom as qom_commands
from fakeqemu.commands.machine.unsupported import recorded
from fakeqemu.model.boards import memory
from fakeqemu.model.boards.pci_info import query as query_pci
from fakeqemu.model.qdev import usb_ports as usbports
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.qom.tree import QomObject


@hmp("info version")
def version(vm: Machine) -> str:
    """The version."""
    return f"{vm.profile.version}{vm.profile.version.package}\n"


@hmp("info status")
def status(vm: Machine) -> str:
    """The run state."""
    state = vm.runstate.current
    running = "running" if vm.runstate.running else "paused"
    reason = "" if state in ("running", "paused") else f" ({state})"
    stepping = vm.state.single_step and vm.profile.traits.status_singlestep
    step = " (single step mode)" if stepping else ""
    return f"VM status: {running}{step}{reason}\n"


@hmp("info name")
def name(vm: Machine) -> str:
    """The guest's name; nothing without one."""
    guest = vm.configuration.name.guest
    return "" if guest is None else f"{guest}\n"


@hmp("info uuid")
def uuid(vm: Machine) -> str:
    """The guest's UUID."""
    return f"{machine_commands.query_uuid(vm)['UUID']}\n"


@hmp("info kvm")
def kvm(vm: Machine) -> str:
    """Whether KVM is in use."""
    info = machine_commands.query_kvm(vm)
    if not info["present"]:
        return "kvm support: not compiled\n"
    return f"kvm support: {'enabled' if info['enabled'] else 'disabled'}\n"


@hmp("info accelerators")
def accelerators(vm: Machine) -> str:
    """The accelerators, the one in use in brackets."""
    info = machine_commands.query_accelerators(vm)
    words = [f"[{a}]" if a == info["enabled"] else a for a in info["present"]]
    return " ".join(words) + "\n"


@hmp("info cpus", monitor=True)
def cpus(vm: Machine, monitor: HmpMonitor) -> str:
    """The CPUs, the chosen one starred."""
    with_model = vm.profile.traits.hmp_cpus_model
    lines = []
    for entry, cpu in zip(vm.cpus.fast(), vm.cpus.present(), strict=True):
        star = "*" if cpu.index == monitor.cpu_index else " "
        model = cpu.object.type.removesuffix("-x86_64-cpu")
        tail = f" model={model}" if with_model else ""
        lines.append(f"{star} CPU #{cpu.index}: thread_id={entry['thread-id']}{tail}\n")
    return "".join(lines)


@hmp("info hotpluggable-cpus")
def hotpluggable_cpus(vm: Machine) -> str:
    """The slots for CPUs."""
    names = {
        "node-id": "node-id",
        "drawer-id": "drawer-id",
        "book-id": "book-id",
        "socket-id": "socket-id",
        "die-id": "die-id",
        "cluster-id": "cluster-id",
        "module-id": "module-id",
        "core-id": "core-id",
        "thread-id": "thread-id",
    }
    text = "Hotpluggable CPUs:\n"
    for slot in machine_commands.query_hotpluggable_cpus(vm):
        text += f'  type: "{slot["type"]}"\n  vcpus_count: "{slot["vcpus-count"]}"\n'
        if "qom-path" in slot:
            text += f'  qom_path: "{slot["qom-path"]}"\n'
        text += "  CPUInstance Properties:\n"
        for member, shown in names.items():
            if member in slot["props"]:
                text += f'    {shown}: "{slot["props"][member]}"\n'
    return text


@hmp("info chardev")
def chardev(vm: Machine) -> str:
    """The character devices."""
    return "".join(
        f"{each['label']}: filename={each['filename']}\n"
        for each in chardev_commands.query_chardev(vm)
    )


@hmp("info memdev")
def memdev(vm: Machine) -> str:
    """The memory backends."""
    text = ""
    for entry in memory.memdevs(vm.qom, vm.profile):
        nodes = ",".join(str(node) for node in entry["host-nodes"])
        text += f"memory backend: {entry['id']}\n  size:  {entry['size']}\n"
        for key in ("merge", "dump", "prealloc", "share", "reserve"):
            if key in entry:
                text += f"  {key}: {str(entry[key]).lower()}\n"
        text += f"  policy: {entry['policy']}\n  host nodes: {nodes}\n"
    return text + "\n"


@hmp("info memory_size_summary")
def memory_size_summary(vm: Machine) -> str:
    """Bytes of memory."""
    info = machine_commands.query_memory_size_summary(vm)
    names = {"base-memory": "base memory", "plugged-memory": "plugged memory"}
    return "".join(f"{text}: {info[name]}\n" for name, text in names.items() if name in info)


#: members of MemoryDeviceInfo's kinds, in the order of hmp_info_memory_devices()
_MEMORY_DEVICE = (
    "addr", "memaddr", "slot", "node", "requested-size", "size", "max-size", "block-size",
    "memdev", "hotplugged", "hotpluggable",
)  # fmt: skip


@hmp("info memory-devices")
def memory_devices(vm: Machine) -> str:
    """The memory devices."""
    text = ""
    for info in machine_commands.query_memory_devices(vm):
        data = info["data"]
        text += f"Memory device [{info['type']}]: \"{data.get('id', '')}\"\n"
        for key in _MEMORY_DEVICE:
            if key not in data:
                continue
            value = data[key]
            if key in ("addr", "memaddr"):
                value = f"0x{value:x}"
            text += f"  {key}: {str(value).lower() if isinstance(value, bool) else value}\n"
    return text


@hmp("info numa")
def numa(vm: Machine) -> str:
    """The NUMA nodes."""
    return machine_commands.numa_text(vm)


@hmp("info iothreads")
def iothreads(vm: Machine) -> str:
    """The I/O threads."""
    text = ""
    for entry in qom_commands.query_iothreads(vm):
        values = [(k, v) for k, v in entry.items() if k not in ("id", "thread-id")]
        order = ("poll-max-ns", "poll-grow", "poll-shrink", "poll-weight", "aio-max-batch")
        values.sort(key=lambda item: order.index(item[0]))
        text += f"{entry['id']}:\n  thread_id={entry['thread-id']}\n"
        text += "".join(f"  {k}={v}\n" for k, v in values)
    return text


@hmp("info network")
def network(vm: Machine) -> str:
    """Network backends and cards."""
    return vm.net.info()


@hmp("info balloon")
def balloon(vm: Machine) -> str:
    """What the balloon has left to the guest."""
    return f"balloon: actual={machine_commands.query_balloon(vm)['actual'] >> 20}\n"


@hmp("info mice")
def mice(vm: Machine) -> str:
    """The mice."""
    found = vm.input.mice()
    if not found:
        return "No mouse devices connected\n"
    return "".join(
        f"{'*' if each['current'] else ' '} Mouse #{each['index']}: {each['name']}"
        f"{' (absolute)' if each['absolute'] else ''}\n"
        for each in found
    )


@hmp("info usb")
def usb(vm: Machine) -> str:
    """The devices on USB."""
    found = [bus for bus in vm.buses.all() if bus.is_a("usb-bus")]
    if not found:
        raise QapiError("USB support not enabled")
    text = ""
    for number, bus in enumerate(reversed(found)):
        for device in reversed(bus.devices):
            id = f", ID: {device.id}" if device.id else ""
            text += (
                f"  Device {number}.0, Port {device.port}, Speed"
                f" {usbports.megabits(vm.profile, device, bus)} Mb/s,"
                f" Product {usbports.product(device)}{id}\n"
            )
    return text


@hmp("info spice")
def spice(vm: Machine) -> str:
    """There is no SPICE server."""
    info = recorded(vm, "query-spice")
    return "" if info["enabled"] else "Server: disabled\n"


@hmp("info tpm")
def tpm(vm: Machine) -> str:
    """The TPM that a device uses."""
    if not vm.configuration.tpmdevs:
        recorded(vm, "query-tpm")
        return "TPM device not supported\n" if not vm.profile.query("query-tpm-models") else ""
    text = "".join(
        f" tpm{number}: model={info['model']}\n"
        f"  \\ {info['id']}: type={info['options']['type']}"
        f",chardev={info['options']['data']['chardev']}\n"
        for number, info in enumerate(vm.tpm.query())
    )
    return f"TPM device:\n{text}" if text else ""


@hmp("info history", monitor=True)
def history(vm: Machine, monitor: HmpMonitor) -> str:  # noqa: ARG001
    """The lines typed so far."""
    return "".join(f"{n}: '{line}'\n" for n, line in enumerate(monitor.history))


@hmp("info qom-tree")
def qom_tree(vm: Machine, path: str | None = None) -> str:
    """The object tree below `path`."""
    root = vm.qom.container("/machine")
    if path is not None:
        found, ambiguous = vm.qom.find(path)
        if found is None:
            return f"Path '{path}' could not be resolved.\n" if not ambiguous else (
                f"Warning: Path '{path}' is ambiguous.\n"
            )
        root = found
    return _tree(root, 0)


def _tree(obj: QomObject, indent: int) -> str:
    text = f"{' ' * indent}/{obj.name} ({obj.type})\n"
    for child in sorted(obj.children.values(), key=lambda c: c.name):
        text += _tree(child, indent + 2)
    return text


@hmp("info pci")
def pci(vm: Machine) -> str:
    """The PCI devices."""
    named = vm.profile.traits.hmp_pci_unmapped
    found = query_pci(vm.state, vm.buses)
    return "".join(_pci_device(each, named) for bus in found for each in bus["devices"])


_UNMAPPED = -1
_WORD = (1 << 64) - 1


def _pci_device(device: dict[str, Any], named: bool) -> str:
    id, about = device["id"], device["class_info"]
    text = f"  Bus {device['bus']:2}, device {device['slot']:3}, function {device['function']}:\n"
    text += f"    {about.get('desc', 'Class {:04}'.format(about['class']))}"
    text += f": PCI device {id['vendor']:04x}:{id['device']:04x}\n"
    if "subsystem" in id:
        text += f"      PCI subsystem {id['subsystem-vendor']:04x}:{id['subsystem']:04x}\n"
    if "irq" in device:
        text += f"      IRQ {device['irq']}, pin {chr(ord('A') + device['irq_pin'] - 1)}\n"
    bridge = device.get("pci_bridge", {})
    if bridge:
        text += _pci_bridge(bridge["bus"])
    text += "".join(_pci_region(region, named) for region in device["regions"])
    text += f'      id "{device["qdev_id"]}"\n'
    return text + "".join(_pci_device(each, named) for each in bridge.get("devices", ()))


def _pci_bridge(bus: dict[str, Any]) -> str:
    text = f"      BUS {bus['number']}.\n      secondary bus {bus['secondary']}.\n"
    text += f"      subordinate bus {bus['subordinate']}.\n"
    for what, name, digits in (
        ("IO", "io_range", 4),
        ("memory", "memory_range", 8),
        ("prefetchable memory", "prefetchable_range", 8),
    ):
        first, last = (f"0x{bus[name][end]:0{digits}x}" for end in ("base", "limit"))
        text += f"      {what} range [{first}, {last}]\n"
    return text


def _pci_region(region: dict[str, Any], named: bool) -> str:
    """One line; `named`: a region without an address is called so."""
    first, last = region["address"] & _WORD, region["address"] + region["size"] - 1
    if region["type"] == "io":
        what, digits = "I/O", 4
    else:
        what = f"{64 if region['mem_type_64'] else 32} bit"
        what, digits = f"{what}{' prefetchable' if region['prefetch'] else ''} memory", 8
    where = f"at 0x{first:0{digits}x} [0x{last:0{digits}x}]{'' if named else '.'}"
    if named and region["address"] == _UNMAPPED:
        where = "(not mapped)"
    return f"      BAR{region['bar']}: {what} {where}\n"


@hmp("info vm-generation-id")
def vm_generation_id(vm: Machine) -> str:
    """The id that the guest sees."""
    guid: str = machine_commands.query_vm_generation_id(vm)["guid"]
    return guid + "\n"


@hmp("info rocker")
def rocker(vm: Machine, name: str) -> str:  # noqa: ARG001
    """There is no such switch."""
    raise QapiError(f"rocker {name} not found")




