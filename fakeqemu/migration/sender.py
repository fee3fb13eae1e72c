"""What a source writes and when it closes a section: the stream's pieces put on the channel.

QEMU flushes after the mark that ends a part of RAM and writes the footer with what comes next,
so a source that dies leaves the last footer away; here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fakeqemu.migration.streams import mappedram
from fakeqemu.migration.streams.constants import PAGE_SIZE, Ram
from fakeqemu.migration.streams.events import MappedRam
from fakeqemu.migration.streams.writer import Source, SourceBlock, StreamWriter, be64

if TYPE_CHECKING:
    from fakeqemu.migration.bitmaps import OutgoingBitmaps
    from fakeqemu.migration.channel import OutgoingChannel
    from fakeqemu.traits import Traits

#: most ranges that are told stale in one command
_RANGES = 12
#: what ends the channel of urgent pages, where it is not just closed
_PREEMPT_END = be64(Ram.EOS)


class Sender:
    """The stream of one migration on its channel."""

    def __init__(
        self, channel: OutgoingChannel, source: Source, traits: Traits, *, offset: int = 0
    ) -> None:
        """`offset`: where in a file the stream begins."""
        self.channel = channel
        self.source = source
        self._writer = StreamWriter(source, traits)
        self._offset = offset
        #: a part of RAM has ended, but for its footer
        self._open = False
        #: packets on multifd channels
        self._packets = 0
        #: where the pages of each block are in the file
        self._places: dict[str, MappedRam] = {}
        #: pages that the destination has, or will have, in postcopy
        self._given: set[tuple[str, int]] = set()
        #: dirty bitmaps that are still to be sent
        self._bitmaps: OutgoingBitmaps | None = None

    # -- precopy -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Header, and what is agreed before the first page."""
        writer, on = self._writer, self.source.capabilities
        self._write(writer.header())
        if self.channel.return_path:
            self._write(writer.open_return_path())
        if "postcopy-ram" in on or "dirty-bitmaps" in on:
            self._write(writer.postcopy_advise())

    def setup(self) -> None:
        """The list of RAM blocks."""
        self._sync()
        if "mapped-ram" in self.source.capabilities:
            for piece in mappedram.ram_setup(self._writer, self._offset, self._places):
                if isinstance(piece, mappedram.Hole):
                    self.channel.skip(piece.size)
                    self._offset += piece.size
                else:
                    self._write(piece)
        else:
            self._write(self._writer.ram_setup())
        self._open = True

    def setup_bitmaps(self, bitmaps: OutgoingBitmaps) -> None:
        """The list of dirty bitmaps; what is in them comes at the end."""
        self._bitmaps = bitmaps or None
        self._write(self._footer() + self._writer.bitmaps_start(bitmaps.start()))
        self._open = True

    def part(
        self, pages: int = 0, *, pass_ends: bool = False, content: bool = False
    ) -> None:
        """A part of RAM, with so many zero pages in it, or with all that are not zero."""
        if pass_ends or self._writer.syncs_per_section:
            self._sync()
        records = b"".join(self._writer.zero_pages(0, pages)) if pages else b""
        if content:
            records += self._writer.content_pages()
            self._put_content()
        self._write(self._footer() + self._writer.ram_part(records, pass_ends=pass_ends))
        self._open = True

    def ram_end(self) -> None:
        """The last part of RAM."""
        self._sync()
        writer = self._writer
        head = self._footer() + writer.switchover_start()
        self._write(head + writer.ram_end(writer.content_pages()))
        self._put_content()
        self._open = True

    def end(self, runstate: str, clock: int) -> None:
        """Device states, and the end of a precopy stream."""
        writer = self._writer
        self._end_bitmaps()
        states = writer.device_states(runstate, clock=clock)
        self._write(self._footer() + states + writer.end())

    # -- postcopy ----------------------------------------------------------------------------

    def discard(self, left: int) -> None:
        """The guest has stopped: of all RAM the last `left` bytes are stale."""
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
        self._write(data)

    def package(self, runstate: str, clock: int) -> None:
        """The switch to postcopy."""
        self._write(self._writer.package(runstate, clock=clock))
        if "postcopy-ram" in self.source.capabilities:
            self._write(self._writer.ping(4))

    def page(self, block: str, start: int, length: int) -> None:
        """Pages that were asked for, but for those that are on their way."""
        self._pages([(block, at // PAGE_SIZE) for at in range(start, start + length, PAGE_SIZE)])

    def rest(self) -> None:
        """All pages that are not zero and nobody has asked for: none comes twice."""
        content = self.source.content
        if "postcopy-ram" in self.source.capabilities and content is not None:
            names = [block.name for block in self.source.blocks]
            self._pages([(name, number) for name in names for number in sorted(content(name))])

    def _pages(self, wanted: list[tuple[str, int]]) -> None:
        records = b""
        for block, number in wanted:
            if (block, number) not in self._given:
                records += self._writer.page(block, number * PAGE_SIZE)
        self._given.update(wanted)
        if not records:
            return
        self._write(self._footer() + self._writer.ram_part(records))
        self._open = True

    def postcopy_end(self) -> None:
        """The end of a postcopy stream."""
        writer = self._writer
        self._write(self._footer() + writer.ram_end())
        self._open = True
        self._end_bitmaps()
        self._write(self._footer() + writer.end(postcopy=True))
        if self._writer.traits.preempt_channel_at_setup:
            self.channel.preempt_write(_PREEMPT_END)

    def ask_bitmaps(self, channel: OutgoingChannel) -> Sequence[SourceBlock]:
        """Go on on a new channel: ask which pages have come. The blocks asked for."""
        self.channel, self._open = channel, False
        self._given.clear()
        self._write(b"".join(self._writer.recv_bitmap(b.name) for b in self.source.blocks))
        return self.source.blocks

    def has(self, block: str, pages: Iterable[int]) -> None:
        """The destination has these pages of a block."""
        self._given.update((block, number) for number in pages)

    def resume(self) -> None:
        """Everything is known that is needed to go on."""
        self._write(self._writer.postcopy_resume())

    # -- inside ------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        self._offset += len(data)
        self.channel.write(data)

    def _put_content(self) -> None:
        """Put pages that are not zero in their places in a file."""
        content = self.source.content
        if content is None:
            return
        for name, header in self._places.items():
            for offset, data in mappedram.content(header, content(name)):
                self.channel.write_at(offset, data)

    def _footer(self) -> bytes:
        was_open, self._open = self._open, False
        return self._writer.footer() if was_open else b""

    def _end_bitmaps(self) -> None:
        bitmaps, self._bitmaps = self._bitmaps, None
        if bitmaps is not None:
            self._write(self._footer() + self._writer.bitmaps_end(bitmaps.finish()))
            self._open = True

    def _sync(self) -> None:
        """Keep multifd channels in step with the main one."""
        if "multifd" in self.source.capabilities:
            self._packets = self.channel.sync(self._packets)
