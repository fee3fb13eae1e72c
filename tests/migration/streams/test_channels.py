"""The return path and the further channels."""

from __future__ import annotations

from uuid import UUID

import pytest

from fakeqemu.formats.migration_stream.channels import multifd, return_path as returnpath
from fakeqemu.formats.migration_stream.writer import be32, be64
from fakeqemu.traits import TRAITS


def read(stream, data: bytes, chunk: int = 0) -> list:
    said = []
    for at in range(0, len(data), chunk or max(1, len(data))):
        said += stream.feed(data[at : at + (chunk or len(data))])
    return said + stream.feed_eof()


@pytest.mark.parametrize("chunk", [0, 1, 5])
def test_answers_go_there_and_back(chunk: int) -> None:
    data = returnpath.pong(1) + b"\0\3\0\x13" + be64(0x5000) + be32(4096) + b"\6pc.ram"
    data += b"\0\4\0\x0c" + be64(0x6000) + be32(4096) + returnpath.resume_ack()
    data += returnpath.received_bitmap("pc.ram", 100 << 12)
    data += returnpath.switchover_ack() + returnpath.shut(0)
    stream = returnpath.ReturnPathReader(TRAITS["11.1"])
    assert read(stream, data, chunk) == [
        returnpath.Pong(1),
        returnpath.RequestPages("pc.ram", 0x5000, 4096),
        returnpath.RequestPages(None, 0x6000, 4096),
        returnpath.ResumeAck(),
        returnpath.ReceivedBitmap("pc.ram", 128, 0),
        returnpath.SwitchoverAck(),
        returnpath.Shut(0),
    ]
    assert stream.done


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "Channel error: Input/output error"),
        (b"\0\2\0", "Channel error: Input/output error"),
        (b"\0\x09\0\4", "Received invalid message 0x0009 length 0x0004"),
        (b"\0\2\0\5", "Received 'PONG' message (0x0002) withincorrect length 5 expecting 4"),
        (b"\0\2\0\4ab", "Failed reading data for message 0x0002 read 2 expected 4"),
        (b"\0\3\0\2ab", "Req_Page_id with length 2 expecting 13"),
        (b"\0\6\0\4\0\0\0\7", "illegal resume_ack value 7"),
    ],
)
def test_wrong_answers(data: bytes, text: str) -> None:
    stream = returnpath.ReturnPathReader(TRAITS["11.1"])
    assert read(stream, data) == [returnpath.Broken(text)]
    assert stream.done


def test_switchover_ack_is_not_known_to_every_version() -> None:
    stream = returnpath.ReturnPathReader(TRAITS["7.2"])
    (broken,) = read(stream, returnpath.switchover_ack())
    assert broken.text.startswith("Received invalid message 0x0007")


UUID_1 = UUID(int=1)


def packet(flags: int, normal: int, zero: int, size: int, name: bytes = b"ram") -> bytes:
    head = b"\x11\x22\x33\x44\0\0\0\1" + flags.to_bytes(4, "big")
    data = b"".join(n.to_bytes(4, "big") for n in (128, normal, size)) + bytes(8)
    data += zero.to_bytes(4, "big") + bytes(28) + name.ljust(256, b"\0")
    return head + data + bytes(8 * 128)


@pytest.mark.parametrize("chunk", [0, 1, 1000])
def test_multifd_channel(chunk: int) -> None:
    writer = multifd.MultifdWriter(1, UUID_1)
    data = writer.init() + writer.sync(0)
    data += packet(0, 2, 1, 8192) + bytes(8192) + packet(1, 0, 0, 8192)
    stream = multifd.MultifdReader(2, UUID_1, {"ram": 1 << 20})
    said = read(stream, data, chunk)
    assert said == [
        multifd.ChannelInit(1),
        multifd.MultifdPacket(0, "", 0, 0, 0, True),
        multifd.MultifdPacket(0, "ram", 2, 1, 8192, False),
        multifd.MultifdPacket(0, "ram", 0, 0, 0, True),
    ]
    assert stream.done
    assert len(writer.init()) == 64
    assert len(writer.sync(0)) == 1344


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes(64), "multifd: received packet magic 0 expected 11223344"),
        (
            multifd.MultifdWriter(1).init(),
            f"multifd: received uuid '{UUID(int=0)}' and expected uuid '{UUID_1}' for channel 1",
        ),
        (
            multifd.MultifdWriter(9, UUID_1).init(),
            "multifd: received channel id 9 is greater than number of channels 2",
        ),
        (multifd.MultifdWriter(1, UUID_1).init()[:9],
         "Unexpected end-of-file before all data were read"),
        (multifd.MultifdWriter(1, UUID_1).init() + packet(0, 200, 0, 0),
         "multifd: received packet with 200 non-zero pages, which exceeds maximum expected "
         "pages 128"),
        (multifd.MultifdWriter(1, UUID_1).init() + packet(0, 1, 0, 4096, b"foo"),
         "multifd: unknown ram block foo"),
    ],
)
def test_wrong_multifd_channels(data: bytes, text: str) -> None:
    stream = multifd.MultifdReader(2, UUID_1, {"ram": 1 << 20})
    assert read(stream, data)[-1] == multifd.ChannelFailed(text)
    assert stream.done
