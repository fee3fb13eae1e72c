"""The words for streams that are wrong, as real QEMUs of each version gave them."""

from __future__ import annotations

import errno
from uuid import UUID

import pytest

from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.constants import Ram, VmCommand
from fakeqemu.formats.migration_stream.source import Source, SourceBlock
from fakeqemu.formats.migration_stream.writer import (
    StreamWriter,
    be16,
    be32,
    be64,
    command,
    counted,
)
from fakeqemu.traits import TRAITS
from tests.support.streams import (
    CAPABILITIES,
    VERSIONS,
    lines,
    local,
    of,
    precopy,
    read_all,
    reader,
)

START = StreamWriter(Source("none"), TRAITS["11.1"]).header()
EINVAL = "load of migration failed: Invalid argument"
EIO = "load of migration failed: Input/output error"
ENOTSUP = "load of migration failed: Operation not supported"
EPERM = "load of migration failed: Operation not permitted"
ERANGE = "load of migration failed: Numerical result out of range"
RAM_ERROR = "error while loading state for instance 0x0 of device 'ram'"
SETUP = "Make sure that your current VM setup matches your saved VM setup, including any " \
    "hotplugged devices"


def section(kind: int, number: int, body: bytes = b"", *, name: str = "", instance: int = 0,
            version: int = 4, footer: int | None = None) -> bytes:
    data = bytes([kind]) + be32(number)
    if name:
        data += counted(name) + be32(instance) + be32(version)
    return data + body + b"\x7e" + be32(number if footer is None else footer)


def subsection(name: str, body: bytes, version: int = 1) -> bytes:
    return b"\5" + counted(f"configuration/{name}") + be32(version) + body


#: bytes, lines up to 10.0, lines from 11.1 on
CASES = {
    "garbage": (
        b"garbage\n",
        ["Not a migration stream", EINVAL],
        [f"{EINVAL}: Not a migration stream, magic: 67617262 != 5145564d"],
    ),
    "one byte": (
        b"Q",
        ["Not a migration stream", EINVAL],
        [f"{EINVAL}: Not a migration stream, magic: 51000000 != 5145564d"],
    ),
    "no version": (
        b"QEVM",
        ["Unsupported migration stream version", ENOTSUP],
        [f"{ENOTSUP}: Unsupported migration stream version, file version 0 != 3"],
    ),
    "obsolete": (
        b"QEVM\0\0\0\2",
        ["SaveVM v2 format is obsolete and don't work anymore", ENOTSUP],
        [f"{ENOTSUP}: SaveVM v2 format is obsolete and no longer supported"],
    ),
    "version ff": (
        b"QEVM\0\0\0\xff",
        ["Unsupported migration stream version", ENOTSUP],
        [f"{ENOTSUP}: Unsupported migration stream version, file version ff != 3"],
    ),
    "no configuration": (
        b"QEVM\0\0\0\3\xff",
        ["Configuration section missing", EINVAL],
        [f"{EINVAL}: Configuration section missing, ff != 7"],
    ),
    "long machine name": (
        b"QEVM\0\0\0\3\7" + be32(0x7FFFFFFF) + bytes(100),
        ["Failed to load configuration:name", EIO],
        [f"{EINVAL}: Failed to load configuration state: stream error: -5"],
    ),
    "another machine": (
        b"QEVM\0\0\0\3\7" + be32(3) + b"q35\0",
        ["Machine type received is 'q35' and local is 'none'", EINVAL],
        [f"{EINVAL}: post load hook failed for: configuration, version_id: 1, minimum_version: 0: "
         "Machine type received is 'q35' and local is 'none'"],
    ),
    "unknown subsection": (
        START + subsection("foo", b"\0"),
        ["load of migration failed: No such file or directory"],
        [f"{EINVAL}: VM subsection 'configuration/foo' in 'configuration' does not exist"],
    ),
    "new subsection": (
        START + subsection("capabilities", be32(0), 2),
        ["configuration/capabilities: incoming version_id 2 is too new for local version_id 1",
         EINVAL],
        [f"{EINVAL}: Loading VM subsection 'configuration/capabilities' in 'configuration' failed: "
         "configuration/capabilities: incoming version_id 2 is too new for local version_id 1"],
    ),
    "unknown capability": (
        START + subsection("capabilities", be32(1) + counted("foo")),
        ["Received unknown capability foo",
         "Failed to load configuration/capabilities:capabilities", EINVAL],
        [f"{EINVAL}: Loading VM subsection 'configuration/capabilities' in 'configuration' failed: "
         "Received unknown capability foo"],
    ),
    "capability": (
        START + subsection("capabilities", be32(1) + counted("x-ignore-shared")),
        ["Capability x-ignore-shared is off, but received capability is on", EINVAL],
        ["Capability x-ignore-shared is off, but received capability is on",
         f"{EINVAL}: post load hook failed for: configuration, version_id: 1, minimum_version: 0: "
         "Failed to validate capabilities"],
    ),
    "page bits": (
        START + subsection("target-page-bits", be32(13)),
        ["Received TARGET_PAGE_BITS is 13 but local is 12", EINVAL],
        [f"{EINVAL}: post load hook failed for: configuration, version_id: 1, minimum_version: 0: "
         "Received TARGET_PAGE_BITS is 13 but local is 12"],
    ),
    "section type": (
        START + b"\x55",
        ["Unknown savevm section type 85", EINVAL],
        [f"{EINVAL}: Unknown section type 85"],
    ),
    "end": (
        START,
        [EIO],
        [f"{EIO}: Failed to load section ID: stream error: -5: Channel error: Input/output error"],
    ),
    "no name": (
        START + b"\1\0\0\0\2\0",
        ["Unable to read ID string for section 2", EINVAL],
        [f"{EINVAL}: Unable to read ID string for section 2"],
    ),
    "header cut": (
        START + b"\1\0\0\0\2\3ram",
        ["qemu_loadvm_section_start_full: Failed to read instance/version ID: -5", EIO],
        [f"{EIO}: Failed to read instance/version ID: -5"],
    ),
    "second ram": (
        START + section(1, 2, be64(16), name="ram", instance=1),
        [f"Unknown savevm section or instance 'ram' 1. {SETUP}", EINVAL],
        [f"{EINVAL}: Unknown section or instance 'ram' 1. {SETUP}"],
    ),
    "new ram": (
        START + section(1, 2, be64(16), name="ram", version=5),
        ["savevm: unsupported version 5 for 'ram' v4", EINVAL],
        [f"{EINVAL}: unsupported version 5 for 'ram' v4"],
    ),
    "old ram": (
        START + section(1, 2, be64(16), name="ram", version=3),
        [RAM_ERROR, EINVAL],
        [f"{EINVAL}: {RAM_ERROR}: Failed to load vmstate version_id: 3, ret: -22"],
    ),
    "old timer": (
        START + section(4, 0, bytes(24), name="timer", version=0),
        ["timer: incoming version_id 0 is too old for local minimum version_id  1",
         "error while loading state for instance 0x0 of device 'timer'", EINVAL],
        [f"{EINVAL}: error while loading state for instance 0x0 of device 'timer': "
         "timer: incoming version_id 0 is too old for local minimum version_id 1"],
    ),
    "timer cut": (
        START + b"\4" + be32(0) + counted("timer") + be32(0) + be32(2) + bytes(12),
        ["Failed to load timer:unused",
         "error while loading state for instance 0x0 of device 'timer'", EIO],
        [f"{EINVAL}: error while loading state for instance 0x0 of device 'timer': "
         "Failed to load timer state: stream error: -5"],
    ),
    "part of nothing": (
        START + section(2, 0xFFFFFFFF, be64(16)),
        ["Unknown savevm section -1", EINVAL],
        [f"{EINVAL}: Unknown section -1"],
    ),
    "footer of another": (
        START + section(1, 2, be64(16), name="ram", footer=3),
        ["Mismatched section id in footer for ram - read 0x3 expected 0x2", EINVAL],
        ["Mismatched section id in footer for ram - read 0x3 expected 0x2",
         f"{EINVAL}: Section footer error, section_id: 2"],
    ),
    "no footer": (
        START + section(1, 2, be64(16) + b"\0", name="ram"),
        ["Missing section footer for ram", EINVAL],
        ["Missing section footer for ram", f"{EINVAL}: Section footer error, section_id: 2"],
    ),
    "source died": (
        START + section(1, 2, be64(16), name="ram")[:-5],
        ["check_section_footer: Read section footer failed: -5", EINVAL],
        ["check_section_footer: Read section footer failed: -5",
         f"{EINVAL}: Section footer error, section_id: 2"],
    ),
    "ram flags": (
        START + section(1, 2, be64(0x1001), name="ram"),
        ["Unknown combination of migration flags: 0x1", RAM_ERROR, EINVAL],
        ["Unknown combination of migration flags: 0x1",
         f"{EINVAL}: {RAM_ERROR}: Failed to load vmstate version_id: 4, ret: -22"],
    ),
    "page of no block": (
        START + section(1, 2, be64(0x1000 | Ram.ZERO) + counted("foo") + b"\0", name="ram"),
        ["Can't find block foo", "Illegal RAM offset 1000", RAM_ERROR, EINVAL],
        ["Can't find block foo", "Illegal RAM offset 1000",
         f"{EINVAL}: {RAM_ERROR}: Failed to load vmstate version_id: 4, ret: -22"],
    ),
    "page of the last block": (
        START + section(1, 2, be64(0x1000 | Ram.ZERO | Ram.CONTINUE) + b"\0", name="ram"),
        ["Ack, bad migration stream!", "Illegal RAM offset 1000", RAM_ERROR, EINVAL],
        ["Ack, bad migration stream!", "Illegal RAM offset 1000",
         f"{EINVAL}: {RAM_ERROR}: Failed to load vmstate version_id: 4, ret: -22"],
    ),
    "command 99": (
        START + b"\x08" + be16(99) + be16(1),
        ["MIG_CMD 0x63 unknown (len 0x1)", EINVAL],
        [f"{EINVAL}: MIG_CMD 0x63 unknown (len 0x1)"],
    ),
    "command length": (
        START + command(VmCommand.OPEN_RETURN_PATH, b"x"),
        ["OPEN_RETURN_PATH received with bad length - expecting 0, got 1", ERANGE],
        [f"{ERANGE}: OPEN_RETURN_PATH received with bad length - expecting 0, got 1"],
    ),
    "ping": (
        START + command(VmCommand.PING, be32(7)),
        ["CMD_PING (0x7) received with no return path", EPERM],
        [f"{EPERM}: CMD_PING (0x7) received with no return path"],
    ),
    "advise": (
        START + command(VmCommand.POSTCOPY_ADVISE, bytes(16)),
        ["RAM postcopy is disabled but have 16 byte advise", EINVAL],
        [f"{EINVAL}: RAM postcopy is disabled but have 16 byte advise"],
    ),
    "listen": (
        START + command(VmCommand.POSTCOPY_LISTEN),
        ["CMD_POSTCOPY_LISTEN in wrong postcopy state (0)", EPERM],
        [f"{EPERM}: CMD_POSTCOPY_LISTEN in wrong postcopy state (0)"],
    ),
    "package cut": (
        START + command(VmCommand.PACKAGED, be32(5)) + b"ab",
        ["CMD_PACKAGED: Buffer receive fail ret=2 length=5",
         "load of migration failed: Resource temporarily unavailable"],
        ["load of migration failed: Resource temporarily unavailable: "
         "CMD_PACKAGED: Buffer receive fail ret=2 length=5"],
    ),
    "bitmap": (
        START + command(VmCommand.RECV_BITMAP, counted("foo")),
        ["loadvm_handle_recv_bitmap: block 'foo' not found", EINVAL],
        [f"{EINVAL}: block 'foo' not found"],
    ),
    "run state": (
        START + section(4, 5, be32(4) + b"foo".ljust(100, b"\0"), name="globalstate", version=1),
        ["invalid parameter value: foo",
         "error while loading state for instance 0x0 of device 'globalstate'", EINVAL],
        ["invalid parameter value: foo",
         f"{EINVAL}: error while loading state for instance 0x0 of device 'globalstate': "
         "post load hook failed for: globalstate, version_id: 1, minimum_version: 1, ret: -22"],
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk", [0, 1])
def test_words(version: str, case: str, chunk: int) -> None:
    data, old, new = CASES[case]
    stream = reader(version, runstates=frozenset({"running"}))
    said = read_all(stream, data, chunk)
    assert lines(said) == (new if version == "11.1" else old)
    assert stream.done


@pytest.mark.parametrize("version", VERSIONS)
def test_sizes_and_names_of_blocks(version: str) -> None:
    last = EINVAL
    if version == "11.1":
        last += f": {RAM_ERROR}: Failed to load vmstate version_id: 4, ret: -22"
    middle = [] if version == "11.1" else [RAM_ERROR]
    big = precopy(TRAITS[version], source=Source("none", (SourceBlock("ram", 2 << 20),)))
    said = read_all(reader(version, blocks=local(1 << 20)), big)
    text = "Size mismatch: ram: 0x200000 != 0x100000: Invalid argument"
    assert lines(said) == [text, *middle, last]
    said = read_all(reader(version, blocks_complete=True), big)
    assert lines(said) == ['Unknown ramblock "ram", cannot accept migration', *middle, last]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_the_destination_lacks(version: str) -> None:
    known = {("timer", 0): 2}
    stream = reader(version, section=lambda name, instance: known.get((name, instance)))
    said = read_all(stream, precopy(TRAITS[version]))
    assert f"section or instance 'globalstate' 0. {SETUP}" in "".join(lines(said))
    assert said[-1].error.errno == errno.EINVAL


@pytest.mark.parametrize("version", VERSIONS)
def test_another_uuid(version: str) -> None:
    source = Source("none", (), frozenset({"validate-uuid"}), UUID(int=2))
    said = read_all(reader(version, uuid=UUID(int=1)), precopy(TRAITS[version], source=source))
    first, last = lines(said)
    assert first == f"UUID received is {UUID(int=2)} and local is {UUID(int=1)}"
    more = (
        ": Loading VM subsection 'configuration/uuid' in 'configuration' failed: post load hook "
        "failed for: configuration/uuid, version_id: 1, minimum_version: 1, ret: -22"
    )
    assert last == EINVAL + (more if version == "11.1" else "")


@pytest.mark.parametrize("version", VERSIONS)
def test_cut_at_every_byte(version: str) -> None:
    data = precopy(TRAITS[version], source=Source("none", (SourceBlock("ram", 8192),)), pages=True)
    end = data.rindex(b"\0\6") + 1
    for size in range(len(data)):
        stream = reader(version)
        said = read_all(stream, data[:size])
        assert stream.done
        if size < end:
            assert isinstance(said[-1], events.Failed), size
            assert said[-1].error.text.startswith("load of migration failed: ")
        else:
            assert said[-1] == events.Loaded()
        assert len(of(said, events.Failed)) + len(of(said, events.Loaded)) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_description_it_is_loaded_all_the_same(version: str) -> None:
    assert lines(read_all(reader(version), START + b"\0")) == [
        "Expected vmdescription section, but got 0"
    ]


def test_colo_by_version() -> None:
    data = START + command(VmCommand.ENABLE_COLO)
    assert events.EnableColo() in read_all(reader("7.2"), data)
    assert lines(read_all(reader("10.0"), data))[0].startswith("ENABLE_COLO command come in")
    assert events.EnableColo() in read_all(reader("10.0", on=("x-colo",)), data)
    assert "MIG_CMD 0x8 deprecated (len 0x0)" in lines(read_all(reader("11.1"), data))[0]


def test_capabilities_of_the_tests_are_those_compared() -> None:
    for version, known in CAPABILITIES.items():
        assert TRAITS[version].stream_validates <= set(known)
