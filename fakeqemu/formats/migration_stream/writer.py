"""A migration stream as the source sends it, piece by piece, in QEMU's order.

Each method gives the bytes of one piece, so the outgoing side can send them when its clock
says and stop where a real QEMU would. Only pages with content have to travel, and they do so at
the end: a destination's memory begins as zeros, and QEMU does not ask whether every page came.
`zero_pages` sends the others for those who want the volume.

    writer = StreamWriter(Source("none"), profile.traits)
    data = writer.header() + writer.ram_setup() + writer.footer()
    data += writer.ram_end() + writer.footer() + writer.device_states("running") + writer.end()

QEMU flushes after the marks that end a part of RAM, before the footer. What a destination
says of a source that dies depends on that, hence the footer of a part is a piece of its own.

See migration/savevm.c: qemu_savevm_state_header(), qemu_savevm_state_setup(),
qemu_savevm_state_complete_precopy() and save_section_header(); migration/ram.c: ram_save_setup().
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from fakeqemu.formats.migration_stream import dirty_bitmaps as dirtybitmaps
from fakeqemu.formats.migration_stream.constants import (
    COMMAND,
    CONFIGURATION,
    EOF,
    MAGIC,
    PACKAGE_LOADED,
    PAGE_SIZE,
    RAM_VERSION,
    SECTION_END,
    SECTION_FOOTER,
    SECTION_FULL,
    SECTION_PART,
    SECTION_START,
    SUBSECTION,
    VERSION,
    VMDESCRIPTION,
    Ram,
    VmCommand,
)
from fakeqemu.formats.migration_stream.source import DeviceSection, Source, SourceBlock
from fakeqemu.formats.migration_stream.vmstate import vmdesc, vmstate_fields as layout
from fakeqemu.qapi.json.utf8 import c_bytes
from fakeqemu.traits import Traits

#: bytes of one piece of `zero_pages`, about
_PIECE = 64 << 10
#: numbers of sections; QEMU's depend on the order of creation and mean nothing
_TIMER_ID, _FIRST_DEVICE_ID = 0, 16
_GLOBAL_STATE_ID = 4


def be16(value: int) -> bytes:
    """Two bytes, big-endian."""
    return value.to_bytes(2, "big")


def be32(value: int) -> bytes:
    """Four bytes, big-endian."""
    return value.to_bytes(4, "big")


def be64(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return value.to_bytes(8, "big")


def counted(text: str) -> bytes:
    """A length byte and the characters, at most 255 bytes of them."""
    data = c_bytes(text)
    if len(data) > 255:
        raise ValueError(f"{len(data)} bytes do not fit a counted string")
    return bytes([len(data)]) + data


def command(number: VmCommand, payload: bytes = b"") -> bytes:
    """A QEMU_VM_COMMAND."""
    return bytes([COMMAND]) + be16(number) + be16(len(payload)) + payload


class StreamWriter:
    """Makes the pieces of one main channel."""

    def __init__(self, source: Source, traits: Traits) -> None:
        self.source = source
        self.traits = traits
        self._described: list[dict[str, Any]] = []
        self._footer_id = self.source.ram_id

    @property
    def _carried(self) -> tuple[str, ...]:
        return tuple(
            name for name in sorted(self.traits.stream_validates, reverse=True)
            if name in self.source.capabilities
        )

    @property
    def _uuid(self) -> UUID | None:
        return self.source.uuid if "validate-uuid" in self.source.capabilities else None

    # -- beginning ---------------------------------------------------------------------------

    def header(self) -> bytes:
        """Magic, version and configuration."""
        data = be32(MAGIC) + be32(VERSION)
        if not self.source.configuration:
            return data
        name = self.source.machine.encode()
        data += bytes([CONFIGURATION]) + be32(len(name)) + name
        if self._carried:
            data += bytes([SUBSECTION]) + counted("configuration/capabilities") + be32(1)
            data += be32(len(self._carried)) + b"".join(map(counted, self._carried))
        if self._uuid is not None:
            data += bytes([SUBSECTION]) + counted("configuration/uuid") + be32(1)
            data += self._uuid.bytes
        return data

    def open_return_path(self) -> bytes:
        """Ask for answers, and for the first one."""
        return command(VmCommand.OPEN_RETURN_PATH) + self.ping(1)

    def ping(self, value: int) -> bytes:
        """Ask for a pong of the same value."""
        return command(VmCommand.PING, be32(value))

    def postcopy_advise(self) -> bytes:
        """Postcopy may come; with dirty-bitmaps alone it is not for RAM."""
        if "postcopy-ram" not in self.source.capabilities:
            return command(VmCommand.POSTCOPY_ADVISE)
        sizes = be64(self.source.page_size_summary) + be64(PAGE_SIZE)
        return command(VmCommand.POSTCOPY_ADVISE, sizes)

    # -- ram ---------------------------------------------------------------------------------

    def ram_setup(self) -> bytes:
        """The list of blocks, through the mark; not for mapped-ram (see `mappedram`)."""
        data = self.ram_start()
        for block in self.source.blocks:
            data += self.ram_block(block)
        return data + self.ram_setup_end()

    def ram_start(self) -> bytes:
        """The section's header and the size of the whole list."""
        self._footer_id = self.source.ram_id
        total = sum(block.size for block in self.source.blocks)
        return (
            self._section(SECTION_START, self.source.ram_id, "ram", 0, RAM_VERSION)
            + be64(total | Ram.MEM_SIZE)
        )

    def ram_block(self, block: SourceBlock) -> bytes:
        """One entry of the list."""
        data = counted(block.name) + be64(block.size)
        on = self.source.capabilities
        if "postcopy-ram" in on and block.page_size != PAGE_SIZE:
            data += be64(block.page_size)
        if "x-ignore-shared" in on:
            data += be64(block.address)
        return data

    def ram_setup_end(self) -> bytes:
        """The marks after the list."""
        return self._flush() + be64(Ram.EOS)

    def ram_part(self, pages: bytes = b"", *, pass_ends: bool = False) -> bytes:
        """A part of RAM: what `zero_pages` made, or nothing, and the mark.

        `pass_ends`: all memory has been gone through once more; multifd channels are to be in
        step there.
        """
        self._footer_id = self.source.ram_id
        pages += self._flush() if pass_ends else b""
        return bytes([SECTION_PART]) + be32(self.source.ram_id) + pages + be64(Ram.EOS)

    def ram_end(self, pages: bytes = b"") -> bytes:
        """The last part; a pass ends with it."""
        self._footer_id = self.source.ram_id
        head = bytes([SECTION_END]) + be32(self.source.ram_id)
        return head + pages + self._flush() + be64(Ram.EOS)

    @property
    def syncs_per_section(self) -> bool:
        """Whether multifd channels are to send a sync packet for each mark that ends a part.

        Otherwise for each pass, and one for the setup.
        """
        on = "multifd" in self.source.capabilities
        return on and (not self.traits.stream_multifd_flush or self.source.flush_each_section)

    def zero_pages(self, first: int = 0, last: int | None = None) -> Iterator[bytes]:
        """Records of zero pages `first` to `last` of all blocks in a row, in pieces."""
        index, piece, new = 0, bytearray(), True
        for block in self.source.blocks:
            count = block.size // PAGE_SIZE
            begin = max(0, first - index)
            end = count if last is None else min(count, last - index)
            new = True
            for page in range(begin, end):
                address = page * PAGE_SIZE
                if new:
                    piece += be64(address | Ram.ZERO) + counted(block.name) + b"\0"
                    new = False
                else:
                    piece += be64(address | Ram.ZERO | Ram.CONTINUE) + b"\0"
                if len(piece) >= _PIECE:
                    yield bytes(piece)
                    piece.clear()
            index += count
        if piece:
            yield bytes(piece)

    def content_pages(self) -> bytes:
        """Records of the pages that are not zero; none where pages do not go in the stream."""
        if self.source.content is None or "mapped-ram" in self.source.capabilities:
            return b""
        return b"".join(
            self.page(block.name, number * PAGE_SIZE)
            for block in self.source.blocks
            for number in sorted(self.source.content(block.name))
        )

    def page(self, block: str, address: int) -> bytes:
        """The record of one page."""
        content = self.source.content(block) if self.source.content is not None else {}
        page = content.get(address // PAGE_SIZE)
        if page is None:
            return be64(address | Ram.ZERO) + counted(block) + b"\0"
        return be64(address | Ram.PAGE) + counted(block) + page

    def footer(self) -> bytes:
        """What ends the section begun last."""
        return self._footer(self._footer_id)

    def _flush(self) -> bytes:
        """A mark that keeps multifd channels in step, where section ends do not."""
        if "multifd" not in self.source.capabilities or "mapped-ram" in self.source.capabilities:
            return b""
        if not self.traits.stream_multifd_flush or self.source.flush_each_section:
            return b""
        return be64(Ram.MULTIFD_FLUSH)

    # -- dirty bitmaps -----------------------------------------------------------------------

    def bitmaps_start(self, records: bytes) -> bytes:
        """The section's header and the records of those that begin."""
        self._footer_id = self._bitmaps_id
        name, version = dirtybitmaps.SECTION, dirtybitmaps.SECTION_VERSION
        return self._section(SECTION_START, self._bitmaps_id, name, 0, version) + records

    def bitmaps_end(self, records: bytes) -> bytes:
        """The last part of the section."""
        self._footer_id = self._bitmaps_id
        return bytes([SECTION_END]) + be32(self._bitmaps_id) + records

    @property
    def _bitmaps_id(self) -> int:
        return self.source.ram_id + 1

    # -- end ---------------------------------------------------------------------------------

    def switchover_start(self) -> bytes:
        """The machine has stopped; nothing in versions that do not say so."""
        if not (self.traits.stream_switchover_start and self.source.switchover_start):
            return b""
        return command(VmCommand.SWITCHOVER_START)

    def device_states(
        self, runstate: str, *, suspended: bool = False, clock: int = 0
    ) -> bytes:
        """Clock, devices, and the run state before the stop, each with its footer.

        `clock` is the guest's time in nanoseconds, `suspended` whether it slept when stopped.
        """
        timer = b"\0" * 16 + be64(clock)
        data = self._full(_TIMER_ID, DeviceSection(layout.TIMER, timer))
        for index, device in enumerate((*self.source.devices, *self.source.late_devices())):
            data += self._full(_FIRST_DEVICE_ID + index, device)
        if not self.source.global_state:
            return data
        fixed = layout.global_state(self.traits)
        name = runstate.encode()
        # the length counts the zero behind the name
        state = be32(len(name) + 1) + name.ljust(fixed.fields[1].size, b"\0")
        if len(fixed.fields) > 2:
            state += bytes([1, suspended])
        section = DeviceSection(fixed, state.ljust(fixed.size, b"\0"))
        return data + self._full(_GLOBAL_STATE_ID, section)

    def end(self, *, postcopy: bool = False) -> bytes:
        """The end mark, and the description unless pages were to follow."""
        data = bytes([EOF])
        if postcopy or not self.source.description:
            return data
        configuration = None
        if self.traits.stream_describes_configuration and self.source.configuration:
            configuration = vmdesc.describe_configuration(
                self.source.machine, self._carried, self._uuid is not None
            )
        unsent = [{"name": name, "instance_id": number} for name, number in self.source.unsent]
        text = vmdesc.encode([*self._described, *unsent], configuration)
        return data + bytes([VMDESCRIPTION]) + be32(len(text)) + text

    # -- postcopy ----------------------------------------------------------------------------

    def discard(self, block: str, ranges: Iterable[tuple[int, int]]) -> bytes:
        """Tell that (offset, length) ranges of a block are stale; at most a few thousand."""
        payload = b"\0" + counted(block) + b"\0"
        for start, length in ranges:
            payload += be64(start) + be64(length)
        return command(VmCommand.POSTCOPY_RAM_DISCARD, payload)

    def package(self, runstate: str, *, suspended: bool = False, clock: int = 0) -> bytes:
        """The switch to postcopy: listen, device states, run, as one package."""
        inner = command(VmCommand.POSTCOPY_LISTEN)
        inner += self.device_states(runstate, suspended=suspended, clock=clock)
        if "postcopy-ram" in self.source.capabilities:
            inner += self.ping(3)
            inner += self.ping(PACKAGE_LOADED) if self.traits.postcopy_device_state else b""
        inner += command(VmCommand.POSTCOPY_RUN)
        return command(VmCommand.PACKAGED, be32(len(inner))) + inner

    def recv_bitmap(self, block: str) -> bytes:
        """Ask which pages of a block have come, after a break."""
        return command(VmCommand.RECV_BITMAP, counted(block))

    def postcopy_resume(self) -> bytes:
        """Go on after a break."""
        return command(VmCommand.POSTCOPY_RESUME)

    # -- pieces ------------------------------------------------------------------------------

    def _section(self, kind: int, number: int, name: str, instance: int, version: int) -> bytes:
        return bytes([kind]) + be32(number) + counted(name) + be32(instance) + be32(version)

    def _footer(self, number: int) -> bytes:
        return bytes([SECTION_FOOTER]) + be32(number) if self.source.footers else b""

    def _full(self, number: int, device: DeviceSection) -> bytes:
        fixed = device.layout
        if len(device.data) != fixed.size:
            raise ValueError(f"{fixed.name}: {len(device.data)} bytes, not {fixed.size}")
        self._described.append(vmdesc.describe_section(fixed, device.instance_id))
        header = self._section(
            SECTION_FULL, number, fixed.name, device.instance_id, fixed.version_id
        )
        return header + device.data + self._footer(number)
