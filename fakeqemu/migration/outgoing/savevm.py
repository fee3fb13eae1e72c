"""The source's stream: the parts of it in order, as requests for the channels.

See migration/savevm.c: qemu_savevm_state_iterate() and its neighbours. Each method yields what is
to be written (`phase.StreamRequest`); none knows a channel. QEMU flushes after the mark that ends a
part of RAM and writes the footer with the next part, so a source that dies leaves the last footer
out; here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fakeqemu.formats.migration_stream.channels import mapped_ram as mappedram
from fakeqemu.formats.migration_stream.constants import PAGE_SIZE, Ram
from fakeqemu.formats.migration_stream.events import MappedRam
from fakeqemu.formats.migration_stream.source import Source
from fakeqemu.formats.migration_stream.writer import StreamWriter, be64
from fakeqemu.migration.outgoing.phase import (
    Pieces,
    Skip,
    SyncMultifd,
    Write,
    WriteAt,
    WritePreempt,
)

if TYPE_CHECKING:
    from fakeqemu.migration.block_dirty_bitmaps import OutgoingBitmaps
    from fakeqemu.traits import Traits

#: the end of the postcopy preempt channel, in versions that do not just close it
_PREEMPT_END = be64(Ram.EOS)


class SaveVm:
    """The stream of one migration."""

    def __init__(self, source: Source, traits: Traits, *, offset: int = 0) -> None:
        """`offset`: where in a file the stream begins."""
        self.source = source
        self._writer = StreamWriter(source, traits)
        self._offset = offset
        #: a part of RAM lacks its footer
        self._open = False
        #: number of the next multifd packet
        self._packets = 0
        #: mapped-ram: place of each block's pages in the file
        self._places: dict[str, MappedRam] = {}
        #: postcopy: pages that have been sent
        self._given: set[tuple[str, int]] = set()
        #: dirty bitmaps that are still to be sent
        self._bitmaps: OutgoingBitmaps | None = None

    # -- precopy -----------------------------------------------------------------------------

    def begin(self, *, return_path: bool) -> Pieces:
        """Header, configuration and the commands before the first section."""
        writer, on = self._writer, self.source.capabilities
        yield from self._write(writer.header())
        if return_path:
            yield from self._write(writer.open_return_path())
        if "postcopy-ram" in on or "dirty-bitmaps" in on:
            yield from self._write(writer.postcopy_advise())

    def setup(self) -> Pieces:
        """The setup section of RAM: the list of blocks."""
        yield from self._sync()
        if "mapped-ram" in self.source.capabilities:
            for piece in mappedram.ram_setup(self._writer, self._offset, self._places):
                if isinstance(piece, mappedram.Hole):
                    yield Skip(piece.size)
                    self._offset += piece.size
                else:
                    yield from self._write(piece)
        else:
            yield from self._write(self._writer.ram_setup())
        self._open = True

    def setup_bitmaps(self, bitmaps: OutgoingBitmaps) -> Pieces:
        """The setup section of dirty bitmaps; their bits are sent at the end."""
        self._bitmaps = bitmaps or None
        yield from self._write(self._footer() + self._writer.bitmaps_start(bitmaps.start()))
        self._open = True

    def part(self, pages: int = 0, *, pass_ends: bool = False, content: bool = False) -> Pieces:
        """A part section of RAM, with so many zero pages, or with all pages that are not zero."""
        if pass_ends or self._writer.syncs_per_section:
            yield from self._sync()
        records = b"".join(self._writer.zero_pages(0, pages)) if pages else b""
        if content:
            records += self._writer.content_pages()
            yield from self._put_content()
        footer = self._footer()
        yield from self._write(footer + self._writer.ram_part(records, pass_ends=pass_ends))
        self._open = True

    def ram_end(self) -> Pieces:
        """The end section of RAM."""
        yield from self._sync()
        writer = self._writer
        head = self._footer() + writer.switchover_start()
        yield from self._write(head + writer.ram_end(writer.content_pages()))
        yield from self._put_content()
        self._open = True

    def end(self, runstate: str, clock: int) -> Pieces:
        """Device states, EOF and the description: the end of a precopy stream."""
        writer = self._writer
        yield from self._end_bitmaps()
        states = writer.device_states(runstate, clock=clock)
        yield from self._write(
            self._footer() + states + writer.end(), self.source.descriptors
        )

    # -- postcopy ----------------------------------------------------------------------------

    def discard(self, left: int) -> Pieces:
        """Postcopy discard commands: of all RAM the last `left` bytes are dirty."""
        writer = self._writer
        data = self._footer() + writer.switchover_start()
        sent = max(0, sum(block.size for block in self.source.blocks) - left)
        if "postcopy-ram" in self.source.capabilities:
            for block in self.source.blocks:
                start = min(sent, block.size) // PAGE_SIZE * PAGE_SIZE
                sent -= start
                if start < block.size:
                    data += writer.discard(block.name, [(start, block.size - start)])
            data += writer.ping(2)
        else:
            # only the bitmaps follow
            data += writer.ram_end() + writer.footer()
        yield from self._write(data)

    def package(self, runstate: str, clock: int) -> Pieces:
        """The package with device states and the commands that start postcopy."""
        package = self._writer.package(runstate, clock=clock)
        yield from self._write(package, self.source.descriptors)
        if "postcopy-ram" in self.source.capabilities:
            yield from self._write(self._writer.ping(4))

    def page(self, block: str, start: int, length: int) -> Pieces:
        """Pages of a request, except those that have been sent."""
        pages = range(start, start + length, PAGE_SIZE)
        yield from self._pages([(block, at // PAGE_SIZE) for at in pages])

    def rest(self) -> Pieces:
        """All pages that are not zero and have not been sent."""
        content = self.source.content
        if "postcopy-ram" in self.source.capabilities and content is not None:
            names = [block.name for block in self.source.blocks]
            pages = [(name, number) for name in names for number in sorted(content(name))]
            yield from self._pages(pages)

    def _pages(self, wanted: list[tuple[str, int]]) -> Pieces:
        records = b""
        for block, number in wanted:
            if (block, number) not in self._given:
                records += self._writer.page(block, number * PAGE_SIZE)
        self._given.update(wanted)
        if not records:
            return
        yield from self._write(self._footer() + self._writer.ram_part(records))
        self._open = True

    def postcopy_end(self) -> Pieces:
        """The end of a postcopy stream."""
        writer = self._writer
        yield from self._write(self._footer() + writer.ram_end())
        self._open = True
        yield from self._end_bitmaps()
        yield from self._write(self._footer() + writer.end(postcopy=True))
        if self._writer.traits.preempt_channel_at_setup:
            yield WritePreempt(_PREEMPT_END)

    def ask_bitmaps(self) -> Pieces:
        """Recovery: request the received bitmap of each block; returns the number of blocks."""
        self._open = False
        self._given.clear()
        blocks = self.source.blocks
        yield from self._write(b"".join(self._writer.recv_bitmap(b.name) for b in blocks))
        return len(blocks)

    def has(self, block: str, pages: Iterable[int]) -> None:
        """The destination has received these pages of a block."""
        self._given.update((block, number) for number in pages)

    def resume(self) -> Pieces:
        """Recovery: the command POSTCOPY_RESUME."""
        yield from self._write(self._writer.postcopy_resume())

    # -- inside ------------------------------------------------------------------------------

    def _write(self, data: bytes, fds: tuple[int, ...] = ()) -> Pieces:
        self._offset += len(data)
        yield Write(data, fds)

    def _put_content(self) -> Pieces:
        """mapped-ram: write the pages that are not zero at their places in the file."""
        content = self.source.content
        if content is None:
            return
        for name, header in self._places.items():
            for offset, data in mappedram.content(header, content(name)):
                yield WriteAt(offset, data)

    def _footer(self) -> bytes:
        was_open, self._open = self._open, False
        return self._writer.footer() if was_open else b""

    def _end_bitmaps(self) -> Pieces:
        bitmaps, self._bitmaps = self._bitmaps, None
        if bitmaps is not None:
            yield from self._write(self._footer() + self._writer.bitmaps_end(bitmaps.finish()))
            self._open = True

    def _sync(self) -> Pieces:
        """Synchronise the multifd channels with the main channel."""
        if "multifd" in self.source.capabilities:
            self._packets = yield SyncMultifd(self._packets)
