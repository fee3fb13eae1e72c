"""`info ramblock` and x-query-ramblock: the guest's memory in blocks, as the emulator keeps it.

Offsets are where QEMU would put blocks in its own space of addresses of memory. The memory of a
block is nowhere in this process: it is shown at 0, as QEMU shows memory that it has not mapped.

See system/physmem.c: ram_block_format(), ram_block_add() and find_ram_offset().
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.commands.registry import command
from fakeqemu.model.boards.ramblocks import RamBlock, blocks_of

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

#: what offsets are aligned to: a word of the bitmap of dirty pages
_ALIGNMENT = 64 * 4096
_END = 1 << 64


@command("x-query-ramblock")
def query_ramblock(vm: Machine) -> dict[str, Any]:
    """HumanReadableText."""
    return {"human-readable-text": ramblock(vm)}


@hmp("info ramblock")
def ramblock(vm: Machine) -> str:
    """All blocks, the largest first."""
    shows_host = vm.profile.traits.ramblock_shows_host
    text = f"{'Block Name':>24} {'PSize':>8}  {'Offset':>18} {'Used':>18} {'Total':>18}"
    text += f" {'HVA':>18} {'RO':>3}\n" if shows_host else "\n"
    placed = _placed(_as_made(vm))
    for block, offset in sorted(placed, key=lambda pair: -pair[0].reserved):
        text += f"{block.name:>24} {'4 KiB':>8}  "
        text += " ".join(f"0x{number:016x}" for number in (offset, block.size, block.reserved))
        text += f" 0x{0:016x} {'ro' if _is_rom(vm, block) else 'rw':>3}\n" if shows_host else "\n"
    return text


def _as_made(vm: Machine) -> list[RamBlock]:
    """All blocks in the order in which they were made, backends that nobody uses included."""
    blocks = {block.region: block for block in blocks_of(vm.state, vm.numa)}
    found: list[RamBlock] = []
    for obj in vm.objects.all():
        if vm.profile.is_a(obj.type, "memory-backend"):
            size = int(obj.get("size"))
            unused = RamBlock("", obj.name, size, size, shared=False)
            found.append(blocks.pop(obj.name, unused))
    return [*found, *blocks.values()]


def _placed(blocks: Iterable[RamBlock]) -> list[tuple[RamBlock, int]]:
    """Each block at the beginning of the smallest gap that it fits into."""
    found: list[tuple[RamBlock, int]] = []
    for block in blocks:
        offset, smallest = 0, _END
        for other, start in found:
            behind = -(-(start + other.reserved) // _ALIGNMENT) * _ALIGNMENT
            following = min((s for _, s in found if s >= behind), default=_END)
            gap = following - behind
            if block.reserved <= gap < smallest:
                offset, smallest = behind, gap
        found.append((block, offset))
    return found


def _is_rom(vm: Machine, block: RamBlock) -> bool:
    region = block.region
    if region in ("pc.bios", "pc.rom"):
        # boards without PCI leave them writable
        parts = vm.qom.container("/machine").children.values()
        return any(part.type.endswith("-pcihost") for part in parts)
    return region.endswith(".rom") or region.startswith("/rom@")
