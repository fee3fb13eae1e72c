"""Multifd channels: one that names itself, then packets of page addresses and their data.

The reader counts pages and drops them. The writer makes an idle channel: its name, and the
sync packets without which a real destination would wait at each mark of the main channel.

See migration/multifd.c: multifd_send_initial_packet(), multifd_send_fill_packet() and
multifd_recv_unfill_packet().
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Mapping
from uuid import UUID

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.migration_stream.byte_reader import Parser
from fakeqemu.formats.migration_stream.channels.feed_reader import FeedReader, FormatError
from fakeqemu.formats.migration_stream.constants import PAGE_SIZE

MAGIC = 0x11223344
VERSION = 1
FLAG_SYNC = 1
FLAG_DEVICE_STATE = 32 << 1
#: bytes of guest memory in one packet
PACKET_SIZE = 512 * 1024
PAGES = PACKET_SIZE // PAGE_SIZE

_INIT = struct.Struct(">II16sB7x32x")
_HEAD = struct.Struct(">III")
#: after the head: pages allocated, normal pages, next size, number, zero pages, name of block
_RAM = struct.Struct(">IIIQI28x256s")
#: after the head: name, instance, next size
_DEVICE = struct.Struct(">256sII")
_NO_UUID = UUID(int=0)
#: most bytes of pages behind one packet: compressed pages may be longer than they were
_PAYLOAD_LIMIT = 2 * PACKET_SIZE
_DEVICE_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class ChannelInit:
    """The channel's name for itself."""

    channel: int


@dataclass(frozen=True, slots=True)
class MultifdPacket:
    """One packet; its pages are gone."""

    number: int
    block: str
    normal: int
    zero: int
    #: bytes of pages as they travelled
    size: int
    #: all channels and the main one are to be in step here
    sync: bool


@dataclass(frozen=True, slots=True)
class DevicePacket:
    """A piece of a device's state (VFIO)."""

    name: str
    instance_id: int
    size: int


@dataclass(frozen=True, slots=True)
class ChannelFailed:
    """The channel cannot be read; `text` is QEMU's."""

    text: str


Said = ChannelInit | MultifdPacket | DevicePacket | ChannelFailed


class MultifdReader(FeedReader[Said]):
    """Reads one channel; `sizes` are the bytes of the RAM blocks known so far."""

    def __init__(
        self, channels: int, uuid: UUID | None = None, sizes: Mapping[str, int] | None = None
    ) -> None:
        self._channels = channels
        self._uuid = uuid or _NO_UUID
        self._sizes = sizes
        super().__init__()

    def _failed(self, text: str) -> Said:
        return ChannelFailed(text)

    def _parse(self) -> Parser:
        yield from self._init()
        while (yield from self._pull.want(_HEAD.size)):
            magic, version, flags = _HEAD.unpack((yield from self._get(_HEAD.size)))
            if magic != MAGIC:
                raise FormatError(f"multifd: received packet magic {magic:x}, expected {MAGIC:x}")
            if version != VERSION:
                raise FormatError(f"multifd: received packet version {version}, expected {VERSION}")
            if flags & FLAG_DEVICE_STATE:
                yield from self._device()
            else:
                yield from self._ram(flags)

    def _init(self) -> Parser:
        magic, version, uuid, channel = _INIT.unpack((yield from self._get(_INIT.size)))
        if magic != MAGIC:
            raise FormatError(f"multifd: received packet magic {magic:x} expected {MAGIC:x}")
        if version != VERSION:
            raise FormatError(f"multifd: received packet version {version} expected {VERSION}")
        theirs = UUID(bytes=uuid)
        if theirs != self._uuid:
            signed = channel - 256 if channel > 127 else channel
            raise FormatError(
                f"multifd: received uuid '{theirs}' and expected uuid '{self._uuid}' "
                f"for channel {signed}"
            )
        if channel > self._channels:
            raise FormatError(
                f"multifd: received channel id {channel} is greater than number of channels "
                f"{self._channels}"
            )
        self._out.append(ChannelInit(channel))

    def _ram(self, flags: int) -> Parser:
        allocated, normal, size, number, zero, name = _RAM.unpack((yield from self._get(_RAM.size)))
        offsets = yield from self._get(8 * PAGES)
        if allocated > PAGES:
            raise FormatError(f"multifd: received packet with {allocated} pages, expected {PAGES}")
        if normal > allocated:
            raise FormatError(
                f"multifd: received packet with {normal} non-zero pages, "
                f"which exceeds maximum expected pages {allocated}"
            )
        if zero > allocated - normal:
            raise FormatError(
                f"multifd: received packet with {zero} zero pages, "
                f"expected maximum {allocated - normal}"
            )
        block = name.split(b"\0", 1)[0].decode("utf-8", "replace")
        if normal or zero:
            self._check_offsets(block, offsets[: 8 * (normal + zero)])
        if size > _PAYLOAD_LIMIT:
            raise FormatError(
                f"multifd: next_packet_size {size} exceeds allocated {_PAYLOAD_LIMIT}"
            )
        # a packet without pages may still carry the size of the one before (7.2)
        size = size if normal else 0
        if (yield from self._pull.skip(size)) < size:
            raise FormatError("Unexpected end-of-file before all data were read")
        self._out.append(MultifdPacket(number, block, normal, zero, size, bool(flags & FLAG_SYNC)))

    def _check_offsets(self, block: str, offsets: bytes) -> None:
        if self._sizes is None:
            return
        if block not in self._sizes:
            raise FormatError(f"multifd: unknown ram block {block}")
        size = self._sizes[block]
        for (offset,) in struct.iter_unpack(">Q", offsets):
            if offset > size - PAGE_SIZE:
                raise FormatError(f"multifd: offset too long {offset} (max {size:x})")

    def _device(self) -> Parser:
        name, instance, size = _DEVICE.unpack((yield from self._get(_DEVICE.size)))
        if b"\0" not in name:
            raise FormatError("unterminated multifd device state idstr")
        if not 0 < size <= _DEVICE_LIMIT:
            raise FormatError("multifd: received empty device state packet")
        yield from self._pull.skip(size)
        text = name.split(b"\0", 1)[0].decode("utf-8", "replace")
        self._out.append(DevicePacket(text, instance, size))

    def _get(self, size: int) -> Generator[None, None, bytes]:
        data = yield from self._pull.get(size)
        if self._pull.error:
            raise FormatError("Unexpected end-of-file before all data were read")
        return data


class MultifdWriter:
    """Makes the bytes of one idle channel."""

    def __init__(self, channel: int, uuid: UUID | None = None) -> None:
        self.channel = channel
        self._uuid = uuid or _NO_UUID

    def init(self) -> bytes:
        """The first packet."""
        return _INIT.pack(MAGIC, VERSION, self._uuid.bytes, self.channel)

    def sync(self, number: int) -> bytes:
        """A sync packet; `number` counts the packets of all channels together."""
        head = _HEAD.pack(MAGIC, VERSION, FLAG_SYNC)
        return head + _RAM.pack(PAGES, 0, 0, number, 0, b"") + bytes(8 * PAGES)
