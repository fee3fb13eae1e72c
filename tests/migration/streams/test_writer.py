"""What the writer writes, byte by byte where a real stream was looked at."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from fakeqemu.formats.migration_stream.constants import PAGE_SIZE
from fakeqemu.formats.migration_stream.source import Source, SourceBlock
from fakeqemu.formats.migration_stream.writer import StreamWriter
from fakeqemu.traits import TRAITS
from tests.support.streams import RAM, VERSIONS, precopy

#: from real streams of `-machine none -nodefaults`, after the description's length
CONFIGURATION = (
    '{"configuration": {"vmsd_name": "configuration", "version": 1, "fields": [{"name": "len", '
    '"type": "uint32", "size": 4}, {"name": "name", "type": "buffer", "size": 4}], '
    '"subsections": [{"vmsd_name": "configuration/capabilities", "version": 1, "fields": '
    '[{"name": "caps_count", "type": "uint32", "size": 4}, {"name": "capabilities", "type": '
    '"capability", "size": 16}]}, {"vmsd_name": "configuration/uuid", "version": 1, "fields": '
    '[{"name": "uuid.data", "array_len": 16, "type": "uint8", "size": 1}]}]}, '
)
DEVICES = (
    '"page_size": 4096, "devices": [{"name": "timer", "instance_id": 0, "vmsd_name": "timer", '
    '"version": 2, "fields": [{"name": "cpu_ticks_offset", "type": "int64", "size": 8}, {"name": '
    '"unused", "type": "unused_buffer", "size": 8}, {"name": "cpu_clock_offset", "type": "int64", '
    '"size": 8}]}, {"name": "globalstate", "instance_id": 0, "vmsd_name": "globalstate", '
    '"version": 1, "fields": [{"name": "size", "type": "uint32", "size": 4}, '
)
RUN_STATE = {
    "7.2": '{"name": "runstate", "type": "buffer", "size": 100}]}]}',
    "10.0": (
        '{"name": "runstate", "type": "buffer", "size": 32}, {"name": "has_vm_was_suspended", '
        '"type": "uint8", "size": 1}, {"name": "vm_was_suspended", "type": "uint8", "size": 1}, '
        '{"name": "unused", "type": "buffer", "size": 66}]}]}'
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_header_and_description_are_those_of_a_real_stream(version: str) -> None:
    uuid = UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
    source = Source("none", (), frozenset({"validate-uuid", "x-ignore-shared"}), uuid)
    data = precopy(TRAITS[version], source=source)
    assert data.startswith(
        b"QEVM\0\0\0\3\7\0\0\0\4none"
        b"\5\x1aconfiguration/capabilities\0\0\0\1\0\0\0\1\x0fx-ignore-shared"
        b"\5\x12configuration/uuid\0\0\0\1" + uuid.bytes + b"\1\0\0\0\2\3ram"
    )
    text = data[data.index(b'{"') :].decode()
    if version == "7.2":
        assert text == "{" + DEVICES + RUN_STATE["7.2"]
    else:
        assert text == CONFIGURATION + DEVICES + RUN_STATE["10.0"]
    at = data.index(b'{"')
    assert data[at - 6 : at] == b"\0\6" + len(text).to_bytes(4, "big")


def test_sections_of_an_empty_machine() -> None:
    data = precopy(TRAITS["10.0"])
    ram = b"\3ram\0\0\0\0\0\0\0\4" + bytes(7) + b"\4" + bytes(7) + b"\x10\x7e\0\0\0\2"
    assert data[17:].startswith(b"\1\0\0\0\2" + ram)
    end = b"\x08\0\x0b\0\0" + b"\3\0\0\0\2" + bytes(7) + b"\x10\x7e\0\0\0\2"
    assert end in data
    assert b"\x0bglobalstate\0\0\0\0\0\0\0\1\0\0\0\x08running" + bytes(25) + b"\1\0" in data


def test_suspended_guest() -> None:
    writer = StreamWriter(Source("none"), TRAITS["11.1"])
    state = writer.device_states("running", suspended=True)
    assert b"running" + bytes(25) + b"\1\1" in state


def test_zero_pages_name_their_block_once() -> None:
    writer = StreamWriter(Source("none", (RAM, SourceBlock("b", 2 * PAGE_SIZE))), TRAITS["11.1"])
    data = b"".join(writer.zero_pages(255, 258))
    assert data == (
        (255 << 12 | 2).to_bytes(8, "big") + b"\3ram\0"
        + (2).to_bytes(8, "big") + b"\1b\0"
        + (1 << 12 | 0x22).to_bytes(8, "big") + b"\0"
    )
    assert len(b"".join(writer.zero_pages())) == 258 * 9 + 4 + 2


def test_pieces_of_zero_pages_are_bounded() -> None:
    writer = StreamWriter(Source("none", (SourceBlock("ram", 1 << 40),)), TRAITS["11.1"])
    first = next(writer.zero_pages())
    assert 60_000 < len(first) < 70_000


@pytest.mark.parametrize(("version", "each"), [("7.2", True), ("10.0", False)])
def test_multifd_marks(version: str, each: bool) -> None:
    writer = StreamWriter(Source("none", (), frozenset({"multifd"})), TRAITS[version])
    assert writer.syncs_per_section == each
    assert (b"\2\0" in writer.ram_setup()[-16:]) != each
    assert len(writer.ram_part()) == 5 + 8
    assert len(writer.ram_part(pass_ends=True)) == 5 + 8 + (0 if each else 8)


def test_two_capabilities_are_described_as_an_array() -> None:
    source = Source("none", (), frozenset({"x-ignore-shared", "mapped-ram"}))
    data = precopy(TRAITS["11.1"], source=source)
    described = json.loads(data[data.index(b'{"') :])["configuration"]["subsections"][0]
    assert described["fields"][1]["array_len"] == 2
