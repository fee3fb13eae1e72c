"""gdb's packets as bytes: framing, escapes, runs, checksums, and the parameters inside."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from fakeqemu.gdbstub.packets import (
    ChecksumError,
    PacketReader,
    ParameterError,
    ThreadId,
    escape,
    frame,
    from_hex,
    lines_of,
    number,
    parse,
    thread_id,
)


def read(data: bytes, longest: int = 4096) -> list[bytes | None]:
    """The packets in `data`; None is one with a wrong checksum."""
    reader, found = PacketReader(longest), list[bytes | None]()
    for byte in data:
        try:
            packet = reader.feed(byte)
        except ChecksumError:
            found.append(None)
            continue
        if packet is not None:
            found.append(packet)
    return found


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"$g#67", [b"g"]),
        (b"xyz+$g#67junk$?#3f", [b"g", b"?"]),
        (b"$#00", [b""]),
        (b"$g#68$g#67", [None, b"g"]),
        # a digit that is none: the packet goes on, as in QEMU
        (b"$g#xg#ce", [b"gg"]),
        (b"$a}\x03b#43", [b"a#b"]),
        (b"$0* #7a", [b"0000"]),
        (b"$*#2a", []),
        (b"$ab\0cd#8a", [b"ab"]),
    ],
)
def test_reading(data: bytes, found: list[bytes | None]) -> None:
    assert read(data) == found


def test_a_packet_that_is_too_long_is_dropped() -> None:
    assert read(frame(b"g" * 15) + frame(b"?"), 16) == [b"g" * 15, b"?"]
    assert read(frame(b"g" * 16) + frame(b"?"), 16) == [b"?"]


@given(st.binary(max_size=60).filter(lambda data: b"\0" not in data))
def test_what_is_escaped_comes_back(data: bytes) -> None:
    assert read(frame(escape(data))) == [data]


@given(st.binary(max_size=60))
def test_any_bytes_leave_the_reader_usable(data: bytes) -> None:
    assert read(data + b"#00#00" + frame(b"?"))[-1] == b"?"


def test_parameters() -> None:
    assert parse(b"10,ffFF", "l,l0") == [0x10, 0xFFFF]
    assert parse(b"0,1000,4", "l?l?l0") == [0, 0x1000, 4]
    assert parse(b"10=00ff", "l?s0") == [0x10, b"00ff"]
    assert parse(b"1000,2:abcd", "l,l:s0") == [0x1000, 2, b"abcd"]
    assert parse(b";1", "?.l0") == [1]
    assert parse(b"", "l,l0") == []
    assert parse(b"10", "l,l0") == [0x10]
    assert parse(b"gp1.2", "o.t0") == [ord("g"), ThreadId(1, 2)]
    with pytest.raises(ParameterError):
        parse(b"zz", "l0")


def test_numbers_are_those_of_strtoul() -> None:
    assert number(b" 0x1fz") == (0x1F, b"z")
    assert number(b"-1") == (2**64 - 1, b"")
    assert number(b"0x") == (0, b"x")
    with pytest.raises(ParameterError):
        number(b"1" + b"0" * 16)


def test_threads() -> None:
    assert thread_id(b"1;c") == (ThreadId(0, 1), b";c")
    assert thread_id(b"p1.-1")[0] == ThreadId(1, None)
    assert thread_id(b"p-1.-1")[0] == thread_id(b"p-1.1")[0] == ThreadId(None, None)
    assert not thread_id(b"p1")[0].valid


def test_hexadecimal_text_and_lines() -> None:
    assert from_hex(b"0aFFzz1", 4) == b"\x0a\xff\0\x10"
    assert list(lines_of("a\nb\nc")) == ["a\r\n", "b\r\n", "c"]
