"""What a board makes of the command line when it is put together.

See system/vl.c: qemu_resolve_machine_memdev(); hw/i386/x86-common.c: x86_cpus_init();
hw/i386/pc.c: pc_memory_init() and set_boot_dev(); hw/nvram/fw_cfg.c:
fw_cfg_reboot() and fw_cfg_bootsplash().
"""

from __future__ import annotations

import os

from fakeqemu.boot.checks.options import MachineSettings
from fakeqemu.configuration import Configuration
from fakeqemu.model.machine import Machine
from fakeqemu.profile import Profile
from fakeqemu.profile.facts import MachineType
from fakeqemu.qapi.errors import StartupError

#: memory modules that ACPI can describe
_LARGEST_SLOTS = 256
#: what has room in the CMOS
_MOST_BOOT_DEVICES = 3
_LARGEST_16_BIT = 65535


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
