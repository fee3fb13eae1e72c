"""Backups with bitmaps while the guest writes: what is copied, and what is dirty afterwards."""

from __future__ import annotations

from typing import Any

import pytest

KB = 1024
#: bytes that a backup copies together
CLUSTER = 64 * KB
SIZE = 16 * CLUSTER


@pytest.fixture
def pair(machine: Any, files: Any) -> Any:
    """Node `s`, of which clusters 2 and 8 are dirty in bitmap `b`, and `t`."""
    files.put("/s", b"\1" * SIZE)
    files.put("/t", bytes(SIZE))
    for name in "st":
        machine.add("raw", name, file={"driver": "file", "filename": f"/{name}"})
    machine.ask("block-dirty-bitmap-add", node="s", name="b", granularity=CLUSTER)
    for cluster in (2, 8):
        guest_writes(machine, cluster, "s")
    machine.events.clear()
    return machine


def guest_writes(machine: Any, cluster: int, node: str = "f") -> None:
    """As a device does: through the filter `f` of a job, if there is one."""
    machine.vm.block.write(node, cluster * CLUSTER, b"\2" * CLUSTER)


def start_job(machine: Any, sync: str = "bitmap", mode: str = "always") -> None:
    """Begin; it stands after its first request."""
    machine.ask(
        "blockdev-backup", job_id="j", device="s", target="t", sync=sync, bitmap="b",
        bitmap_mode=mode, speed=1, filter_node_name="f", auto_dismiss=False,
        x_perf={"max-chunk": CLUSTER}, work=False,
    )  # fmt: skip
    machine.clock.advance(0)


def bitmaps(machine: Any, node: str = "s") -> list[tuple[str | None, int, bool, bool]]:
    """Name, dirty clusters, busy and recording of each."""
    nodes = machine.ask("query-named-block-nodes", flat=True, work=False)
    (found,) = (each for each in nodes if each["node-name"] == node)
    return [
        (each.get("name"), each["count"] // CLUSTER, each["busy"], each["recording"])
        for each in found.get("dirty-bitmaps", ())
    ]


def dirty(machine: Any) -> list[int]:
    """The clusters that are dirty in `b`."""
    node = machine.vm.block.graph.nodes["s"]
    found = next(each for each in node.bitmaps if each.name == "b")
    return [at // CLUSTER for first, n in found.ranges() for at in range(first, first + n, CLUSTER)]


def copied(files: Any) -> list[int]:
    """The clusters of the target that hold data."""
    data = files.open("/t", writable=False).read(0, SIZE)
    return [at // CLUSTER for at in range(0, SIZE, CLUSTER) if any(data[at : at + CLUSTER])]


def test_the_bitmap_is_frozen_and_another_records(pair):
    start_job(pair)
    guest_writes(pair, 5)
    assert bitmaps(pair) == [(None, 1, False, True), ("b", 2, True, True)]
    # on the filter: what can be read, what was kept, what is still to be copied
    assert [count for _, count, _, _ in bitmaps(pair, "f")] == [16, 1, 1]


def test_before_10_0_the_source_has_the_bitmap_of_what_is_to_be_copied(start, files):
    machine = start(profile="7.2")
    files.put("/s", b"\1" * SIZE)
    for name, driver in (("s", {"driver": "file", "filename": "/s"}), ("t", {"driver": "null-co"})):
        machine.add("raw", name, file={"size": SIZE, **driver} if name == "t" else driver)
    machine.ask(
        "blockdev-backup", job_id="j", device="s", target="t", sync="none", filter_node_name="f"
    )
    assert bitmaps(machine) == [(None, 16, False, False)]
    machine.ask("job-cancel", id="j")
    assert bitmaps(machine) == []


def test_only_what_was_asked_for_is_copied_before_a_write(pair, files):
    start_job(pair)
    guest_writes(pair, 5)  # nobody wants it
    guest_writes(pair, 8)  # is still to be copied
    (job,) = pair.ask("query-block-jobs", work=False)
    assert (job["offset"], job["len"]) == (2 * CLUSTER, 2 * CLUSTER)
    assert copied(files) == [2, 8]
    assert files.open("/t", writable=False).read(8 * CLUSTER, 1) == b"\2"


@pytest.mark.parametrize("mode", ["always", "on-success", "never"])
def test_a_cluster_that_is_written_again_stays_dirty(pair, mode):
    start_job(pair, mode=mode)
    for cluster in (2, 8):
        guest_writes(pair, cluster)
    pair.ask("block-job-set-speed", device="j", speed=0)
    assert pair.ask("query-jobs")[0]["status"] == "concluded"
    assert dirty(pair) == [2, 8]
    assert bitmaps(pair) == [("b", 2, False, True)]


@pytest.mark.parametrize(
    ("mode", "left"), [("always", [5, 8]), ("on-success", [2, 5, 8]), ("never", [2, 5, 8])]
)
def test_what_a_job_that_ends_early_did_not_copy_stays_dirty(pair, mode, left):
    start_job(pair, mode=mode)
    guest_writes(pair, 5)
    pair.ask("job-cancel", id="j")
    assert dirty(pair) == left


@pytest.mark.parametrize(("mode", "left"), [("on-success", []), ("always", []), ("never", [2, 8])])
def test_what_was_copied_is_clean(pair, mode, left):
    start_job(pair, mode=mode)
    pair.ask("block-job-set-speed", device="j", speed=0)
    assert dirty(pair) == left


def test_a_full_backup_leaves_all_dirty_that_it_did_not_copy(pair):
    pair.ask("block-dirty-bitmap-clear", node="s", name="b")
    start_job(pair, sync="full")
    guest_writes(pair, 3)
    pair.ask("job-cancel", id="j")
    assert dirty(pair) == list(range(1, 16))


def test_a_disabled_bitmap_stays_so(pair):
    pair.ask("block-dirty-bitmap-disable", node="s", name="b")
    start_job(pair)
    guest_writes(pair, 5)
    pair.ask("block-job-set-speed", device="j", speed=0)
    assert bitmaps(pair) == [("b", 0, False, False)]


def test_a_stored_bitmap_keeps_its_place_in_the_image(machine):
    machine.image("s")
    machine.add("null-co", "t", size=1 << 20)
    machine.ask("block-dirty-bitmap-add", node="s", name="b", persistent=True)
    machine.vm.block.write("s", 0, b"x")
    start_job(machine)
    (found,) = machine.node("s")["dirty-bitmaps"]
    assert (found["name"], found["persistent"], found["count"]) == ("b", True, 0)


def test_a_job_that_cannot_be_set_up_gives_the_bitmap_back(pair):
    text = pair.desc(
        "blockdev-backup", job_id="j", device="s", target="t", sync="bitmap", bitmap="b",
        bitmap_mode="always", filter_node_name="t",
    )  # fmt: skip
    assert text == "Duplicate nodes with node-name='t'"
    assert bitmaps(pair) == [("b", 2, False, True)]


def test_grains_of_the_end_count_whole(machine):
    machine.add("null-co", "s", size=CLUSTER + 512)
    machine.add("null-co", "t", size=CLUSTER + 512)
    machine.ask("block-dirty-bitmap-add", node="s", name="b", granularity=CLUSTER)
    guest_writes(machine, 0, "s")
    machine.vm.block.write("s", CLUSTER, b"x")
    assert machine.node("s")["dirty-bitmaps"][0]["count"] == 2 * CLUSTER
    machine.ask("blockdev-backup", job_id="j", device="s", target="t", sync="full")
    (end,) = [data for name, data in machine.events if name == "BLOCK_JOB_COMPLETED"]
    assert (end["len"], end["offset"]) == (2 * CLUSTER, 2 * CLUSTER)


def test_a_request_ends_where_the_image_goes_on_elsewhere(machine):
    machine.image("s")
    machine.add("null-co", "t", size=1 << 20)
    for cluster in (0, 2, 1):  # in the file in this order
        machine.vm.block.write("s", cluster * CLUSTER, b"x" * CLUSTER)
    machine.ask(
        "blockdev-backup", job_id="j", device="s", target="t", sync="full", speed=1, work=False
    )
    machine.clock.advance(0)
    (job,) = machine.ask("query-block-jobs", work=False)
    assert job["offset"] == CLUSTER
