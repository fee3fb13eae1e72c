"""What is in the guest's memory, by guest-physical address: zeros, but for pages that were written.

Only pages that are not zero are kept, by memory block and page number, so a machine of any size
costs what was written into it, and what migrates can be told page by page. Where the blocks lie
follows the board's map before firmware has moved anything: memory below and above 4 GiB, the
firmware's ROMs, plugged modules. ROMs read as zeros: there is no firmware to read. Addresses
with nothing behind them read as zeros and take writes to no effect, as in QEMU.

See system/physmem.c: cpu_physical_memory_rw() and address_space_read_full(); hw/i386/pc.c:
pc_memory_init().
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.model.boards.board import recorded_tree
from fakeqemu.model.boards.ramblocks import RamBlock, backend_blocks, blocks_of_device, board_blocks
from fakeqemu.model.dump.output import Piece, Zeros
from fakeqemu.model.qdev.device import user_devices

if TYPE_CHECKING:
    from fakeqemu.model.boards.machine_state import MachineState
    from fakeqemu.model.boards.numa import Numa
    from fakeqemu.model.qdev.device import DeviceObject
    from fakeqemu.profile import MachineType, Profile

PAGE = 4096
_ZERO = bytes(PAGE)
_4G = 1 << 32
_MIB = 1 << 20
#: what a VGA adapter that answers to legacy addresses lays over RAM
_VGA_WINDOW = (0xA0000, 0xC0000)
#: where an adapter on the ISA bus shows its frame buffer
_ISA_FRAMEBUFFER = 0xE0000000
_VGA_CLASS = 0x300
_OPTION_ROMS = 0xC0000
#: the most of the BIOS that is seen below 1 MiB
_SHADOW = 0x20000


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of guest-physical addresses with RAM or ROM behind it."""

    start: int
    size: int
    #: RAM block as the migration stream names it, and where in it the region begins
    block: str
    offset: int
    #: whether the guest's writes have no effect
    rom: bool = False

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.start + self.size


class GuestMemory:
    """The content of one machine's memory."""

    def __init__(self, state: MachineState, numa: Numa) -> None:
        self._state = state
        self._numa = numa
        #: block name -> page number in the block -> PAGE bytes, not all zero
        self._pages: dict[str, dict[int, bytes]] = {}
        self._mapped: tuple[tuple[object, ...], tuple[Region, ...]] | None = None

    # -- by guest-physical address -----------------------------------------------------------

    def regions(self) -> tuple[Region, ...]:
        """RAM and ROM in order of address, without overlaps."""
        state = self._state
        users = user_devices(state.qom)
        key = (state.phases.current, state.qom.root, *(device.path for device in users))
        if self._mapped is None or self._mapped[0] != key:
            self._mapped = key, tuple(_regions(state, self._numa))
        return self._mapped[1]

    def is_mapped(self, address: int, size: int = 1) -> bool:
        """Whether all of those bytes have RAM or ROM behind them."""
        return sum(part[1] for part in self._parts(address, size)) == size

    def is_readable(self, address: int, size: int = 1) -> bool:
        """Whether all of those bytes are memory, or a display adapter's."""
        return self.readable(address, size) == size

    def readable(self, address: int, size: int) -> int:
        """How many of those bytes can be read, up to the first that cannot."""
        stretches = [(region.start, region.end) for region in self.regions()]
        low, high = _VGA_WINDOW
        if address < high and address + size > low and _has_vga(self._state):
            stretches.append(_VGA_WINDOW)
        at = address
        for start, end in sorted(stretches):
            if start <= at < end:
                at = end
        return min(at - address, size)

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from guest-physical `address` on."""
        out = bytearray(size)
        for region, length, at in self._parts(address, size):
            start = at - address
            offset = region.offset + at - region.start
            out[start : start + length] = self.load(region.block, offset, length)
        return bytes(out)

    def write(self, address: int, data: bytes, *, into_rom: bool = False) -> None:
        """Write from guest-physical `address` on; what is not RAM takes nothing.

        `into_rom`: ROMs take it, too, as they do from a debugger.
        """
        for region, length, at in self._parts(address, len(data)):
            if into_rom or not region.rom:
                start = at - address
                offset = region.offset + at - region.start
                self.store(region.block, offset, data[start : start + length])

    def zero(self, address: int, size: int) -> None:
        """Zeros from guest-physical `address` on; costs what is there, not what is asked for."""
        for region, length, at in self._parts(address, size):
            if region.rom:
                continue
            pages = self._pages.get(region.block, {})
            first = region.offset + at - region.start
            numbers = range(first // PAGE, -(-(first + length) // PAGE))
            for number in [n for n in pages if n in numbers]:
                start, end = max(first, number * PAGE), min(first + length, (number + 1) * PAGE)
                self.store(region.block, start, bytes(end - start))

    def content(self, address: int, size: int) -> Iterator[Piece]:
        """A stretch of guest-physical addresses, as pieces of a file."""
        at, end = address, address + size
        for start, page in self.written(address, size):
            first, last = max(start, address), min(start + PAGE, end)
            if first > at:
                yield Zeros(first - at)
            yield page[first - start : last - start]
            at = last
        if at < end:
            yield Zeros(end - at)

    def written(self, address: int, size: int) -> Iterator[tuple[int, bytes]]:
        """(address, page) of pages in that stretch of whole pages that are not zero, in order."""
        for region, length, at in self._parts(address, size):
            pages = self._pages.get(region.block, {})
            first = region.offset + at - region.start
            numbers = range(first // PAGE, -(-(first + length) // PAGE))
            found = sorted(n for n in pages if n in numbers)
            for number in found:
                yield region.start + number * PAGE - region.offset, pages[number]

    def _parts(self, address: int, size: int) -> Iterator[tuple[Region, int, int]]:
        """(region, bytes, address of the first) of what is mapped in a stretch."""
        regions = self.regions()
        index = max(0, bisect_right([region.start for region in regions], address) - 1)
        for region in regions[index:]:
            if region.start >= address + size:
                return
            start = max(address, region.start)
            length = min(address + size, region.end) - start
            if length > 0:
                yield region, length, start

    # -- by block, as migration knows them ---------------------------------------------------

    def blocks(self) -> list[str]:
        """The blocks with pages that are not zero."""
        return [block for block, pages in self._pages.items() if pages]

    def pages(self, block: str) -> Mapping[int, bytes]:
        """Page number -> content, of the pages of a block that are not zero."""
        return self._pages.get(block, {})

    def load(self, block: str, offset: int, size: int) -> bytes:
        """`size` bytes of a block."""
        pages = self._pages.get(block)
        if not pages:
            return bytes(size)
        first, last = offset // PAGE, (offset + size - 1) // PAGE
        data = b"".join(pages.get(number, _ZERO) for number in range(first, last + 1))
        start = offset - first * PAGE
        return data[start : start + size]

    def store(self, block: str, offset: int, data: bytes) -> None:
        """Put bytes into a block, whatever it is for the guest."""
        pages = self._pages.setdefault(block, {})
        at = 0
        while at < len(data):
            number, start = divmod(offset + at, PAGE)
            length = min(PAGE - start, len(data) - at)
            old = pages.get(number, _ZERO)
            page = old[:start] + data[at : at + length] + old[start + length :]
            if page == _ZERO:
                pages.pop(number, None)
            else:
                pages[number] = page
            at += length

    def clear(self) -> None:
        """Everything is zero again."""
        self._pages.clear()


# -- the map -------------------------------------------------------------------------------------


def _regions(state: MachineState, numa: Numa) -> Iterator[Region]:
    if not state.phases.reached("machine-initialized"):
        return
    window = _VGA_WINDOW if _has_vga(state) else None
    roms = list(_roms(state, numa))
    holes = [(rom.start, rom.end) for rom in roms]
    if window is not None:
        holes.append(window)
    ram = chain.from_iterable(_without(region, holes) for region in _ram(state, numa))
    found = [*ram, *roms, *_plugged(state), *_isa_framebuffer(state)]
    yield from sorted(found, key=lambda region: region.start)


def _without(region: Region, holes: list[tuple[int, int]]) -> Iterator[Region]:
    """The parts of a region that lie outside `holes`."""
    start = region.start
    for low, high in [*sorted(holes), (region.end, region.end)]:
        if high <= start:
            continue
        end = min(low, region.end)
        if start < end:
            offset = region.offset + start - region.start
            yield Region(start, end - start, region.block, offset)
        start = max(start, high)


def _ram(state: MachineState, numa: Numa) -> Iterator[Region]:
    """The machine's own memory, split at the PCI hole; it may be of several NUMA backends."""
    blocks = backend_blocks(state, numa)
    total = sum(block.size for block in blocks)
    low = below_4g(state, total)
    at = 0
    base = _start_of_ram(state)
    for block in blocks:
        split = min(max(low - at, 0), block.size)
        if split:
            yield Region(base + at, split, block.name, 0)
        if split < block.size:
            start = state.memory.above_4g_start + at + split - low
            yield Region(start, block.size - split, block.name, split)
        at += block.size


def _start_of_ram(state: MachineState) -> int:
    """The address of the first byte. Raises NotModelledError for boards that are not known."""
    if state.type is None or state.is_a("x86-machine") or state.type.default_cpu_type is None:
        return 0
    # those of other targets have it elsewhere
    from fakeqemu.model.boards.targets.memory_map import start_of_ram

    return start_of_ram(state)


def below_4g(state: MachineState, size: int) -> int:
    """How much of `size` bytes of memory lies below 4 GiB."""
    machine = state.type
    if machine is None or not state.profile.is_a(machine.typename, "x86-machine"):
        return size
    if state.profile.is_a(machine.typename, "microvm-machine"):
        return min(size, 0xC0000000)
    obj = state.qom.container("/machine")
    limit = int(obj.values.get("max-ram-below-4g") or _4G)
    # the board has yet to be made when it is asked whether its CPUs reach all memory
    parts = recorded_tree(state, machine).at("machine").children.values()
    bridge = next((part.type for part in parts if part.type.endswith("-pcihost")), None)
    if bridge == "q35-pcihost":
        return min(size, limit, 0x80000000 if size >= 0xB0000000 else 0xB0000000)
    if size >= limit and bridge is not None and not _has_old_hpet(machine):
        limit = min(limit, 0xC0000000)
    return min(size, limit)


def _has_old_hpet(machine: MachineType) -> bool:
    """Whether its HPET can take only one interrupt line: memory is not aligned to gigabytes."""
    return any(property == "hpet-intcap" for _, property, _ in machine.compat_props)


def _roms(state: MachineState, numa: Numa) -> Iterator[Region]:
    """The BIOS below 4 GiB, its shadow below 1 MiB, and the option ROMs' place."""
    machine = state.type
    if machine is None or not state.profile.is_a(machine.typename, "x86-machine"):
        return
    for block in board_blocks(state, numa):
        if block.region == "pc.bios":
            shadow = min(block.size, _SHADOW)
            yield Region(_MIB - shadow, shadow, block.name, block.size - shadow, rom=True)
            yield Region(_4G - block.size, block.size, block.name, 0, rom=True)
        elif block.region == "pc.rom":
            yield Region(_OPTION_ROMS, block.size, block.name, 0, rom=True)


def _plugged(state: MachineState) -> Iterator[Region]:
    """Memory modules."""
    for device in user_devices(state.qom):
        address = device.values.get("addr")
        if state.profile.is_a(device.type, "pc-dimm") and isinstance(address, int):
            backend = blocks_of_device(state, device)[0]
            yield Region(address, int(device.values["size"]), backend.name, 0)


def _isa_framebuffer(state: MachineState) -> Iterator[Region]:
    for device in user_devices(state.qom):
        if device.type == "isa-vga":
            yield from (
                Region(_ISA_FRAMEBUFFER, block.size, block.name, 0)
                for block in _vram(state, device)
            )


def _vram(state: MachineState, device: DeviceObject) -> list[RamBlock]:
    return [block for block in blocks_of_device(state, device) if block.region == "vga.vram"]


def _has_vga(state: MachineState) -> bool:
    """Whether a VGA adapter takes the legacy addresses."""
    board = state.qom.container("/machine/unattached").walk()
    users = user_devices(state.qom)
    return any(is_vga(state.profile, type) for type in {obj.type for obj in (*board, *users)})


def is_vga(profile: Profile, type: str) -> bool:
    """Whether devices of this type answer to VGA's legacy addresses."""
    if not profile.is_a(type, "device"):
        return False
    if profile.is_a(type, "isa-device"):
        return type.endswith("-vga")
    try:
        entry = profile.part("devices").get(type, "pci")
    except KeyError:
        return False
    return bool(entry) and entry["class_info"]["class"] == _VGA_CLASS
