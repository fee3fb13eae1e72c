"""Interrupt controllers as a reset leaves them, in the words in which QEMU prints their registers.

No guest runs that would program them. Where somebody has done it all the same, through I/O ports
or in the stream of a migration, their state is not known: `check_known`. Writes to their memory
have no effect.

See hw/intc/ioapic_common.c: ioapic_reset_common() and ioapic_print_redtbl();
hw/intc/i8259_common.c: pic_reset_common() and pic_print_info(); hw/intc/apic_common.c:
apic_init_reset(); target/i386/cpu-dump.c: x86_cpu_dump_local_apic_state().
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.qapi.errors import NotModelledError

if TYPE_CHECKING:
    from fakeqemu.model.boards.cpus import Cpu, Cpus
    from fakeqemu.model.hw.ioport import IoSpace
    from fakeqemu.model.qom.tree import QomObject

_IOAPIC, _PIC, _HPET = "ioapic", "isa-i8259", "hpet"
#: ports of both PICs, and of what says which of their lines are level triggered
_PORTS = frozenset((0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1))
_PINS = 24
_MASKED, _LEVEL, _ACTIVE_LOW, _LOGICAL = 1 << 16, 1 << 15, 1 << 13, 1 << 11
_DELIVERY = ("fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "extINT")
_LOCAL_DELIVERY = ("Fixed", "...", "SMI", "...", "NMI", "INIT", "...", "ExtINT")


@dataclass(frozen=True, slots=True)
class IoApic:
    """Registers of an I/O APIC."""

    version: int
    id: int = 0
    #: one for each pin
    redirection: tuple[int, ...] = (_MASKED,) * _PINS

    def text(self) -> str:
        """What `info pic` says of it."""
        lines = [f"ioapic0: ver={self.version:#x} id={self.id:#04x} sel=0x00"]
        for pin, entry in enumerate(self.redirection):
            lines.append(
                f"  pin {pin:<2} 0x{entry:016x} dest={entry >> 56:x} vec={entry & 0xFF:<3} "
                f"{'active-lo' if entry & _ACTIVE_LOW else 'active-hi'} "
                f"{'level' if entry & _LEVEL else 'edge ':5} "
                f"{'masked' if entry & _MASKED else '':6} {_DELIVERY[entry >> 8 & 7]:6} "
                f"{'logical' if entry & _LOGICAL else 'physical'}"
            )
        lines += [f"{name:10} (none)" for name in ("  IRR", "  Remote IRR")]
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Pic:
    """Registers of one of the two 8259."""

    master: bool
    requested: int = 0
    masked: int = 0
    in_service: int = 0
    level: int = 0

    def text(self) -> str:
        """What `info pic` says of it."""
        return (
            f"pic{not self.master:d}: irr={self.requested:02x} imr={self.masked:02x} "
            f"isr={self.in_service:02x} hprio=0 irq_base=00 rr_sel=0 elcr={self.level:02x} fnm=0\n"
        )


@dataclass(frozen=True, slots=True)
class LocalApic:
    """Registers of a CPU's own APIC."""

    cpu: int
    x2apic: bool
    #: LINT0, LINT1, performance counters, errors, temperature and timer
    vectors: tuple[int, ...] = (_MASKED,) * 6
    spurious: int = 0xFF
    destination_mode: int = 0xF

    def text(self) -> str:
        """What `info lapic` says of it."""
        lines = [f"dumping local APIC state for CPU {self.cpu:<2}", ""]
        names = ("LVT0", "LVT1", "LVTPC", "LVTERR", "LVTTHMR", "LVTT")
        for name, entry in zip(names, self.vectors, strict=True):
            timer = "one-shot" if name == "LVTT" else ""
            lines.append(
                f"{name}\t 0x{entry:08x} {'active-lo' if entry & _ACTIVE_LOW else 'active-hi'} "
                f"{'level' if entry & _LEVEL else 'edge':5} "
                f"{'masked' if entry & _MASKED else '':6} {'':7} {timer:12} "
                f"{_LOCAL_DELIVERY[entry >> 8 & 7]:6} (vec {entry & 0xFF})"
            )
        kind = "X2APIC" if self.x2apic else "APIC"
        lines += [
            "Timer\t DCR=0x0 (divide by 2) initial_count = 0 current_count = 0",
            f"SPIV\t 0x{self.spurious:08x} APIC "
            f"{'enabled' if self.spurious & 0x100 else 'disabled'}, focus=off, "
            f"spurious vec {self.spurious & 0xFF}",
            "ICR\t 0x00000000 physical edge de-assert no-shorthand",
            f"ICR2\t 0x00000000 cpu 0 ({kind} ID)",
            "ESR\t 0x00000000",
            "ISR\t (none)",
            "IRR\t (none)",
            "",
            f"APR 0x00 TPR 0x00 DFR 0x{self.destination_mode:02x} LDR 0x00 PPR 0x00",
        ]
        return "".join(f"{line}\n" for line in lines)


def check_known(cpus: Cpus, io: IoSpace) -> None:
    """Raise NotModelledError where somebody else has programmed them."""
    if cpus.registers_came:
        raise NotModelledError("interrupt controllers of a migrated guest")
    if not _PORTS.isdisjoint(io.ineffective):
        raise NotModelledError("interrupt controllers that were programmed")


def controllers_text(root: QomObject) -> str:
    """All I/O APICs and PICs, in the order of QEMU's tables of names."""
    return "".join(
        IoApic(obj.values.get("version", 0)).text()
        if obj.type == _IOAPIC
        else Pic(bool(obj.values.get("master"))).text()
        for obj in _controllers(root)
    )


def statistics_text(root: QomObject) -> str:
    """How often they have seen which line rise. See hw/core/machine-qmp-cmds.c: qmp_x_query_irq().

    A reset of the timer raises the first through the HPET, where there is one.
    """
    raised = " 0: 1\n" if any(obj.type == _HPET for obj in root.walk()) else ""
    # the second PIC has no lines that can be counted
    counted = (obj for obj in _controllers(root) if obj.values.get("master", True))
    return "".join(f"IRQ statistics for {obj.type}:\n{raised}" for obj in counted)


def local_apic(cpus: Cpus, cpu: Cpu) -> LocalApic | None:
    """A CPU's; None if it has none. See target/i386/cpu-apic.c: x86_cpu_apic_create()."""
    values: dict[str, Any] = cpu.object.values
    if not values.get("apic", True) and cpus.topology.cpus == 1:
        return None
    missing = values.get("unavailable-features", ())
    return LocalApic(cpu.index, bool(values.get("x2apic")) and "x2apic" not in missing)


def _controllers(obj: QomObject) -> Iterator[QomObject]:
    # a list is made from its end
    for name in [entry["name"] for entry in reversed(obj.listing())]:
        child = obj.children.get(name)
        if child is None:
            continue
        if child.type in (_IOAPIC, _PIC):
            yield child
        yield from _controllers(child)
