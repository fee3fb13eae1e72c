"""An x86 CPU's registers as gdb numbers them: which they are and how wide, read and written.

The numbers are those of the feature `i386-64bit.xml`. See target/i386/gdbstub.c. While no 64-bit
code runs, general registers show their lower half, and control registers take 4 bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from fakeqemu.model.boards.x86_registers import GENERAL, X86Registers

#: gdb's order of the general registers
_GENERAL = (*GENERAL.values(), *range(8, 16))
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
_IP, _FLAGS, _SEGMENT = 16, 17, 18
_FS_BASE, _GS_BASE, _KERNEL_GS_BASE = 24, 25, 26
_CR0, _CR2, _CR3, _CR4, _CR8, _EFER = range(27, 33)
_FPU, _FPU_CONTROL, _FPU_STATUS, _FPU_ZERO = 33, 41, 42, 43
_XMM, _MXCSR = 49, 65
#: how many there are
COUNT = 66

_32 = (1 << 32) - 1
_64 = (1 << 64) - 1
#: where the x87 status word holds the top of the stack
_TOP_SHIFT, _TOP = 11, 0x3800


class GdbRegisters:
    """The registers of one CPU.

    `read_linear(address, size)` reads memory for segment descriptors; None where there is none.
    """

    def __init__(
        self,
        held: X86Registers,
        read_linear: Callable[[int, int], bytes | None],
        *,
        fpu_from_top: bool,
    ) -> None:
        self._held = held
        self._read_linear = read_linear
        self._fpu_from_top = fpu_from_top

    def read(self, number: int) -> bytes:
        """The value of one register, lowest byte first; empty if there is no such register."""
        held = self._held
        if number < _IP:
            if held.code_64:
                return _bytes(held.general[_GENERAL[number]], 8)
            return _bytes(held.general[_GENERAL[number]] & _32 if number < 8 else 0, 8)
        if _FPU <= number < _FPU + 8:
            top = held.fpu_top if self._fpu_from_top else 0
            return held.fpu[(number - _FPU + top) % 8]
        if _XMM <= number < _MXCSR:
            return held.xmm[number - _XMM]
        if _SEGMENT <= number < _FS_BASE:
            return _bytes(held.segments[_SEGMENTS[number - _SEGMENT]].selector, 4)
        if _FPU_ZERO <= number < _XMM:
            return bytes(4)
        if number == _IP:
            return _bytes(held.ip if held.code_64 else held.ip & _32, 8)
        narrow = {
            _FLAGS: held.flags,
            _FPU_CONTROL: held.fpu_control,
            _FPU_STATUS: held.fpu_status & ~_TOP | (held.fpu_top & 7) << _TOP_SHIFT,
            _MXCSR: held.mxcsr,
        }
        if number in narrow:
            return _bytes(narrow[number], 4)
        wide = {
            _FS_BASE: held.segments["fs"].base,
            _GS_BASE: held.segments["gs"].base,
            _KERNEL_GS_BASE: held.kernel_gs_base,
            _CR0: held.cr0,
            _CR2: held.cr2,
            _CR3: held.cr3,
            _CR4: held.cr4,
            _CR8: held.cr8,
            _EFER: held.efer,
        }
        return _bytes(wide[number], 8) if number in wide else b""

    def write(self, number: int, data: bytes) -> int:
        """Set a register from the start of `data`; how many bytes it took, 0 for none such."""
        held = self._held
        if number < _IP:
            if held.code_64 or number < 8:
                value = _value(data, 8)
                held.general[_GENERAL[number]] = value if held.code_64 else value & _32
            return 8
        if _FPU <= number < _FPU + 8:
            held.fpu[number - _FPU] = data[:10].ljust(10, b"\0")
            return 10
        if _XMM <= number < _MXCSR:
            held.xmm[number - _XMM] = data[:16].ljust(16, b"\0")
            return 16
        if _SEGMENT <= number < _FS_BASE:
            selector = _value(data, 2)
            held.load_segment(_SEGMENTS[number - _SEGMENT], selector, self._read_linear)
            return 4
        if _FPU_ZERO <= number < _XMM:
            return 4
        if number == _IP:
            value = _value(data, 8)
            held.ip = value if held.code_64 else value & _32
            return 8
        if number in (_FLAGS, _FPU_CONTROL, _FPU_STATUS, _MXCSR):
            self._write_narrow(number, _value(data, 4))
            return 4
        if _FS_BASE <= number < _FPU:
            size = 8 if held.code_64 else 4
            value = _value(data, size)
            if size == 4 and value >> 31:
                value |= _64 ^ _32
            self._write_control(number, value)
            return size
        return 0

    def _write_narrow(self, number: int, value: int) -> None:
        held = self._held
        if number == _FLAGS:
            held.flags = value
        elif number == _FPU_CONTROL:
            held.fpu_control = value & 0xFFFF
        elif number == _FPU_STATUS:
            held.fpu_top = value >> _TOP_SHIFT & 7
            held.fpu_status = value & ~_TOP & 0xFFFF
        else:
            held.mxcsr = value

    def _write_control(self, number: int, value: int) -> None:
        held = self._held
        if number == _FS_BASE:
            held.segments["fs"].base = value
        elif number == _GS_BASE:
            held.segments["gs"].base = value
        elif number == _KERNEL_GS_BASE:
            held.kernel_gs_base = value
        elif number == _CR0:
            held.set_cr0(value & _32)
        elif number == _CR2:
            held.cr2 = value
        elif number == _CR3:
            held.cr3 = value
        elif number == _CR4:
            held.set_cr4(value & _32)
        elif number == _CR8:
            held.cr8 = value & 0xF
        else:
            held.efer = value


def _bytes(value: int, size: int) -> bytes:
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _value(data: bytes, size: int) -> int:
    return int.from_bytes(data[:size], "little")
