"""`info registers`: all that a CPU's registers hold, in QEMU's layout.

What no debugger can write (TR, IDT, debug registers) is as a reset leaves it.

See target/i386/cpu-dump.c: x86_cpu_dump_state() and cpu_x86_dump_seg_cache();
monitor/hmp-cmds-target.c: hmp_info_registers().
"""

from __future__ import annotations

from collections.abc import Iterator

from fakeqemu.commands.hmp.registers import known_registers
from fakeqemu.commands.hmp.registry import HmpMonitor, hmp
from fakeqemu.model.boards.cpus import Cpu
from fakeqemu.model.boards.x86_registers import (
    CR0_PE,
    EFER_LMA,
    GENERAL,
    SEGMENTS,
    SegmentCache,
    X86Registers,
)
from fakeqemu.model.machine import Machine

#: letters of the status flags, from the highest to the lowest bit
_FLAGS = (("D", 10), ("O", 11), ("S", 7), ("Z", 6), ("A", 4), ("P", 2), ("C", 0))
_32 = (1 << 32) - 1
_PRESENT, _SYSTEM, _CODE, _LONG, _BIG = 1 << 15, 1 << 12, 1 << 11, 1 << 21, 1 << 22
_EXPANDS, _WRITABLE, _ACCESSED = 1 << 10, 1 << 9, 1 << 8
_DPL_SHIFT = 13
#: what a reset leaves in the segment caches that the model does not keep, and the table's limit
_LDT_FLAGS, _TASK = 0x8200, SegmentCache(0, 0, 0xFFFF, 0x8B00)
_LIMIT = 0xFFFF
_SYSTEM_TYPES = {2: "LDT", 11: "TSS32-busy"}
_SYSTEM_TYPES_64 = {2: "LDT", 11: "TSS64-busy"}


@hmp("info registers", monitor=True)
def info_registers(
    vm: Machine, monitor: HmpMonitor, cpustate_all: bool = False, vcpu: int = -1
) -> str:
    """One CPU's, or those of all."""
    if cpustate_all:
        return "".join(_shown(vm, cpu) for cpu in vm.cpus.present())
    cpu = vm.cpus.get(vcpu if vcpu >= 0 else monitor.cpu_index)
    if cpu is None:
        return f"CPU#{vcpu} not available\n" if vcpu >= 0 else "No CPU available\n"
    return _shown(vm, cpu)


def _shown(vm: Machine, cpu: Cpu) -> str:
    lines = _lines(known_registers(vm, cpu))
    return "".join(f"{line}\n" for line in ("", f"CPU#{cpu.index}", *lines))


def _lines(held: X86Registers) -> Iterator[str]:
    yield from _general(held)
    for name in SEGMENTS:
        yield _segment(held, name.upper(), held.segments[name])
    base, limit = held.ldt
    yield _segment(held, "LDT", SegmentCache(0, base, limit, _LDT_FLAGS))
    yield _segment(held, "TR", _TASK)
    width = 16 if held.efer & EFER_LMA else 8
    base, limit = held.gdt
    yield f"GDT=     {_hex(base, width)} {limit:08x}"
    yield f"IDT=     {_hex(0, width)} {_LIMIT:08x}"
    yield (
        f"CR0={held.cr0 & _32:08x} CR2={_hex(held.cr2, width)} CR3={_hex(held.cr3, width)}"
        f" CR4={held.cr4 & _32:08x}"
    )
    yield "".join(f"DR{number}={0:016x} " for number in range(4))
    yield f"DR6={0xFFFF0FF0:016x} DR7={0x400:016x}"
    yield f"EFER={held.efer:016x}"
    yield from _floating_point(held)


def _general(held: X86Registers) -> Iterator[str]:
    wide = held.code_64
    letter, width = ("R", 16) if wide else ("E", 8)
    names = [(f"{letter}{name.upper()}", at) for name, at in GENERAL.items()]
    if wide:
        names += [(f"R{number}".ljust(3), number) for number in range(8, 16)]
    for at in range(0, len(names), 4):
        yield " ".join(
            f"{name}={_hex(held.general[number], width)}" for name, number in names[at : at + 4]
        )
    flags = "".join(name if held.flags >> bit & 1 else "-" for name, bit in _FLAGS)
    privilege = held.segments["ss"].flags >> _DPL_SHIFT & 3 if held.cr0 & CR0_PE else 0
    yield (
        f"{letter}IP={_hex(held.ip, width)} {letter}FL={held.flags:08x} [{flags}]"
        f" CPL={privilege} II=0 A20=1 SMM=0 HLT={held.halted:d}"
    )


def _segment(held: X86Registers, name: str, cache: SegmentCache) -> str:
    flags = cache.flags & 0x00FFFF00
    base = _hex(cache.base, 16 if held.code_64 else 8)
    text = f"{name:<3}={cache.selector:04x} {base} {cache.limit:08x} {flags:08x}"
    if not held.cr0 & CR0_PE or not cache.flags & _PRESENT:
        return text
    return f"{text} DPL={flags >> _DPL_SHIFT & 3} {_kind(held, flags)}"


def _kind(held: X86Registers, flags: int) -> str:
    if not flags & _SYSTEM:
        names = _SYSTEM_TYPES_64 if held.efer & EFER_LMA else _SYSTEM_TYPES
        return names.get(flags >> 8 & 15, "Reserved")
    accessed = "A" if flags & _ACCESSED else "-"
    letters = "CR" if flags & _CODE else "EW"
    if flags & _CODE:
        size = "CS64" if flags & _LONG else "CS32" if flags & _BIG else "CS16"
    else:
        size = "DS  " if flags & _BIG or held.efer & EFER_LMA else "DS16"
    bits = zip(letters, (_EXPANDS, _WRITABLE), strict=True)
    kind = "".join(letter if flags & bit else "-" for letter, bit in bits)
    return f"{size} [{kind}{accessed}]"


def _floating_point(held: X86Registers) -> Iterator[str]:
    status = held.fpu_status & ~0x3800 | (held.fpu_top & 7) << 11
    # no instruction has marked one of the registers as used
    yield (
        f"FCW={held.fpu_control:04x} FSW={status:04x} [ST={held.fpu_top}] FTW=00"
        f" MXCSR={held.mxcsr:08x}"
    )
    shown = [
        f"FPR{number}={int.from_bytes(data[:8], 'little'):016x}"
        f" {int.from_bytes(data[8:], 'little'):04x}"
        for number, data in enumerate(held.fpu)
    ]
    shown += [
        f"XMM{number:02}={int.from_bytes(data[8:], 'little'):016x}"
        f" {int.from_bytes(data[:8], 'little'):016x}"
        for number, data in enumerate(held.xmm[: 16 if held.code_64 else 8])
    ]
    for at in range(0, len(shown), 2):
        yield " ".join(shown[at : at + 2])


def _hex(value: int, width: int) -> str:
    return f"{value & (1 << 4 * width) - 1:0{width}x}"
