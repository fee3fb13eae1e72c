"""The registers of an x86 CPU that no guest has run on: what a reset leaves, and what was written.

No instruction is executed, so only a reset (or whoever writes them) changes registers. What a
dump, a debugger and the human monitor show of a CPU comes from here.

See target/i386/cpu.c: x86_cpu_reset_hold(); target/i386/helper.c: cpu_x86_update_cr0().
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from fakeqemu.dataclass import dataclass, field

#: general registers in the order of their encoding; r8 to r15 follow
EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
#: names of the first eight, but for the letter of their size, in the order in which gdb and the
#: human monitor list them
GENERAL = {
    "ax": EAX, "bx": EBX, "cx": ECX, "dx": EDX, "si": ESI, "di": EDI, "bp": EBP, "sp": ESP,
}  # fmt: skip
#: segment registers in the order of their encoding (QEMU's R_ES to R_GS)
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")

_PRESENT, _SYSTEM, _CODE, _WRITABLE, _ACCESSED = 1 << 15, 1 << 12, 1 << 11, 1 << 9, 1 << 8
_GRANULAR = 1 << 23
#: what a data segment of real mode is
REAL_MODE_FLAGS = _PRESENT | _SYSTEM | _WRITABLE | _ACCESSED
_CODE_FLAGS = REAL_MODE_FLAGS | _CODE
_LONG = 1 << 21
_DPL_SHIFT = 13

CR0_PE, CR0_ET, CR0_PG = 1, 1 << 4, 1 << 31
CR4_PSE, CR4_PAE, CR4_LA57 = 1 << 4, 1 << 5, 1 << 12
EFER_LME, EFER_LMA = 1 << 8, 1 << 10
EFLAGS_VM = 1 << 17
_32 = (1 << 32) - 1
_64 = (1 << 64) - 1
#: what is an address in a page table entry
_FRAME = 0x000F_FFFF_FFFF_F000
_PRESENT_PAGE, _LARGE_PAGE = 1, 1 << 7

#: bit of CR4 -> CPU properties, of which one must be on for the bit to be kept
#: (see target/i386/helper.c: cpu_x86_update_cr4()); of properties that the version has
CR4_FEATURES = {
    9: ("sse",),
    11: ("umip",),
    21: ("smap",),
    22: ("pku",),
    23: ("cet-ss", "cet-ibt"),
    24: ("pks",),
    28: ("lam",),
}


@dataclass(slots=True)
class SegmentCache:
    """A segment register with its hidden part."""

    selector: int = 0
    base: int = 0
    limit: int = 0xFFFF
    #: the second word of a descriptor
    flags: int = REAL_MODE_FLAGS


@dataclass(slots=True)
class X86Registers:
    """One CPU's registers. See target/i386/cpu.c: x86_cpu_reset_hold()."""

    #: family, model and stepping, which a reset leaves in EDX
    signature: int
    #: whether it waits for an interrupt: all but the first CPU after a reset
    halted: bool = False
    #: bits of CR4 that this CPU cannot set
    cr4_refused: int = 0
    general: list[int] = field(default_factory=lambda: [0] * 16)
    ip: int = 0xFFF0
    flags: int = 2
    segments: dict[str, SegmentCache] = field(
        default_factory=lambda: {name: SegmentCache() for name in SEGMENTS}
    )
    #: (base, limit) of the descriptor tables
    gdt: tuple[int, int] = (0, 0xFFFF)
    ldt: tuple[int, int] = (0, 0xFFFF)
    kernel_gs_base: int = 0
    cr0: int = 0x6000_0010
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    #: the task priority, as CR8 shows it
    cr8: int = 0
    efer: int = 0
    #: eight x87 registers of ten bytes, by number and not by the stack's top
    fpu: list[bytes] = field(default_factory=lambda: [bytes(10)] * 8)
    fpu_control: int = 0x37F
    #: the status word without the top of stack, and that
    fpu_status: int = 0
    fpu_top: int = 0
    xmm: list[bytes] = field(default_factory=lambda: [bytes(16)] * 16)
    mxcsr: int = 0x1F80

    def __post_init__(self) -> None:
        self.general[EDX] = self.signature
        self.segments["cs"] = SegmentCache(0xF000, 0xFFFF_0000, 0xFFFF, _CODE_FLAGS)

    @property
    def code_64(self) -> bool:
        """Whether 64-bit code runs: general registers have 64 bits only then."""
        return bool(self.efer & EFER_LMA and self.segments["cs"].flags & _LONG)

    @property
    def pc(self) -> int:
        """The linear address of the next instruction."""
        if self.code_64:
            return self.ip
        return (self.segments["cs"].base + self.ip) & _32

    # -- registers whose writing has consequences --------------------------------------------

    def set_cr0(self, value: int) -> None:
        """Write CR0: paging switches long mode on and off (see cpu_x86_update_cr0())."""
        if not self.cr0 & CR0_PG and value & CR0_PG and self.efer & EFER_LME:
            if not self.cr4 & CR4_PAE:
                return
            self.efer |= EFER_LMA
        elif self.cr0 & CR0_PG and not value & CR0_PG and self.efer & EFER_LMA:
            self.efer &= ~EFER_LMA
            self.ip &= _32
        self.cr0 = (value | CR0_ET) & _32

    def set_cr4(self, value: int) -> None:
        """Write CR4, without the bits of features that the CPU lacks."""
        self.cr4 = value & ~self.cr4_refused & _32

    def load_segment(
        self, name: str, selector: int, read: Callable[[int, int], bytes | None]
    ) -> None:
        """Load a segment register as a debugger does.

        See target/i386/gdbstub.c: x86_cpu_gdb_load_seg().
        `read(address, size)` reads the descriptor at a linear address; None leaves it as it was.
        """
        segment = self.segments[name]
        if selector == segment.selector:
            return
        virtual = bool(self.flags & EFLAGS_VM)
        if not self.cr0 & CR0_PE or virtual:
            privilege = 3 if virtual else 0
            found = SegmentCache(
                selector, selector << 4, 0xFFFF, REAL_MODE_FLAGS | privilege << _DPL_SHIFT
            )
        else:
            base, limit = self.ldt if selector & 4 else self.gdt
            index = selector & ~7
            entry = read(base + index, 8) if index + 7 <= limit else None
            if entry is None:
                return
            found = _described(selector, entry)
        self.segments[name] = found

    def translate(self, address: int, read: Callable[[int, int], bytes]) -> int | None:
        """The physical address of a linear one; None where no page is.

        `read(address, size)` reads physical memory. See target/i386/helper.c:
        x86_cpu_get_phys_page_attrs_debug().
        """
        if not self.cr0 & CR0_PG:
            return address
        if self.cr4 & CR4_PAE:
            return self._walk_wide(address, read)
        entry = _entry(read((self.cr3 & ~0xFFF) + (address >> 20 & 0xFFC), 4))
        if not entry & _PRESENT_PAGE:
            return None
        if entry & _LARGE_PAGE and self.cr4 & CR4_PSE:
            high = (entry & 0x1FE000) << 19
            return (entry & 0xFFC0_0000) | high | (address & 0x3F_FFFF)
        entry = _entry(read((entry & ~0xFFF) + (address >> 10 & 0xFFC), 4))
        return entry & ~0xFFF | address & 0xFFF if entry & _PRESENT_PAGE else None

    def _walk_wide(self, address: int, read: Callable[[int, int], bytes]) -> int | None:
        if self.efer & EFER_LMA:
            levels = 5 if self.cr4 & CR4_LA57 else 4
            top = address >> (12 + 9 * levels - 1)
            if top not in (0, (_64 >> (12 + 9 * levels - 1))):
                return None
            table, shift, mask = self.cr3 & _FRAME, 12 + 9 * (levels - 1), 0x1FF
        else:
            table, shift, mask = self.cr3 & 0xFFFF_FFE0, 30, 3
        while True:
            entry = _entry(read(table + (address >> shift & mask) * 8, 8))
            if not entry & _PRESENT_PAGE:
                return None
            # the upper levels of PAE know no large pages
            large = entry & _LARGE_PAGE and (shift == 21 or (shift == 30 and mask == 0x1FF))
            if shift == 12 or large:
                within = (1 << shift) - 1
                return entry & _FRAME & ~within | address & within
            table, shift, mask = entry & _FRAME, shift - 9, 0x1FF


def _entry(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _described(selector: int, entry: bytes) -> SegmentCache:
    """A segment from its descriptor. See target/i386/helper.c: cpu_x86_get_descr_debug()."""
    low, high = struct.unpack("<II", entry)
    base = low >> 16 | (high & 0xFF) << 16 | high & 0xFF00_0000
    limit = low & 0xFFFF | high & 0x000F_0000
    if high & _GRANULAR:
        limit = limit << 12 | 0xFFF
    return SegmentCache(selector, base, limit, high)
