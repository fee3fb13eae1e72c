"""A dump as an ELF core: headers, a note for each CPU twice over, memory, the section names.

Offsets and sizes are those a real one has for the same machine, so tools that measure find the
same. The CPUs are as a reset or a debugger leaves them: nothing here ever runs on them.

See dump/dump.c: dump_begin(), write_elf_header() and write_elf64_notes().
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.model.boards.x86_registers import EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP, X86Registers
from fakeqemu.model.dump.output import Piece

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpu, Cpus
    from fakeqemu.model.boards.guest_memory import GuestMemory

_ET_CORE, _EM_386, _EV_CURRENT = 4, 3, 1
_PT_LOAD, _PT_NOTE, _SHT_STRTAB = 1, 4, 3
_NT_PRSTATUS = 1
_PN_XNUM = 0xFFFF
_NAMES = b"\0.shstrtab\0"
_SECTIONS = 2
#: QEMU's header says 8 here, the size of a pointer to the header
_EHSIZE = {True: 8, False: 4}

#: selector, limit, flags, base of what nobody changes: LDT, TR, GDT and IDT
_TABLES = ((0, 0xFFFF, 0x8200, 0), (0, 0xFFFF, 0x8B00, 0), (0, 0xFFFF, 0, 0), (0, 0xFFFF, 0, 0))
#: the order of the segment registers in QEMU's own note
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")


@dataclass(frozen=True, slots=True)
class LoadSegment:
    """A stretch of guest-physical memory that is dumped."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The address behind it."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class DumpLayout:
    """What is dumped, but for the memory's content."""

    segments: tuple[LoadSegment, ...]
    notes: bytes
    cpus: int
    #: whether the file is of 64-bit class
    wide: bool

    @property
    def total(self) -> int:
        """Bytes of memory."""
        return sum(segment.size for segment in self.segments)


def subject(
    memory: GuestMemory, cpus: Cpus, begin: int = 0, length: int = 0
) -> DumpLayout:
    """The machine's memory, or what of it lies in `length` bytes from `begin` on."""
    regions = memory.regions()
    end = begin + length if length else 1 << 64
    segments = []
    for region in regions:
        low, high = max(region.start, begin), min(region.end, end)
        if low < high:
            segments.append(LoadSegment(low, high - low))
    wide = any(region.end > 0xFFFFFFFF for region in regions)
    return DumpLayout(tuple(segments), notes(cpus), len(cpus), wide)


def header(dumped: DumpLayout) -> bytes:
    """Everything before the memory."""
    ehdr, shdr, phdr = (64, 64, 56) if dumped.wide else (52, 40, 32)
    count = 1 + len(dumped.segments)
    sections_at = ehdr
    programs_at = sections_at + _SECTIONS * shdr
    notes_at = programs_at + count * phdr
    memory_at = notes_at + len(dumped.notes)
    names_at = memory_at + dumped.total
    ident = b"\x7fELF" + bytes([2 if dumped.wide else 1, 1, _EV_CURRENT]) + bytes(9)
    out = ident + struct.pack(
        "<HHIQQQIHHHHHH" if dumped.wide else "<HHIIIIIHHHHHH",
        _ET_CORE, _EM_386, _EV_CURRENT, 0, programs_at, sections_at, 0, _EHSIZE[dumped.wide],
        phdr, min(count, _PN_XNUM), shdr, _SECTIONS, _SECTIONS - 1,
    )  # fmt: skip
    out += bytes(shdr) + _section(dumped.wide, names_at)
    out += _program(dumped.wide, _PT_NOTE, notes_at, 0, len(dumped.notes))
    at = memory_at
    for segment in dumped.segments:
        out += _program(dumped.wide, _PT_LOAD, at, segment.start, segment.size)
        at += segment.size
    return out + dumped.notes


def content(memory: GuestMemory, dumped: DumpLayout) -> Iterator[Piece]:
    """The memory itself."""
    for segment in dumped.segments:
        yield from memory.content(segment.start, segment.size)


def names() -> bytes:
    """What follows the memory."""
    return _NAMES


def _section(wide: bool, names_at: int) -> bytes:
    form = "<IIQQQQIIQQ" if wide else "<IIIIIIIIII"
    return struct.pack(form, 1, _SHT_STRTAB, 0, 0, names_at, len(_NAMES), 0, 0, 0, 0)


def _program(wide: bool, kind: int, offset: int, address: int, size: int) -> bytes:
    if wide:
        return struct.pack("<IIQQQQQQ", kind, 0, offset, address, address, size, size, 0)
    return struct.pack("<IIIIIIII", kind, offset, address, address, size, size, 0, 0)


# -- notes ---------------------------------------------------------------------------------------


def notes(cpus: Cpus) -> bytes:
    """All CPUs for a debugger, then all CPUs as QEMU knows them."""
    present = cpus.present()
    held = [cpus.registers(cpu) for cpu in present]
    status = [
        _note(b"CORE", _NT_PRSTATUS, _prstatus(cpu, each))
        for cpu, each in zip(present, held, strict=True)
    ]
    states = [_note(b"QEMU", 0, _state(each)) for each in held]
    return b"".join(status + states)


def _note(owner: bytes, kind: int, description: bytes) -> bytes:
    name = owner + b"\0"
    padded = name.ljust(-(-len(name) // 4) * 4, b"\0")
    return struct.pack("<III", len(name), len(description), kind) + padded + description


def _prstatus(cpu: Cpu, held: X86Registers) -> bytes:
    """A process status with a 32-bit processor's registers, which is what a reset leaves."""
    order = (EBX, ECX, EDX, ESI, EDI, EBP, EAX)
    values = [held.general[number] for number in order]
    values += [held.segments[name].selector for name in ("ds", "es", "fs", "gs")]
    values += [0, held.ip, held.segments["cs"].selector, held.flags, held.general[ESP]]
    values.append(held.segments["ss"].selector)
    registers = struct.pack("<17I", *(value & 0xFFFFFFFF for value in values))
    return bytes(24) + struct.pack("<I", cpu.index + 1) + bytes(44) + registers + bytes(4)


def _state(held: X86Registers) -> bytes:
    size = 0x1B8
    order = (EAX, EBX, ECX, EDX, ESI, EDI, ESP, EBP, *range(8, 16))
    out = struct.pack("<II16Q", 1, size, *(held.general[number] for number in order))
    out += struct.pack("<QQ", held.ip, held.flags)
    for name in _SEGMENTS:
        each = held.segments[name]
        out += struct.pack("<IIIIQ", each.selector, each.limit, each.flags, 0, each.base)
    for selector, limit, flags, base in _TABLES:
        out += struct.pack("<IIIIQ", selector, limit, flags, 0, base)
    return out + struct.pack(
        "<6Q", held.cr0, 0, held.cr2, held.cr3, held.cr4, held.kernel_gs_base
    )
