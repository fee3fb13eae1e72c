"""What a board makes of the command line when it is put together.

See system/vl.c: qemu_resolve_machine_memdev(); hw/i386/x86-common.c: x86_cpus_init();
hw/i386/pc.c: pc_memory_init(), pc_max_used_gpa(), pc_pci_hole64_start() and
set_boot_dev(); hw/nvram/fw_cfg.c: fw_cfg_reboot() and fw_cfg_bootsplash().
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from fakeqemu.boot.checks.machine_properties import MachineSettings
from fakeqemu.configuration import Configuration
from fakeqemu.model.boards.board import recorded_tree
from fakeqemu.model.boards.memory_devices.address_space import (
    end_of_memory,
    region_size,
    round_up,
)
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import MachineType
from fakeqemu.qapi.errors import NotModelledError, QapiError, StartupError
from fakeqemu.qapi.readers.scalars import parse_size

if TYPE_CHECKING:
    from fakeqemu.boot.state import BootState

#: memory modules that ACPI can describe
_LARGEST_SLOTS = 256
#: what has room in the CMOS
_MOST_BOOT_DEVICES = 3
_LARGEST_16_BIT = 65535
_MIB, _GIB = 1 << 20, 1 << 30
_HOLE_SIZE = "pci-hole64-size"
_CONFIDENTIAL = "confidential-guest-support"
_AMD = "AuthenticAMD"
#: what an AMD CPU keeps for itself below 1 TiB, and the last machine version that does not mind
_HYPERTRANSPORT_START, _ABOVE_1T_START = 0xFD00000000, 1 << 40
_NO_HYPERTRANSPORT = (7, 0)
_CXL_WINDOW_ALIGNMENT = 256 << 20


def dump_device_tree(vm: Machine) -> NoReturn:
    """Write the board's device tree. Raises QapiError.

    See hw/core/machine.c: handle_machine_dumpdtb(); system/device_tree.c: qmp_dumpdtb().
    """
    traits = vm.profile.traits
    has_tree = vm.state.is_a("virt-machine")
    if vm.state.is_a("microvm-machine"):
        has_tree = traits.microvm_has_device_tree
    elif vm.state.is_a("spapr-machine"):
        has_tree = vm.process.main_loop_running  # it is made by the first reset
    if has_tree:
        raise NotModelledError("dumpdtb")
    raise QapiError(traits.no_device_tree, traits.no_device_tree_hint)


def check_ram(vm: Machine, machine: MachineType, settings: MachineSettings) -> None:
    """Raise StartupError for memory that the host does not have."""
    if settings.memory_backend is not None or vm.numa.has_memdevs:
        return
    if number := vm.host.memory.map_error(settings.ram_size):
        raise StartupError(
            f"cannot set up guest memory '{machine.default_ram_id}': {os.strerror(number)}"
        )


def check_board(
    configuration: Configuration,
    machine: MachineType,
    settings: MachineSettings,
    profile: Profile,
) -> None:
    """Raise StartupError for what only the board refuses, once it has CPUs."""
    kernel = configuration.machine_options.get("kernel")
    if machine.default_cpu_type is None:
        if kernel is not None:
            raise StartupError("The -kernel parameter is not supported "
                               "(use the generic 'loader' device instead).")
        return
    if profile.is_a(machine.typename, "x86-machine"):
        largest_id = settings.topology.apic_id(settings.topology.maxcpus - 1)
        limit = profile.traits.apic_id_limit
        if limit is not None and largest_id >= limit:
            raise StartupError(
                "current -smp configuration requires kernel irqchip and X2APIC API support."
            )
    if settings.ram_slots > _LARGEST_SLOTS:
        raise StartupError(f"unsupported amount of memory slots: {settings.ram_slots}")
    boot = settings.properties.get("boot", {})
    if profile.is_a(machine.typename, "generic-pc-machine"):
        for key in ("order", "once"):
            if len(boot.get(key, "")) > _MOST_BOOT_DEVICES:
                raise StartupError("Too many boot devices for PC")
    if not 0 <= boot.get("splash-time", 0) <= _LARGEST_16_BIT:
        raise StartupError(
            "splash-time is invalid,it should be a value between 0 and 65535"
        )
    if not -1 <= boot.get("reboot-timeout", -1) <= _LARGEST_16_BIT:
        raise StartupError(
            "reboot timeout is invalid,it should be a value between -1 and 65535"
        )


def check_named_objects(vm: Machine, settings: MachineSettings) -> None:
    """Objects that properties of the machine name. Raises QapiError.

    See hw/core/machine.c: machine_set_memory_encryption(); hw/i386/pc.c: pc_machine_initfn().
    """
    properties = settings.properties
    old, guard = properties.get("memory-encryption"), properties.get(_CONFIDENTIAL)
    if old is not None and vm.profile.traits.memory_encryption_deprecated:
        vm.host.warn(f"warning: memory-encryption is deprecated, use {_CONFIDENTIAL} instead")
    if old is not None and vm.objects.get(old) is None:
        raise QapiError(f"No such memory encryption object '{old}'")
    if guard and vm.objects.get(guard) is None:
        raise QapiError(f"Device '{guard}' not found")
    if old is not None or guard:
        # none of the objects that can stand here is modelled
        raise QapiError(f"Invalid parameter type for '{_CONFIDENTIAL}', expected: {_CONFIDENTIAL}")
    speaker = properties.get("pcspk-audiodev")
    if speaker is not None and all(each.id != speaker for each in vm.configuration.audiodevs):
        raise QapiError(vm.profile.traits.no_audiodev.format("isa-pcspk", "audiodev", speaker))


def check_enclave_memory(vm: Machine, settings: MachineSettings) -> None:
    """-machine sgx-epc: memory for enclaves, which no host has for us. Raises StartupError.

    See hw/i386/sgx.c: pc_machine_init_sgx_epc().
    """
    for each in settings.properties.get("sgx-epc", ()):
        if vm.objects.get(each["memdev"]) is None:
            raise StartupError(f"Device '{each['memdev']}' not found")
        raise NotModelledError("-machine sgx-epc")


def check_cxl_targets(boot: BootState) -> None:
    """-machine cxl-fmw: each target is a host bridge. Raises StartupError.

    See hw/cxl/cxl-host.c: cxl_fmws_link_targets().
    """
    vm, properties = boot.vm, boot.settings.properties
    if not properties.get("cxl"):
        return
    for target in (t for w in properties.get("cxl-fmw", ()) for t in w["targets"]):
        device = vm.qom.container("/machine/peripheral").child(target)
        if device is None or not vm.profile.is_a(device.type, "pxb-cxl"):
            raise StartupError(f"Could not resolve CXLFM target {target}")


def place_memory(vm: Machine, cpu: Mapping[str, Any]) -> None:
    """Move memory above 4 GiB out of an AMD CPU's way. Raises StartupError for what is too far.

    `cpu`: the properties of the machine's CPUs.
    """
    machine = vm.state.type
    if machine is None or not vm.state.is_a("generic-pc-machine"):
        return
    hole = _hole_size(vm, machine)
    amd = cpu.get("vendor") == _AMD and not () < machine.numbers <= _NO_HYPERTRANSPORT
    if amd and _largest_used(vm, machine, cpu, hole) >= _HYPERTRANSPORT_START:
        vm.state.memory.above_4g_start = _ABOVE_1T_START
    bits = cpu["phys-bits"]
    used, limit = _largest_used(vm, machine, cpu, hole), (1 << bits) - 1
    if limit < used:
        raise StartupError(
            f"Address space limit {limit:#x} < {used:#x} phys-bits too low ({bits})"
        )


def _largest_used(
    vm: Machine, machine: MachineType, cpu: Mapping[str, Any], hole: int
) -> int:
    since = vm.profile.traits.memory_of_32_bit_cpus_checked_since
    whole: int = (1 << cpu["phys-bits"]) - 1
    if since is None:
        if cpu["phys-bits"] <= 32:
            return whole
    elif not cpu["lm"]:
        return whole if () < machine.numbers < since else end_of_memory(vm.state) - 1
    return _hole_start(vm) + hole - 1


def _hole_start(vm: Machine) -> int:
    """Where PCI devices get addresses above all memory."""
    values = vm.qom.container("/machine").values
    end = end_of_memory(vm.state)
    if values.get("cxl"):
        if not region_size(vm.state):
            end = round_up(end, _GIB)
        end += _MIB
        windows = values.get("cxl-fmw") or ()
        if windows:
            end = round_up(end, _CXL_WINDOW_ALIGNMENT)
            end += sum(int(window["size"]) for window in windows)
    return round_up(end, _GIB)


def _hole_size(vm: Machine, machine: MachineType) -> int:
    """The host bridge's property, as it will be when the board has been made."""
    children = recorded_tree(vm.state, machine).at("machine").children.values()
    bridge = next((child for child in children if _HOLE_SIZE in child.values), None)
    if bridge is None:
        return 0
    size: int = bridge.values[_HOLE_SIZE]
    for given in vm.configuration.globals:
        if given.property == _HOLE_SIZE and vm.profile.is_a(bridge.type, given.driver):
            size = parse_size(given.value, vm.profile.traits)
    return size
