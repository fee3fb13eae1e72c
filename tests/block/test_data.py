"""What the guest writes: seen by bitmaps, counters, and the jobs that follow it."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.formats import extents
from fakeqemu.model.block.drivers import base
from fakeqemu.model.guest.disks import write_disk
from fakeqemu.qapi.errors import QapiError

KB, MB = 1 << 10, 1 << 20


@pytest.fixture
def machine(start: Any) -> Any:
    return start("-device", "virtio-scsi-pci,id=bus")


def io(machine: Any, name: str, line: str) -> str:
    return str(machine.hmp(f'qemu-io {name} "{line}"'))


def disk(machine: Any, node: str) -> None:
    """A guest's disk `vd` over a node."""
    machine.ask("device_add", driver="scsi-hd", id="vd", drive=node)


def contents(machine: Any, name: str, offset: int, count: int) -> bytes:
    return base.read(machine.vm.block.graph.lookup(name, name), offset, count)


def bitmap_count(machine: Any, node: str) -> int:
    for each in machine.ask("query-named-block-nodes"):
        if each["node-name"] == node:
            return int(each["dirty-bitmaps"][0]["count"])
    raise AssertionError(node)


def test_qemu_io_writes_reads_and_discards(machine: Any) -> None:
    machine.image("a", discard="unmap")
    machine.ask("block-dirty-bitmap-add", node="a", name="b")
    assert io(machine, "a", "write -P 7 64k 4k") == ""
    assert contents(machine, "a", 64 * KB, 4 * KB) == b"\7" * 4 * KB
    assert bitmap_count(machine, "a") == 64 * KB
    io(machine, "a", "write -z 64k 2k")
    assert contents(machine, "a", 64 * KB, 4 * KB) == bytes(2 * KB) + b"\7" * 2 * KB
    io(machine, "a", "write -P 9 128k 64k")
    io(machine, "a", "discard 128k 64k")
    assert contents(machine, "a", 128 * KB, 64 * KB) == bytes(64 * KB)
    assert bitmap_count(machine, "a") == 128 * KB


def test_a_node_not_opened_for_discards_keeps_its_data(machine: Any) -> None:
    machine.image("a")
    machine.ask("block-dirty-bitmap-add", node="a", name="b")
    io(machine, "a", "write -P 9 128k 64k")
    machine.ask("block-dirty-bitmap-clear", node="a", name="b")
    io(machine, "a", "discard 128k 64k")
    assert contents(machine, "a", 128 * KB, 64 * KB) == b"\t" * 64 * KB
    assert bitmap_count(machine, "a") == 0


def test_qemu_io_asks_for_permission(machine: Any) -> None:
    machine.image("a")
    disk(machine, "a")
    refused = io(machine, "a", "write 0 4k")
    assert refused.startswith("Permission conflict on node 'a': permissions 'write' are both")
    assert contents(machine, "a", 0, 4) == bytes(4)


def test_compressed_clusters_are_small_and_read_back(machine: Any) -> None:
    machine.image("a")
    node = machine.vm.block.graph.lookup("a", "a")
    before = node.file.driver.length(node.file)
    for at in range(0, 8 * 64, 64):
        io(machine, "a", f"write -c -P 5 {at}k 64k")
    assert contents(machine, "a", 0, 8 * 64 * KB) == b"\5" * 8 * 64 * KB
    assert node.file.driver.length(node.file) - before <= 3 * 64 * KB
    with pytest.raises(extents.BlockIoError):
        base.write_compressed(node, 0, b"\6" * 64 * KB)


def test_a_guests_write_counts_in_its_devices_statistics(machine: Any) -> None:
    machine.image("a")
    disk(machine, "a")
    write_disk(machine.vm.block, "vd", 4096, 8192)
    (stats,) = (each["stats"] for each in machine.ask("query-blockstats"))
    assert (stats["wr_operations"], stats["wr_bytes"], stats["wr_highest_offset"]) == (
        1, 8192, 12288,
    )  # fmt: skip
    assert stats["idle_time_ns"] >= 0


def test_a_mirror_follows_what_is_written_once_it_is_ready(machine: Any) -> None:
    machine.image("a")
    machine.image("t")
    disk(machine, "a")
    machine.ask("blockdev-mirror", job_id="j", device="a", target="t", sync="full")
    (job,) = machine.ask("query-block-jobs")
    assert job["ready"]
    write_disk(machine.vm.block, "vd", 0, data=b"x" * 4096)
    machine.clock.advance(0)
    (after,) = machine.ask("query-block-jobs")
    assert after["len"] == after["offset"] == job["len"] + 64 * KB
    machine.ask("job-complete", id="j")
    assert contents(machine, "t", 0, 4096) == b"x" * 4096


def test_a_backup_keeps_the_state_of_its_start(machine: Any) -> None:
    machine.image("a")
    machine.image("t")
    disk(machine, "a")
    write_disk(machine.vm.block, "vd", 0, data=b"o" * 4096)
    machine.ask("blockdev-backup", job_id="j", device="a", target="t", sync="none")
    write_disk(machine.vm.block, "vd", 0, data=b"n" * 4096)
    assert contents(machine, "t", 0, 4096) == b"o" * 4096
    assert contents(machine, "a", 0, 4096) == b"n" * 4096
    (job,) = machine.ask("query-block-jobs")
    assert job["offset"] == 64 * KB


def test_snapshot_access_reads_what_was_there(machine: Any) -> None:
    machine.image("a")
    machine.image("t")
    io(machine, "a", "write -P 1 0 64k")
    machine.add("copy-before-write", "cbw", file="a", target="t")
    machine.add("snapshot-access", "then", file="cbw")
    io(machine, "cbw", "write -P 2 0 64k")
    assert contents(machine, "then", 0, 64 * KB) == b"\1" * 64 * KB
    assert contents(machine, "cbw", 0, 64 * KB) == b"\2" * 64 * KB


def test_a_failing_read_stops_a_job_until_it_is_resumed(machine: Any) -> None:
    machine.image("a")
    machine.image("t")
    io(machine, "a", "write -P 1 0 64k")
    rules = [{"event": "none", "iotype": "read", "errno": 28, "once": True}]
    machine.add("blkdebug", "d", image="a", inject_error=rules)
    machine.events.clear()
    machine.ask(
        "blockdev-backup", job_id="j", device="d", target="t", sync="full",
        on_source_error="enospc",
    )  # fmt: skip
    errors = [data for name, data in machine.events if name == "BLOCK_JOB_ERROR"]
    assert errors == [{"device": "j", "operation": "read", "action": "stop"}]
    (job,) = machine.ask("query-block-jobs")
    assert (job["io-status"], job["paused"]) == ("nospace", True)
    machine.ask("job-resume", id="j")
    assert machine.ask("query-block-jobs") == []
    assert contents(machine, "t", 0, 64 * KB) == b"\1" * 64 * KB


def test_a_failing_read_ends_a_job_that_is_to_report(machine: Any) -> None:
    machine.image("a")
    machine.image("t")
    io(machine, "a", "write -P 1 0 64k")
    machine.add("blkdebug", "d", image="a", inject_error=[{"event": "none", "iotype": "read"}])
    machine.ask("blockdev-backup", job_id="j", device="d", target="t", sync="full")
    ended = [data for name, data in machine.events if name == "BLOCK_JOB_COMPLETED"]
    assert [data["error"] for data in ended] == ["Input/output error"]


def test_amending_changes_the_same_format_only(machine: Any) -> None:
    machine.image("a")
    machine.ask("x-blockdev-amend", job_id="j", node_name="a", options={"driver": "qcow2"})
    (job,) = machine.ask("query-jobs")
    assert (job["type"], job["status"]) == ("amend", "concluded")
    with pytest.raises(QapiError, match="doesn't support changing the block driver"):
        machine.ask("x-blockdev-amend", job_id="k", node_name="a", options={"driver": "raw"})


def test_compress_needs_a_format_that_compresses(machine: Any) -> None:
    machine.add("null-co", "n", size=MB)
    with pytest.raises(QapiError, match="not supported for underlying format: null-co"):
        machine.add("compress", "c", file="n")


def test_zeros_are_found_where_they_are_to_be(machine: Any) -> None:
    machine.image("a", detect_zeroes="on")
    io(machine, "a", "write -P 1 0 128k")
    io(machine, "a", "write -P 0 64k 64k")
    io(machine, "a", "write -P 0 128k 1k")
    node = machine.vm.block.graph.lookup("a", "a")
    kinds = {piece.offset: piece.kind for piece in base.status(node, 0, 192 * KB)}
    assert kinds == {0: extents.DATA, 64 * KB: extents.ZERO}
    assert contents(machine, "a", 0, 192 * KB) == b"\1" * 64 * KB + bytes(128 * KB)
