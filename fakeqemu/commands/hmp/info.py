"""Human monitor commands that show the machine: `info ...`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.commands import machine as machine_commands
from fakeqemu.commands import qom as qom_commands
from fakeqemu.commands.absent import recorded
from fakeqemu.commands.hmp.registry import HmpMonitor, hmp
from fakeqemu.model import buses, memory
from fakeqemu.model import input as guest_input
from fakeqemu.model.device import DeviceObject
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine
    from fakeqemu.model.qom import QomObject


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
    return f"VM status: {running}{reason}\n"


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
        f"{each.id}: filename={each.filename}\n" for each in reversed(vm.chardevs.values())
    )


@hmp("info memdev")
def memdev(vm: Machine) -> str:
    """The memory backends."""
    text = ""
    for entry in memory.memdevs(vm):
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
    return f"base memory: {info['base-memory']}\nplugged memory: {info['plugged-memory']}\n"


@hmp("info memory-devices")
def memory_devices(vm: Machine) -> str:  # noqa: ARG001
    """There are none."""
    return ""


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
    found = guest_input.mice(vm)
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
    found = [bus for bus in buses.all_buses(vm) if bus.is_a("usb-bus")]
    if not found:
        raise QapiError("USB support not enabled")
    text = ""
    for bus in reversed(found):
        for device in reversed(bus.devices):
            product, speed = _USB.get(device.type, (device.type, "480"))
            id = f", ID: {device.id}" if device.id else ""
            text += (
                f"  Device 0.0, Port {device.port}, Speed {speed} Mb/s, Product {product}{id}\n"
            )
    return text


#: type -> (product, megabits a second on a controller that can)
_USB = {
    "usb-tablet": ("QEMU USB Tablet", "480"),
    "usb-mouse": ("QEMU USB Mouse", "480"),
    "usb-kbd": ("QEMU USB Keyboard", "480"),
    "usb-storage": ("QEMU USB MSD", "5000"),
    "usb-hub": ("QEMU USB Hub", "12"),
}


@hmp("info vnc")
def vnc(vm: Machine) -> str:
    """There is no VNC server."""
    from fakeqemu.commands.ui import query_vnc_servers

    query_vnc_servers(vm)
    return "None\n"


@hmp("info spice")
def spice(vm: Machine) -> str:
    """There is no SPICE server."""
    info = recorded(vm, "query-spice")
    return "" if info["enabled"] else "Server: disabled\n"


@hmp("info tpm")
def tpm(vm: Machine) -> str:
    """There is no TPM."""
    recorded(vm, "query-tpm")
    return "TPM device not supported\n" if not vm.profile.query("query-tpm-models") else ""


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


@hmp("info qtree")
def qtree(vm: Machine, brief: bool = False) -> str:
    """Buses and devices; properties are left out with -b."""
    if not brief:
        raise NotModelledError("info qtree")
    root = buses.system_bus(vm)
    return _bus(vm, root, 0) if root is not None else ""


def _bus(vm: Machine, bus: buses.Bus, indent: int) -> str:
    pad = " " * indent
    text = f"{pad}bus: {bus.name}\n{pad}  type {bus.type}\n"
    for device in bus.devices:
        text += f'{pad}  dev: {device.type}, id "{_id(device)}"\n'
        for child in buses.buses_of(vm, device):
            text += _bus(vm, child, indent + 4)
    return text


def _id(device: DeviceObject) -> str:
    return device.id or ""


@hmp("info pci")
def pci(vm: Machine) -> str:
    """The PCI devices."""
    from fakeqemu.model.pci import query

    if not query(vm):
        return "PCI not supported\n" if vm.machine_type is None else ""
    raise NotModelledError("info pci")


@hmp("info vm-generation-id")
def vm_generation_id(vm: Machine) -> str:
    """There is none."""
    recorded(vm, "query-vm-generation-id")
    return ""


@hmp("info rocker")
def rocker(vm: Machine, name: str) -> str:  # noqa: ARG001
    """There is no such switch."""
    raise QapiError(f"rocker {name} not found")




