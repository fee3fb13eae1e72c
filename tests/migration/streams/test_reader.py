"""What the reader makes of good streams, however they are cut into pieces."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.channels import mapped_ram as mappedram
from fakeqemu.formats.migration_stream.constants import PAGE_SIZE, Ram, VmCommand
from fakeqemu.formats.migration_stream.reader import StreamReader
from fakeqemu.formats.migration_stream.source import Source, SourceBlock
from fakeqemu.formats.migration_stream.writer import StreamWriter, be32, be64, command, counted
from fakeqemu.traits import TRAITS
from tests.support.streams import (
    AWKWARD,
    RAM,
    VERSIONS,
    expectation,
    lines,
    of,
    precopy,
    read_all,
    reader,
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("chunk", [0, 1, 7])
def test_an_empty_machine(version: str, chunk: int) -> None:
    said = read_all(reader(version), precopy(TRAITS[version]), chunk)
    assert said[0] == events.ConfigurationSection("none")
    assert said[-1] == events.Loaded()
    assert of(said, events.RamBlocks) == [events.RamBlocks(())]
    assert [event.last for event in of(said, events.RamRound)] == [False, True]
    suspended = None if version == "7.2" else False
    assert of(said, events.GlobalState) == [events.GlobalState("running", suspended)]
    assert [event.name for event in of(said, events.DeviceState)] == ["timer", "globalstate"]
    assert bool(of(said, events.SwitchoverStart)) == (version != "7.2")
    (description,) = of(said, events.Description)
    assert description.mismatches == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_done_with_the_description_and_not_before(version: str) -> None:
    data, stream = precopy(TRAITS[version]), reader(version)
    assert not of(stream.feed(data[:-1]), events.Loaded)
    assert not stream.done
    assert stream.feed(data[-1:])[-1] == events.Loaded()
    assert stream.done
    assert stream.feed(b"more") == stream.feed_eof() == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("chunk", [0, 1, 13, 4096])
def test_zero_pages_of_several_blocks(version: str, chunk: int) -> None:
    source = Source("none", (RAM, SourceBlock("pc.rom", 5 * PAGE_SIZE)))
    data = precopy(TRAITS[version], source=source, pages=True)
    said = read_all(reader(version), data, chunk)
    assert said[-1] == events.Loaded()
    assert of(said, events.RamBlocks)[0].total == (1 << 20) + 5 * PAGE_SIZE
    assert sum(event.zero for event in of(said, events.RamPages)) == 256 + 5


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("chunk", [0, 1, 5])
def test_a_device_full_of_footers_is_found_to_its_end(version: str, chunk: int) -> None:
    source = Source("none", devices=(AWKWARD, replace(AWKWARD, instance_id=1)))
    said = read_all(reader(version), precopy(TRAITS[version], source=source), chunk)
    assert said[-1] == events.Loaded()
    sizes = [event.size for event in of(said, events.DeviceState) if event.name == "slirp"]
    assert sizes == [24, 24]
    assert of(said, events.Description)[0].mismatches == ()


def test_a_wrong_description_is_noticed() -> None:
    data = precopy(TRAITS["10.0"], source=Source("none", devices=(AWKWARD,)))
    at = data.rindex(b'"size": 24')
    said = read_all(reader("10.0"), data[:at] + b'"size": 23' + data[at + 10 :])
    assert of(said, events.Description)[0].mismatches == ("slirp",)
    assert said[-1] == events.Loaded()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("chunk", [0, 1])
def test_a_stream_without_footers(version: str, chunk: int) -> None:
    source = Source("none", footers=False, devices=(AWKWARD,))
    said = read_all(reader(version, footers=False), precopy(TRAITS[version], source=source), chunk)
    assert said[-1] == events.Loaded()
    assert of(said, events.GlobalState)[0].runstate == "running"
    assert [event.size for event in of(said, events.DeviceState) if event.name == "slirp"] == [24]


def test_uuid_and_capabilities_of_the_configuration() -> None:
    uuid = UUID(int=7)
    source = Source("none", (), frozenset({"x-ignore-shared", "validate-uuid"}), uuid)
    data = precopy(TRAITS["11.1"], source=source)
    said = read_all(reader("11.1", on=("x-ignore-shared",), uuid=uuid), data, 3)
    assert said[0] == events.ConfigurationSection("none", ("x-ignore-shared",), uuid)
    assert said[-1] == events.Loaded()
    said = read_all(reader("11.1", on=("x-ignore-shared",)), data)
    assert lines(said) == [f"warning: UUID is received {uuid}, but local uuid isn't set"]


@pytest.mark.parametrize("version", VERSIONS)
def test_postcopy(version: str) -> None:
    source = Source("none", (RAM,), frozenset({"postcopy-ram"}))
    writer = StreamWriter(source, TRAITS[version])
    data = writer.header() + writer.open_return_path() + writer.postcopy_advise()
    data += writer.ram_setup() + writer.footer()
    data += writer.discard("ram", [(0, PAGE_SIZE), (0x8000, 2 * PAGE_SIZE)])
    data += writer.package("running")
    data += writer.ram_part(b"".join(writer.zero_pages(0, 3))) + writer.footer()
    data += writer.ram_end() + writer.footer() + writer.end(postcopy=True)
    for chunk in (0, 1):
        said = read_all(reader(version, on=("postcopy-ram",)), data, chunk)
        assert said[-1] == events.Loaded()
        assert of(said, events.PostcopyDiscard) == [
            events.PostcopyDiscard("ram", ((0, PAGE_SIZE), (0x8000, 2 * PAGE_SIZE)))
        ]
        # since 11.1 a last ping asks whether all of the package is loaded
        loaded = [events.Ping(0x42)] if version == "11.1" else []
        assert of(said, events.Ping) == [events.Ping(1), events.Ping(3), *loaded]
        order = [type(event).__name__ for event in said]
        assert order.index("PostcopyListen") < order.index("GlobalState")
        assert order.index("GlobalState") < order.index("PostcopyRun") < order.index("RamPages")


def test_broken_postcopy_is_told_and_taken_up_again() -> None:
    source = Source("none", (RAM,), frozenset({"postcopy-ram"}))
    writer = StreamWriter(source, TRAITS["10.0"])
    data = writer.header() + writer.open_return_path() + writer.postcopy_advise()
    data += writer.ram_setup() + writer.footer() + writer.package("running")
    stream = reader("10.0", on=("postcopy-ram",))
    said = read_all(stream, data)
    assert isinstance(said[-1], events.Failed)
    assert said[-1].postcopy_running
    stream.recover()
    rest = writer.recv_bitmap("ram") + writer.postcopy_resume()
    rest += writer.ram_end() + writer.footer() + writer.end(postcopy=True)
    said = read_all(stream, rest, 1)
    assert said[0] == events.RecvBitmap("ram")
    assert events.PostcopyResume() in said
    assert said[-1] == events.Loaded()


def test_mapped_ram_file_with_holes_skipped() -> None:
    on = ("mapped-ram",)
    source = Source("none", (RAM, SourceBlock("rom", PAGE_SIZE)), frozenset(on))
    writer = StreamWriter(source, TRAITS["11.1"])
    offset = 512
    pieces = [writer.header()]
    pieces += mappedram.ram_setup(writer, offset + len(pieces[0]))
    pieces += [writer.footer() + writer.ram_end() + writer.footer()]
    pieces += [writer.device_states("paused") + writer.end()]
    stream = reader("11.1", on=on, file_offset=offset)
    said: list[events.Event] = []
    for piece in pieces:
        if isinstance(piece, mappedram.Hole):
            assert stream.skippable >= piece.size - 8
            said += stream.skip(stream.skippable)
        else:
            said += stream.feed(piece)
    assert said[-1] == events.Loaded()
    first, second = of(said, events.RamBlocks)[0].blocks
    assert first.mapped.pages_offset == 1 << 20
    assert second.mapped.pages_offset == 3 << 20


def test_pages_of_other_kinds() -> None:
    on = ("compress",)
    source = Source("none", (RAM,))
    writer = StreamWriter(source, TRAITS["7.2"])
    page = be64(Ram.PAGE) + counted("ram") + bytes(PAGE_SIZE)
    page += be64(PAGE_SIZE | Ram.PAGE | Ram.CONTINUE) + bytes(PAGE_SIZE)
    xbzrle = be64(Ram.XBZRLE | Ram.CONTINUE) + b"\1\0\5hello"
    compressed = be64(Ram.COMPRESS_PAGE | Ram.CONTINUE) + be32(3) + b"zip"
    data = writer.header() + writer.ram_setup() + writer.footer()
    data += writer.ram_end(page + xbzrle + compressed) + writer.footer()
    data += writer.device_states("running") + writer.end()
    for chunk in (0, 1, 9):
        said = read_all(reader("7.2", on=on), data, chunk)
        assert said[-1] == events.Loaded()
        pages = of(said, events.RamPages)
        totals = [sum(getattr(p, n) for p in pages) for n in ("normal", "xbzrle", "compressed")]
        assert totals == [2, 1, 1]


def test_memory_stays_small_however_much_comes() -> None:
    writer = StreamWriter(Source("none", (SourceBlock("ram", 64 << 20),)), TRAITS["11.1"])
    stream = reader("11.1")
    page = be64(Ram.PAGE | Ram.CONTINUE) + bytes(PAGE_SIZE)
    first = be64(Ram.PAGE) + counted("ram") + bytes(PAGE_SIZE)
    device = b"\x04" + be32(9) + counted("blob") + be32(0) + be32(1)
    tracemalloc.start()
    stream.feed(writer.header() + writer.ram_setup() + writer.footer())
    stream.feed(b"\x02" + be32(2) + first)
    for _ in range(200):
        stream.feed(page * 16)
    stream.feed(be64(Ram.EOS) + writer.footer() + device)
    for _ in range(200):
        stream.feed(bytes(65536))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not stream.done
    assert peak < 2_000_000


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(VERSIONS), st.integers(0, 3))
def test_garbage_is_refused_and_never_escapes(garbage: bytes, version: str, begin: int) -> None:
    writer = StreamWriter(Source("none", (RAM,)), TRAITS[version])
    start = [b"", writer.header(), writer.header() + writer.ram_setup() + writer.footer(),
             writer.header() + writer.ram_setup()][begin]
    stream = StreamReader(expectation(version), TRAITS[version])
    said = read_all(stream, start + garbage)
    assert stream.done
    assert isinstance(said[-1], events.Failed | events.Loaded)


@settings(max_examples=200)
@given(st.data(), st.sampled_from(VERSIONS))
def test_a_changed_byte_never_escapes(data: st.DataObject, version: str) -> None:
    source = Source("none", (SourceBlock("ram", 3 * PAGE_SIZE),), devices=(AWKWARD,))
    good = bytearray(precopy(TRAITS[version], source=source, pages=True))
    good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    stream = reader(version)
    assert isinstance(read_all(stream, bytes(good), 64)[-1], events.Failed | events.Loaded)
    assert stream.done


def test_commands_of_another_version() -> None:
    data = StreamWriter(Source("none"), TRAITS["7.2"]).header() + command(
        VmCommand.SWITCHOVER_START
    )
    assert lines(read_all(reader("7.2"), data))[0] == "MIG_CMD 0xb unknown (len 0x0)"
    assert events.SwitchoverStart() in read_all(reader("10.0"), data)
