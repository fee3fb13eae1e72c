"""The human monitor's look into guest memory: print it, sum it up, save it, dump it.

See monitor/hmp-cmds-target.c: memory_dump() and hmp_physical_memory_dump(); monitor/hmp-cmds.c:
hmp_sum(); dump/dump-hmp-cmds.c: hmp_dump_guest_memory(); hw/core/machine-hmp-cmds.c: hmp_memsave().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.hmp.expression import character
from fakeqemu.commands.hmp.registers import chosen_registers
from fakeqemu.commands.hmp.registry import HmpMonitor, hmp
from fakeqemu.commands.machine import memsave as qmp
from fakeqemu.model.boards.x86_registers import CR0_PG
from fakeqemu.model.dump.output import Zeros
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import NotModelledError, QapiError

_MASK = (1 << 64) - 1
#: bytes that are printed at most: QEMU's monitor serves nobody else meanwhile
_MOST = 1 << 20
_MOST_INSTRUCTIONS = 10_000
#: bytes in a line of output, for single bytes and for anything wider
_NARROW, _WIDE = 8, 16
#: flag of dump-guest-memory -> the format it asks for
_FORMATS = {
    "windmp": "win-dmp", "zlib": "kdump-zlib", "lzo": "kdump-lzo", "snappy": "kdump-snappy"
}  # fmt: skip


@hmp("x")
def examine(vm: Machine, count: int, format: str, size: int, addr: int) -> str:
    """Print virtual memory: no CPU pages, so it is the physical one."""
    if not vm.cpus:
        return "Can not dump without CPU\n"
    return _print(vm, count, format, size, addr & _MASK, digits=16)


@hmp("xp")
def examine_physical(vm: Machine, count: int, format: str, size: int, addr: int) -> str:
    """Print physical memory."""
    digits = vm.profile.traits.hmp_physical_digits
    return _print(vm, count, format, size, addr & _MASK, digits=digits)


def _print(
    vm: Machine, count: int, format: str, size: int, address: int, *, digits: int
) -> str:
    """So many values from an address on; addresses have at least that many digits."""
    octal = vm.profile.traits.hmp_octal_prefix_padded
    if format == "i":
        return _instructions(vm, max(count, 1), address)
    if count * size > _MOST:
        raise NotModelledError("x of more than a MiB")
    width = _NARROW if size == 1 else _WIDE
    left, step = count * size, 1 if format == "c" else size
    out = ""
    while left > 0:
        length = min(left, width)
        out += f"{address:0{digits}x}:"
        if not vm.guest_memory.is_readable(address, length):
            return out + " Cannot access memory\n"
        data = vm.guest_memory.read(address, length)
        for at in range(0, length, step):
            out += " " + _value(data[at : at + step], format, size, octal_padded=octal)
        out += "\n"
        address += length
        left -= length
    return out


def _instructions(vm: Machine, count: int, address: int) -> str:
    """So many instructions from an address on: only of zeros, for a CPU that is as a reset left it.

    See disas/disas-mon.c: monitor_disas().
    """
    fresh = vm.runstate.check("prelaunch") and not vm.cpus.registers_came
    out = ""
    for at in range(address, address + 2 * min(count, _MOST_INSTRUCTIONS), 2):
        if not vm.guest_memory.is_readable(at, 2):
            return f"{out}0x{at:08x}: unable to read memory\n"
        ram = any(r.start <= at < r.end - 1 and not r.rom for r in vm.guest_memory.regions())
        if not (fresh and ram) or any(vm.guest_memory.read(at, 2)) or count > _MOST_INSTRUCTIONS:
            raise NotModelledError("x /i")
        out += f"0x{at:08x}:  {'00 00':25}addb     %al, (%bx, %si)\n"
    return out


def _value(data: bytes, format: str, size: int, *, octal_padded: bool) -> str:
    bits = size * 8
    number = int.from_bytes(data, "little")
    if format == "c":
        return character(number)
    if format == "x":
        return f"0x{number:0{bits // 4}x}"
    if format == "o":
        width = -(-bits // 3)
        if octal_padded:
            return f"0{number:{width}o}"
        return (f"0{number:o}" if number else "0").rjust(width)
    if format == "d" and size == 8 and number >> 63:
        number -= 1 << 64
    return str(number).rjust(-(-bits * 10 // 33))



@hmp("sum")
def checksum(vm: Machine, start: int, size: int) -> str:
    """Add up bytes, turning the sum by one bit before each."""
    total = 0
    for piece in vm.guest_memory.content(start, max(size, 0)):
        if isinstance(piece, Zeros):
            for _ in range(piece.size % 16):
                total = (total >> 1 | total << 15) & 0xFFFF
            continue
        for byte in piece:
            total = ((total >> 1 | total << 15) + byte) & 0xFFFF
    return f"{total:05d}\n"


@hmp("gva2gpa")
def physical_of_virtual(vm: Machine, addr: int) -> str:
    """Where a virtual address is in physical memory."""
    number = addr & _MASK
    if not number and not vm.profile.traits.hmp_zero_prefixed:
        return "gpa: 0\n"
    return f"gpa: {number:#x}\n"


@hmp("info mem", monitor=True)
def info_mem(vm: Machine, monitor: HmpMonitor) -> str:
    """Which virtual memory is mapped. See target/i386/monitor.c: hmp_info_mem()."""
    return _paging(vm, monitor, "info mem")


@hmp("info tlb", monitor=True)
def info_tlb(vm: Machine, monitor: HmpMonitor) -> str:
    """How virtual memory is mapped. See target/i386/monitor.c: hmp_info_tlb()."""
    return _paging(vm, monitor, "info tlb")


def _paging(vm: Machine, monitor: HmpMonitor, name: str) -> str:
    held = chosen_registers(vm, monitor)
    if held is None:
        return "No CPU available\n"
    if held.cr0 & CR0_PG:
        raise NotModelledError(f"{name} of a CPU that pages")
    return "PG disabled\n"


@hmp("memsave", monitor=True)
def memsave(vm: Machine, val: int, size: int, filename: str, monitor: HmpMonitor) -> None:
    """Save virtual memory."""
    qmp.memsave(vm, val, size, filename, monitor.cpu_index)


@hmp("pmemsave")
def pmemsave(vm: Machine, val: int, size: int, filename: str) -> None:
    """Save physical memory."""
    qmp.pmemsave(vm, val, size, filename)


@hmp("dump-guest-memory")
def dump_guest_memory(vm: Machine, filename: str, **given: Any) -> None:
    """Write a dump into a file."""
    chosen = [format for name, format in _FORMATS.items() if given.get(name)]
    if len(chosen) > 1:
        raise QapiError("only one of '-z|-l|-s|-w' can be set")
    format = chosen[0] if chosen else "elf"
    if given.get("raw"):
        format = format.replace("kdump-", "kdump-raw-")
    kept = ("begin", "length", "detach")
    options: dict[str, Any] = {name: given[name] for name in kept if name in given}
    options |= {"paging": given.get("paging", False), "protocol": f"file:{filename}"}
    vm.dump.start({**options, "format": format}, None)


@hmp("info dump")
def info_dump(vm: Machine) -> str:
    """How the last dump went."""
    result = vm.dump.query()
    text = f"Status: {result['status']}\n"
    if result["status"] == "active":
        text += f"Finished: {100 * result['completed'] / result['total']:.2f} %\n"
    return text
