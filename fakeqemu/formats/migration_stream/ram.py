"""The `ram` section's own format: block list, pages, marks.

Pages are counted and dropped. The loop over records is the only part of the reader that is
run a million times, so it looks into the buffer directly where a record is whole.

See migration/ram.c: ram_load_precopy(), ram_load_postcopy(), parse_ramblocks(), ram_handle_zero()
and ram_save_setup().
"""

from __future__ import annotations

from collections.abc import Generator

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.byte_reader import ByteReader
from fakeqemu.formats.migration_stream.constants import (
    COMPRESS_BOUND,
    PAGE_MASK,
    PAGE_SIZE,
    RAM_BLOCK_LIMIT,
    PostcopyState,
    Ram,
)
from fakeqemu.formats.migration_stream.errors import EINVAL, EIO, LoadError
from fakeqemu.formats.migration_stream.load_context import LoadContext
from fakeqemu.traits import Traits

_ZERO_NEXT = int(Ram.ZERO | Ram.CONTINUE)
_PAGE_NEXT = int(Ram.PAGE | Ram.CONTINUE)
_PAGES = Ram.ZERO | Ram.PAGE | Ram.XBZRLE
_MAPPED_VERSION = 1
_64 = 0xFFFF_FFFF_FFFF_FFFF
_ZERO_PAGE = bytes(PAGE_SIZE)
#: bytes of a bitmap in a file that are read at once
_BITMAP_PIECE = 1 << 16


def _invalid(*reports: str) -> LoadError:
    """An error whose words are printed by every version."""
    return LoadError(EINVAL, reports=reports)


@dataclass(slots=True)
class _Counts:
    normal: int = 0
    zero: int = 0
    xbzrle: int = 0
    compressed: int = 0


class RamReader:
    """Reads parts of the `ram` section; keeps the list of blocks between them."""

    def __init__(self, expected: LoadContext, traits: Traits) -> None:
        self._expected = expected
        self._traits = traits
        self._counts = _Counts()
        self._block = ""
        #: offset in the block of the page whose record is read
        self._address = 0
        #: flags of records that are of a page; compressed ones where there is compression
        self._page_flags = int(_PAGES)
        if "compress" in expected.capabilities:
            self._page_flags |= Ram.COMPRESS_PAGE
        #: pages of each block that have come in postcopy, where none may come twice
        self.received: dict[str, set[int]] = {}
        #: bytes of each block the source has listed
        self.sizes: dict[str, int] = {}

    def pages(self) -> list[events.Event]:
        """The pages that came since this was last asked, as at most one event."""
        counts, self._counts = self._counts, _Counts()
        if counts == _Counts():
            return []
        return [
            events.RamPages(counts.normal, counts.zero, counts.xbzrle, counts.compressed)
        ]

    def read(
        self, pull: ByteReader, postcopy: PostcopyState, last: bool, out: list[events.Event]
    ) -> Generator[None, None, None]:
        """One part of the section, through its end mark. Raises LoadError."""
        running = postcopy in (PostcopyState.LISTENING, PostcopyState.RUNNING)
        while True:
            self._rush(pull, running)
            header = yield from pull.number(8)
            if pull.error and (running or self._traits.stream_ram_strict):
                raise LoadError(EIO, reports=() if running else ("Getting RAM address failed",))
            flags, address = header & ~PAGE_MASK, header & PAGE_MASK
            self._check_flags(flags)
            if flags & self._page_flags:
                yield from self._find_page(pull, flags, address)
            kind = flags & ~Ram.CONTINUE
            if kind == Ram.EOS:
                out += self.pages()
                out.append(events.RamRound(last))
                return
            if kind == Ram.MEM_SIZE and not running:
                yield from self._block_list(pull, address, postcopy, out)
            elif not (yield from self._record(pull, kind, running, out)):
                mode = " (postcopy mode)" if running else ""
                raise _invalid(f"Unknown combination of migration flags: 0x{flags:x}{mode}")
            if pull.error:
                raise LoadError(pull.error)

    def _rush(self, pull: ByteReader, running: bool) -> None:
        """Take whole records of the commonest two kinds, as many as are here.

        While the guest runs it has to be seen whether a page is new, unless none is kept.
        """
        buffer, position, end = pull.buffer, pull.position, len(pull.buffer)
        size = self.sizes.get(self._block, 0)
        if not size or self._expected.on("mapped-ram"):
            return
        zero = normal = 0
        content = self._has_content()
        if running and content:
            return
        while position + 9 <= end:
            header = int.from_bytes(buffer[position : position + 8], "big")
            flags = header & ~PAGE_MASK
            if header - flags >= size:
                break
            if flags == _ZERO_NEXT and not buffer[position + 8]:
                if content:
                    self._keep(header - flags, _ZERO_PAGE)
                zero += 1
                position += 9
            elif flags == _PAGE_NEXT and not running and position + 8 + PAGE_SIZE <= end:
                self._keep(header - flags, buffer[position + 8 : position + 8 + PAGE_SIZE])
                content = True
                normal += 1
                position += 8 + PAGE_SIZE
            else:
                break
        pull.position = position
        self._counts.zero += zero
        self._counts.normal += normal

    def _check_flags(self, flags: int) -> None:
        """Flags that the capabilities exclude."""
        if self._expected.on("mapped-ram"):
            bad = flags & (
                Ram.HOOK | Ram.MULTIFD_FLUSH | Ram.PAGE | Ram.XBZRLE | Ram.ZERO
            )
            if bad:
                raise _invalid(f"Unexpected RAM flags: {int(bad)}")
        compress = self._expected.capabilities.get("compress")
        if flags & Ram.COMPRESS_PAGE and compress is False:
            raise _invalid("Received an unexpected compressed page")

    def _find_page(self, pull: ByteReader, flags: int, address: int) -> Generator[None, None, None]:
        """Whether there is such a page; reads the block's name if it is another."""
        reports: tuple[str, ...] = ()
        if not flags & Ram.CONTINUE:
            name = yield from pull.c_string()
            if name in self.sizes:
                self._block = name
            else:
                reports = (f"Can't find block {name}",)
        elif not self._block:
            reports = ("Ack, bad migration stream!",)
        self._address = address
        if reports or address >= self.sizes[self._block]:
            raise _invalid(*reports, f"Illegal RAM offset {address:x}")

    def _record(
        self, pull: ByteReader, kind: int, running: bool, out: list[events.Event]
    ) -> Generator[None, None, bool]:
        """What follows a record's header; whether there is such a record."""
        if kind == Ram.ZERO:
            value = yield from pull.number(1)
            if value and self._traits.stream_ram_strict and not running:
                raise _invalid(f"Found a zero page with value {value}")
            if self._has_content() and self._is_new(running):
                self._keep(self._address, _ZERO_PAGE)
            self._counts.zero += 1
        elif kind == Ram.PAGE:
            if self._expected.memory is None:
                yield from pull.skip(PAGE_SIZE)
            else:
                page = yield from pull.get(PAGE_SIZE)
                if not pull.error and self._is_new(running):
                    self._keep(self._address, page)
            self._counts.normal += 1
        elif kind == Ram.XBZRLE and not running:
            yield from self._xbzrle(pull)
        elif kind == Ram.COMPRESS_PAGE and "compress" in self._expected.capabilities:
            length = yield from pull.number(4)
            if length > COMPRESS_BOUND:
                signed = length - (1 << 32) if length >> 31 else length
                raise _invalid(f"Invalid compressed data length: {signed}")
            yield from pull.skip(length)
            self._counts.compressed += 1
        elif kind == Ram.MULTIFD_FLUSH and self._traits.stream_multifd_flush and not running:
            out += self.pages()
            out.append(events.MultifdFlush())
        elif kind == Ram.HOOK and not running:
            if not self._traits.stream_ram_strict:
                raise LoadError(EINVAL)
        else:
            return False
        return True

    def _is_new(self, running: bool) -> bool:
        """Whether the page is to be kept: the guest may have written to one that came before."""
        if not running:
            return True
        received = self.received.setdefault(self._block, set())
        number = self._address // PAGE_SIZE
        new = number not in received
        received.add(number)
        return new

    def _has_content(self) -> bool:
        memory = self._expected.memory
        return memory is not None and bool(memory.pages(self._block))

    def _keep(self, address: int, page: bytes | bytearray) -> None:
        """A page of the block at hand has this content."""
        if self._expected.memory is not None:
            self._expected.memory.store(self._block, address, bytes(page))

    def _xbzrle(self, pull: ByteReader) -> Generator[None, None, None]:
        mark = yield from pull.number(1)
        length = yield from pull.number(2)
        wrong = ""
        if mark != 1:
            wrong = "wrong compression!"
        elif length > PAGE_SIZE:
            wrong = "len overflow!"
        if wrong:
            raise _invalid(
                f"Failed to load XBZRLE page - {wrong}", "Failed to decompress XBZRLE page at 0"
            )
        yield from pull.skip(length)
        self._counts.xbzrle += 1

    # -- the block list ----------------------------------------------------------------------

    def _block_list(
        self, pull: ByteReader, total: int, postcopy: PostcopyState, out: list[events.Event]
    ) -> Generator[None, None, None]:
        blocks: list[events.SentRamBlock] = []
        while total:
            name = yield from pull.c_string()
            length = yield from pull.number(8)
            if not self._have(name) or len(blocks) == RAM_BLOCK_LIMIT:
                raise _invalid(f'Unknown ramblock "{name}", cannot accept migration')
            blocks.append((yield from self._one_block(pull, name, length, postcopy)))
            if pull.error:
                raise _invalid('Unknown ramblock "", cannot accept migration')
            self.sizes[name] = length
            total = (total - length) & _64
        out.append(events.RamBlocks(tuple(blocks)))

    def _have(self, name: str) -> bool:
        if not name:
            return False
        return name in self._expected.blocks or not self._expected.blocks_complete

    def _one_block(
        self, pull: ByteReader, name: str, length: int, postcopy: PostcopyState
    ) -> Generator[None, None, events.SentRamBlock]:
        if self._expected.on("mapped-ram"):
            mapped = yield from self._mapped(pull, name, length)
            return events.SentRamBlock(name, length, mapped=mapped)
        self._check_size(name, length)
        page_size = address = None
        local = self._expected.blocks.get(name)
        local_page = local.page_size if local else PAGE_SIZE
        if postcopy and self._expected.on("postcopy-ram") and local_page != PAGE_SIZE:
            page_size = yield from pull.number(8)
            if page_size != local_page:
                raise _invalid(
                    f"Mismatched RAM page size {name} (local) {local_page} != {page_size}"
                )
        if self._expected.on("x-ignore-shared"):
            address = yield from pull.number(8)
        return events.SentRamBlock(name, length, page_size, address)

    def _check_size(self, name: str, length: int) -> None:
        local = self._expected.blocks.get(name)
        aligned = -(-length // PAGE_SIZE) * PAGE_SIZE & _64
        if local is None or aligned == -(-local.size // PAGE_SIZE) * PAGE_SIZE:
            return
        if local.max_size is None:
            raise _invalid(
                f"Size mismatch: {name}: 0x{aligned:x} != 0x{local.size:x}: Invalid argument"
            )
        if aligned > local.max_size:
            raise _invalid(
                f"Size too large: {name}: 0x{aligned:x} > 0x{local.max_size:x}: Invalid argument"
            )

    def _mapped(
        self, pull: ByteReader, name: str, length: int
    ) -> Generator[None, None, events.MappedRam]:
        """A mapped-ram header, and past the pages it points to."""
        size = 28
        here = yield from pull.want(size)
        data = yield from pull.get(size)
        if here < size:
            raise _invalid(
                "Could not read whole mapped-ram migration header "
                f"(expected {size}, got {here} bytes)"
            )
        version = int.from_bytes(data[:4], "big")
        if version > _MAPPED_VERSION:
            raise _invalid(
                "Migration mapped-ram capability version not supported "
                f"(expected <= {_MAPPED_VERSION}, got {version})"
            )
        header = events.MappedRam(*(int.from_bytes(data[at : at + 8], "big") for at in (4, 12, 20)))
        if header.page_size != PAGE_SIZE:
            raise _invalid(
                f"Migration mapped-ram header has invalid page_size {header.page_size} "
                f"(expected {PAGE_SIZE})"
            )
        end = header.pages_offset + length - self._expected.file_offset
        if header.pages_offset % PAGE_SIZE or end < pull.offset:
            raise _invalid(f"Error reading ramblock {name} pages, region has bad alignment")
        yield from self._mapped_pages(pull, name, length, header)
        left = end - pull.offset
        if (yield from pull.skip(left)) < left:
            raise _invalid("Error reading dirty bitmap")
        return header

    def _mapped_pages(
        self, pull: ByteReader, name: str, length: int, header: events.MappedRam
    ) -> Generator[None, None, None]:
        """The pages of a block that are not zero, as its bitmap says which there are."""
        memory = self._expected.memory
        base = self._expected.file_offset + pull.offset
        size = -(-length // PAGE_SIZE // 64) * 8
        gap = header.bitmap_offset - base
        if memory is None or gap < 0 or header.bitmap_offset + size > header.pages_offset:
            return
        yield from pull.skip(gap)
        numbers: list[int] = []
        for start in range(0, size, _BITMAP_PIECE):
            piece = yield from pull.get(min(_BITMAP_PIECE, size - start))
            if piece.count(0) < len(piece):
                numbers += _set_bits(piece, start * 8)
        start = header.pages_offset - self._expected.file_offset
        for number in numbers:
            if number * PAGE_SIZE >= length:
                break
            yield from pull.skip(start + number * PAGE_SIZE - pull.offset)
            page = yield from pull.get(PAGE_SIZE)
            if not pull.error:
                memory.store(name, number * PAGE_SIZE, page)
        if pull.error:
            raise _invalid("Error reading dirty bitmap")


def _set_bits(piece: bytes, first: int) -> list[int]:
    """Numbers of the bits that are set, eight to a byte from the lowest on."""
    return [
        first + at * 8 + bit
        for at, byte in enumerate(piece)
        if byte
        for bit in range(8)
        if byte >> bit & 1
    ]
