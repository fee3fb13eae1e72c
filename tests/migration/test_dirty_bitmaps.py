"""Dirty bitmaps that go along, and what becomes of those that cannot."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.formats.intervals import Intervals
from fakeqemu.formats.migration_stream import events
from fakeqemu.formats.migration_stream.dirty_bitmaps import RecordWriter
from fakeqemu.formats.migration_stream.source import Source
from fakeqemu.formats.migration_stream.writer import StreamWriter
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps
from fakeqemu.model.block.graph.bitmap import Bitmap
from fakeqemu.model.block.graph.open import open_node
from fakeqemu.traits import TRAITS
from tests.support.migration import FakeStream, Vm
from tests.support.streams import read_all, reader

VERSIONS = ["7.2", "10.0", "11.1"]
SIZE = 1 << 30


def disk(vm: Vm, name: str = "n0", size: int = SIZE) -> None:
    options = {"driver": "null-co", "node-name": name, "size": size, "read-zeroes": True}
    open_node(vm.machine.block.graph, options)


def bitmap(vm: Vm, name: str = "b0", node: str = "n0", **options: Any) -> Bitmap:
    return bitmaps.add(vm.machine.block.graph, node, name, **options)


def found(vm: Vm, node: str = "n0") -> dict[str, tuple[Any, ...]]:
    return {
        b.name: (b.granularity, b.copy_bits(), b.enabled, b.busy)
        for b in vm.machine.block.graph.nodes[node].bitmaps
    }


@pytest.fixture
def pair(make):
    def pair(version: str, *nodes: str, **options: Any) -> tuple[Vm, Vm]:
        src = make(version, **options)
        dst = make(version, inmigrate=True, **options)
        for vm in (src, dst):
            for node in nodes or ("n0",):
                disk(vm, node)
            vm.switch("dirty-bitmaps", "events")
        src.machine.lifecycle.cont()
        dst.command("migrate-incoming", uri="unix:/m")
        return src, dst

    return pair


@pytest.mark.parametrize("version", VERSIONS)
def test_bitmaps_arrive_as_they_were(pair, clock, version):
    src, dst = pair(version, "n0", "n1")
    first = bitmap(src, granularity=4096)
    for offset in (0, 4096 * 63, 4096 * 8192, SIZE - 4096):
        first.add(offset, 1)
    bitmap(src, "b1", disabled=True)
    bitmap(src, "full", "n1").add(0, SIZE)
    before = found(src), found(src, "n1")
    src.command("migrate", uri="unix:/m")
    clock.advance(6_000_000)
    assert first.busy
    clock.run_until_idle()
    assert (src.status, dst.status) == ("completed", "completed")
    assert (found(dst), found(dst, "n1")) == before
    assert (found(src), found(src, "n1")) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_a_huge_disk_that_is_hardly_written_to_costs_little(make, clock, version):
    src, dst = make(version), make(version, inmigrate=True)
    for vm in (src, dst):
        disk(vm, size=1 << 54)
        vm.switch("dirty-bitmaps", "postcopy-ram")
        vm.set(max_bandwidth=1 << 40)
    dst.command("migrate-incoming", uri="unix:/m")
    src.machine.lifecycle.cont()
    bitmap(src, granularity=1 << 30).add(1 << 53, 1)
    src.command("migrate", uri="unix:/m")
    src.command("migrate-start-postcopy")
    clock.run_until_idle()
    assert list(found(dst)["b0"][1]) == [(1 << 23, (1 << 23) + 1)]
    assert len(src.host.streams[0].written) < 1 << 20


@pytest.mark.parametrize("version", VERSIONS)
def test_aliases(pair, clock, version):
    src, dst = pair(version, "n0", "n1")
    for node in ("n0", "n1"):
        bitmap(src, "b0", node).add(0, 1)
    bitmap(src, "b1")
    src.set(block_bitmap_mapping=[
        {"node-name": "n0", "alias": "A", "bitmaps": [{"name": "b0", "alias": "x"}]}
    ])  # fmt: skip
    dst.set(block_bitmap_mapping=[
        {"node-name": "n1", "alias": "A", "bitmaps": [{"name": "new", "alias": "x"}]}
    ])  # fmt: skip
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert found(dst) == {}
    assert found(dst, "n1") == {"new": (65536, Intervals([(0, 1)]), True, False)}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        (None, None, []),
        ("al", None, ["Cannot find device='al' nor node-name='al'"]),
        (None, "al", ["Error: Unknown node alias 'n0'"]),
    ],
)
def test_a_mapping_that_does_not_fit_costs_the_bitmaps_only(
    pair, clock, version, mine, theirs, said
):
    src, dst = pair(version)
    bitmap(src)
    for vm, alias in ((src, mine), (dst, theirs)):
        if alias is not None:
            names = [{"name": "b0", "alias": "b0"}]
            vm.set(block_bitmap_mapping=[
                {"node-name": "n0", "alias": alias, "bitmaps": names}
            ])  # fmt: skip
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert (src.status, dst.status) == ("completed", "completed")
    assert dst.host.warnings == said
    assert bool(found(dst)) != bool(said)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_bitmap_that_the_destination_has_already(pair, clock, version):
    src, dst = pair(version)
    bitmap(src)
    bitmap(dst)
    src.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    assert dst.machine.process.exit_code == 1
    text = "Bitmap with the same name ('b0') already exists on destination"
    assert dst.host.warnings[0] == text


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_without_a_name_of_its_own(make, clock, version):
    vm = make(version)
    vm.switch("dirty-bitmaps", "events")
    options = {"driver": "null-co", "size": SIZE, "read-zeroes": True}
    node = open_node(vm.machine.block.graph, options)
    made = bitmap(vm, node=node.name)
    vm.machine.lifecycle.cont()
    vm.events.clear()
    vm.command("migrate", uri="unix:/m")
    clock.run_until_idle()
    text = f"Bitmap 'b0' in a node with auto-generated name '{node.name}' can't be migrated"
    assert vm.host.warnings == [text]
    info = vm.command("query-migrate")
    assert info["status"] == "failed"
    assert info.get("error-desc", "") == ("" if version == "7.2" else text)
    assert vm.machine.runstate.running
    assert not made.busy
    states = [e[1] for e in vm.events if e[0] == "MIGRATION"]
    failing = ["failing"] if version == "11.1" else []
    assert states == ["setup", "active", *failing, "failed"]


@pytest.mark.parametrize("version", VERSIONS)
def test_bitmaps_that_follow_in_postcopy(pair, clock, version):
    src, dst = pair(version)
    bitmap(src, granularity=512).add(512 * 77, 1)
    src.set(max_bandwidth=1000)
    src.command("migrate", uri="unix:/m")
    clock.advance(10**9)
    # so many grains are more than fits the downtime
    assert src.status == "active"
    assert found(dst)["b0"] == (512, Intervals(), False, True)
    src.command("migrate-start-postcopy")
    clock.run_until_idle()
    assert (src.status, dst.status) == ("completed", "completed")
    assert "postcopy-active" in [e[1] for e in dst.events if e[0] == "MIGRATION"]
    assert found(dst)["b0"] == (512, Intervals([(77, 78)]), True, False)
    assert dst.machine.runstate.running


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cancelled_migration_gives_them_back(pair, clock, version):
    src, _ = pair(version)
    made = bitmap(src, granularity=512)
    src.set(max_bandwidth=1000)
    src.command("migrate", uri="unix:/m")
    clock.advance(10**9)
    assert made.busy
    src.command("migrate_cancel")
    clock.run_until_idle()
    assert src.status == "cancelled"
    assert not made.busy


# -- bad streams ---------------------------------------------------------------------------------


def loaded(make, version: str, records: bytes) -> Vm:
    """A machine that was sent these records."""
    vm = make(version, inmigrate=True)
    disk(vm)
    vm.switch("dirty-bitmaps")
    vm.command("migrate-incoming", uri="unix:/m")
    stream_writer = StreamWriter(Source("none", ram_id=2), vm.profile.traits)
    said = stream_writer.header() + stream_writer.postcopy_advise()
    said += stream_writer.ram_setup() + stream_writer.footer()
    said += stream_writer.bitmaps_start(records) + stream_writer.footer()
    channel = FakeStream(vm.host.clock)
    vm.host.world["/m"](channel)
    channel.on_data(said)
    return vm


KEY, NAMES = (1, 2), ("n0", "b0")


def started(granularity: int = 65536, flags: int = 1) -> bytes:
    return RecordWriter().start(KEY, NAMES, granularity, flags)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("records", "text"),
    [
        (started(flags=0x80), "Unknown flags in migrated dirty bitmap header: 80"),
        (started(0), "Granularity must be power of 2 and at least 512"),
        (started(3 << 10), "Granularity must be power of 2 and at least 512"),
        (started() * 2, "Bitmap with the same name ('b0') already exists on destination"),
        (started() + b"\x40" + b"\xff" * 12 + (1024).to_bytes(8, "big") + bytes(1024),
         "Bits beyond the end of bitmap 'b0'"),
        (started() + b"\x40" + bytes(12) + (1 << 60).to_bytes(8, "big"),
         "Bitmap migration stream buffer allocation request is too large"),
        (b"\x08\0", "Unable to read node alias string"),
        (b"\x0c\2n0\0", "Unable to read bitmap alias string"),
    ],
)  # fmt: skip
def test_records_that_end_the_migration(make, version, records, text):
    vm = loaded(make, version, records)
    assert vm.host.warnings[0] == text
    assert vm.machine.process.exit_code == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("records", "text"),
    [
        (b"\x20", "Error: block device name is not set"),
        (b"\x08\2no", "Cannot find device='no' nor node-name='no'"),
        (b"\x2c\2n0\2zz", "Error: unknown dirty bitmap 'zz' for block device 'n0'"),
        (started() + b"\x40" + bytes(8) + (1024).to_bytes(4, "big") + (64).to_bytes(8, "big")
         + bytes(64),
         "Migrated bitmap granularity doesn't match the destination bitmap 'b0' granularity"),
    ],
)  # fmt: skip
def test_records_that_cost_the_bitmaps_only(make, version, records, text):
    vm = loaded(make, version, records + RecordWriter.end())
    assert vm.host.warnings == [text]
    assert vm.machine.process.exit_code is None
    assert vm.status == "active"
    assert found(vm) == {}


def test_without_a_machine_bitmaps_are_passed_by():
    stream_writer = StreamWriter(Source("none"), TRAITS["10.0"])
    data = stream_writer.header() + stream_writer.ram_setup() + stream_writer.footer()
    records = started() + RecordWriter.end()
    data += stream_writer.bitmaps_start(records) + stream_writer.footer()
    data += stream_writer.ram_end() + stream_writer.footer()
    data += stream_writer.bitmaps_end(RecordWriter.end()) + stream_writer.footer()
    data += stream_writer.device_states("running") + stream_writer.end()
    assert read_all(reader("10.0"), data, 1)[-1] == events.Loaded()
