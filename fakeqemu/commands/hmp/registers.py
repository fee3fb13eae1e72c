"""Registers in the human monitor's expressions (`print $pc`), of the CPU that `cpu` chose.

Up to 10.0 they have names of the monitor's own, since then those that gdb gives them, and two of
the monitor's own are left (`pc`, `cs.limit`).

See target/i386/monitor.c: monitor_get_pc() and target_monitor_defs() (10.0); monitor/hmp-target.c:
get_monitor_def().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.model.boards.x86_registers import EBP, ESP, GENERAL, SEGMENTS, X86Registers
from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from fakeqemu.commands.hmp.registry import HmpMonitor
    from fakeqemu.model.boards.cpus import Cpu
    from fakeqemu.model.machine import Machine

_32 = (1 << 32) - 1
_64 = (1 << 64) - 1
_HIGH = tuple(f"r{number}" for number in range(8, 16))
#: general registers by the monitor's own names, and by gdb's
_OWN = {f"e{name}": at for name, at in GENERAL.items()} | {"sp": ESP, "fp": EBP}
_GDB = {f"r{name}": at for name, at in GENERAL.items()}


def chosen_registers(vm: Machine, monitor: HmpMonitor) -> X86Registers | None:
    """The registers of the monitor's CPU; None where there is no CPU. See `known_registers`."""
    cpu = vm.cpus.get(monitor.cpu_index)
    return None if cpu is None else known_registers(vm, cpu)


def known_registers(vm: Machine, cpu: Cpu) -> X86Registers:
    """A CPU's registers. Raises NotModelledError if a guest came with its own."""
    if vm.cpus.registers_came:
        raise NotModelledError("registers of a migrated guest")
    return vm.cpus.registers(cpu)


def read_register(vm: Machine, monitor: HmpMonitor, name: str) -> int | None:
    """What `$name` is, as a signed number; None for an unknown register."""
    held = chosen_registers(vm, monitor)
    if held is None:
        return None
    read = _by_gdb_name if vm.profile.traits.hmp_registers_by_gdb_name else _by_own_name
    value = read(held, name)
    return None if value is None else value - (value >> 63 << 64)


def _by_own_name(held: X86Registers, name: str) -> int | None:
    segment, dot, part = name.partition(".")
    if segment in SEGMENTS and part in (("base", "limit") if dot else ("",)):
        cache = held.segments[segment]
        if part == "base":
            return cache.base
        return _extended(cache.limit if part else cache.selector)
    if name in _OWN:
        return held.general[_OWN[name]]
    if name in _HIGH:
        return held.general[int(name[1:])]
    others = {
        "eflags": held.flags,
        "eip": held.ip,
        "pc": (held.ip + held.segments["cs"].base) & _64,
    }
    return others.get(name)


def _by_gdb_name(held: X86Registers, name: str) -> int | None:
    width = _64 if held.code_64 else _32
    if name in _GDB:
        return held.general[_GDB[name]] & width
    if name in _HIGH:
        return held.general[int(name[1:])] if held.code_64 else 0
    if name in SEGMENTS:
        return held.segments[name].selector
    narrow = {"eflags": held.flags, "mxcsr": held.mxcsr, "fctrl": held.fpu_control}
    if name in narrow:
        return narrow[name]
    if name.removesuffix(".limit") in SEGMENTS:
        return _extended(held.segments[name.removesuffix(".limit")].limit)
    if name == "pc":
        return held.pc if held.code_64 else _extended(held.pc)
    wide = {
        "rip": held.ip,
        "fs_base": held.segments["fs"].base,
        "gs_base": held.segments["gs"].base,
        "k_gs_base": held.kernel_gs_base,
        "cr0": held.cr0,
        "cr2": held.cr2,
        "cr3": held.cr3,
        "cr4": held.cr4,
        "cr8": held.cr8,
        "efer": held.efer,
    }
    return wide[name] & width if name in wide else None


def _extended(value: int) -> int:
    """32 bits with their sign, as 64."""
    value &= _32
    return value | (_64 ^ _32) if value >> 31 else value
