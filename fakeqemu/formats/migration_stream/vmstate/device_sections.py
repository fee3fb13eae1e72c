"""Finding the end of a section whose format only its device knows.

The description that gives the sizes comes after everything, too late for a reader that has
to answer on the way. But each section ends with a footer that repeats its number, and what
follows a footer must be the beginning of something: five bytes that have to match, and a
header that has to make sense. So a section is scanned for its footer and dropped as it
passes; nothing is kept but its size. When the description comes, the sizes are compared.

Without footers (send-section-footer off) there is nothing to look for. Then the rest of the
stream is kept, up to a bound, until it ends in a description, and is split by that.

See migration/savevm.c: qemu_loadvm_section_start_full() and check_section_footer().
"""

from __future__ import annotations

from collections.abc import Container, Generator

from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.byte_reader import ByteReader
from fakeqemu.formats.migration_stream.constants import (
    COMMAND,
    COMMAND_LENGTH,
    DESCRIPTION_LIMIT,
    EOF,
    OPAQUE_LIMIT,
    SECTION_END,
    SECTION_FOOTER,
    SECTION_FULL,
    SECTION_PART,
    SECTION_START,
    VMDESCRIPTION,
    VmCommand,
)
from fakeqemu.formats.migration_stream.errors import EINVAL, EIO, LoadError
from fakeqemu.formats.migration_stream.vmstate import vmdesc

_FOOTER_SIZE = 5
#: longest header looked at behind a footer: a section's with a name of 255 characters
_LOOKAHEAD = 1 + 4 + 1 + 255 + 8


def skip_to_footer(
    pull: ByteReader, section_id: int, started: Container[int]
) -> Generator[None, None, int]:
    """Drop bytes up to the footer of `section_id`; how many. At the end: all there are."""
    footer = bytes([SECTION_FOOTER]) + section_id.to_bytes(4, "big")
    begin = pull.offset
    while True:
        at = pull.buffer.find(footer, pull.position)
        if at >= 0:
            pull.position = at
            yield from pull.want(_FOOTER_SIZE + 1)
            verdict = _begins(pull, _FOOTER_SIZE, started)
            if verdict is None:
                yield
                continue
            if verdict:
                return pull.offset - begin
            pull.position += 1
            continue
        keep = _partial(pull, footer) if pull.ended else len(footer) - 1
        pull.position = max(pull.position, len(pull.buffer) - keep)
        if pull.ended:
            return pull.offset - begin
        if pull.offset - begin > OPAQUE_LIMIT:
            raise LoadError(EINVAL)
        yield


def _partial(pull: ByteReader, footer: bytes) -> int:
    """How many of the last bytes of a stream that broke off are the beginning of a footer."""
    for size in range(len(footer) - 1, 0, -1):
        if pull.buffer.endswith(footer[:size]):
            return size
    return 0


def _begins(pull: ByteReader, at: int, started: Container[int]) -> bool | None:
    """Whether something can begin `at` bytes ahead; None if it takes more bytes to tell."""
    data = bytes(pull.buffer[pull.position + at : pull.position + at + _LOOKAHEAD])
    verdict = _judge(data, started)
    # what has ended has nothing more to tell: the benefit of the doubt
    return True if verdict is None and pull.ended else verdict


def _judge(data: bytes, started: Container[int]) -> bool | None:
    if not data:
        return None
    kind, rest = data[0], data[1:]
    if kind == EOF:
        return None if not rest else rest[0] == VMDESCRIPTION
    if kind in (SECTION_PART, SECTION_END):
        return None if len(rest) < 4 else int.from_bytes(rest[:4], "big") in started
    if kind in (SECTION_START, SECTION_FULL):
        if len(rest) < 5:
            return None
        name = rest[5 : 5 + rest[4]]
        if not rest[4] or not all(0x20 <= letter < 0x7F for letter in name):
            return False
        return True if len(name) == rest[4] else None
    if kind == COMMAND:
        if len(rest) < 4:
            return None
        number, size = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
        try:
            return COMMAND_LENGTH.get(VmCommand(number), size) == size
        except ValueError:
            return False
    return False


def _compare(
    found: list[tuple[str, int, int]], described: list[tuple[str, int, int]]
) -> tuple[str, ...]:
    """Names of devices whose found size is not the described one."""
    sizes = {(name, instance): size for name, instance, size in described}
    return tuple(
        name
        for name, instance, size in found
        if sizes.get((name, instance), size) != size
    )


def find_description(pull: ByteReader) -> int | None:
    """Where, in `pull.buffer`, the stream's end mark and description begin, if it is whole.

    For streams without footers: a description is recognised by ending where the bytes do.
    """
    data = pull.buffer
    at = max(pull.position, len(data) - DESCRIPTION_LIMIT)
    mark = bytes([EOF, VMDESCRIPTION])
    while (at := data.find(mark, at)) >= 0:
        size = int.from_bytes(data[at + 2 : at + 6], "big")
        if at + 6 + size == len(data) and vmdesc.parse(bytes(data[at + 6 :])) is not None:
            return at
        at += 1
    return None


def read_description(
    pull: ByteReader, found: list[tuple[str, int, int]]
) -> Generator[None, None, events.Description | events.Report]:
    """The description at the end of a stream, compared with the sections that were `found`."""
    mark = yield from pull.number(1)
    if mark != VMDESCRIPTION:
        return events.Report(f"Expected vmdescription section, but got {mark}")
    size = yield from pull.number(4)
    if size > DESCRIPTION_LIMIT:
        yield from pull.skip(size)
        return events.Description(None, size)
    value = vmdesc.parse((yield from pull.get(size)))
    wrong = () if value is None else _compare(found, vmdesc.sizes(value))
    return events.Description(value, size, wrong)


def read_footer(pull: ByteReader, section_id: int, name: str) -> Generator[None, None, None]:
    """The footer of a section. Raises LoadError; see migration/savevm.c: check_section_footer()."""
    mark = yield from pull.number(1)
    text = ""
    if pull.error:
        text = f"check_section_footer: Read section footer failed: -{EIO}"
    elif mark != SECTION_FOOTER:
        text = f"Missing section footer for {name}"
    else:
        read = yield from pull.number(4)
        if read != section_id:
            text = (
                f"Mismatched section id in footer for {name} - "
                f"read 0x{read:x} expected 0x{section_id:x}"
            )
    if text:
        modern = f"Section footer error, section_id: {section_id}"
        raise LoadError(EINVAL, reports=(text,), modern=modern)
