"""Images whose clusters, or whose room in the file, are there before anything is written."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from fakeqemu.model.block.drivers import base
from fakeqemu.qapi.errors import QapiError

MB = 1 << 20
CLUSTER = 1 << 16


def create(machine: Any, mode: str, size: int = MB, **more: Any) -> str | None:
    """Make an image in node `f`; what went wrong."""
    machine.vm.host.files.put("/f", b"")
    machine.add("file", "f", filename="/f")
    more = {key.replace("_", "-"): value for key, value in more.items()}
    options = {"driver": "qcow2", "file": "f", "size": size, "preallocation": mode, **more}
    machine.ask("blockdev-create", job_id="j", options=options)
    (job,) = machine.ask("query-jobs")
    machine.ask("job-dismiss", id="j")
    error: str | None = job.get("error")
    return error


def length(machine: Any) -> int:
    size: int = machine.vm.host.files.open("/f", writable=False).size()
    return size


@pytest.mark.parametrize(
    ("mode", "clusters"),
    [("off", 3), ("metadata", 21), ("falloc", 21), ("full", 21)],
)  # header, refcount table and block, L1 table; L2 table or the new refcount table; data
def test_clusters_are_there(machine: Any, mode: str, clusters: int) -> None:
    assert create(machine, mode) is None
    before = length(machine)
    assert -(-before // CLUSTER) == clusters + (mode == "off")
    machine.add("qcow2", "q", file="f")
    kinds = {piece.kind for piece in machine.vm.block.graph.nodes["q"].driver.image.status(0, MB)}
    assert kinds == ({"hole"} if mode == "off" else {"data"})
    machine.vm.block.write("q", MB - 512, b"x" * 512)
    assert (length(machine) == before) is (mode != "off")
    assert base.read(machine.vm.block.graph.nodes["q"], 0, 512) == bytes(512)


@pytest.mark.parametrize("cluster", [512, 4096, 1 << 21])
@pytest.mark.parametrize("mode", ["metadata", "falloc"])
def test_counts_are_right_for_clusters_of_any_size(machine: Any, mode: str, cluster: int) -> None:
    assert create(machine, mode, 3 * MB + 512, cluster_size=cluster) is None
    machine.add("qcow2", "q", file="f")
    image = machine.vm.block.graph.nodes["q"].driver.image
    end = -(-length(machine) // cluster)
    led_to = [entry for n in range(-(-image.header.size // cluster))
              if (entry := image.entry(n * cluster))]  # fmt: skip
    places = [(entry & (1 << 56) - 1) // cluster for entry in led_to]
    assert len(set(places)) == len(places) == -(-image.header.size // cluster)
    assert all(image.refcounts.get(place) == 1 for place in places)
    assert max(places) < end


@pytest.mark.parametrize(("size", "mode"), [(0, "metadata"), (0, "falloc"), (MB, "off")])
def test_nothing_to_preallocate(machine: Any, size: int, mode: str) -> None:
    assert create(machine, mode, size) is None
    machine.add("qcow2", "q", file="f")
    assert machine.node("q")["image"]["virtual-size"] == size


def test_lazy_counts_are_right_in_the_end(machine: Any) -> None:
    assert create(machine, "metadata", lazy_refcounts=True) is None
    data = machine.vm.host.files.open("/f", writable=False).read(72, 8)
    assert data == bytes(8)  # no incompatible feature: not dirty


def calls(act: Any) -> int:
    """How many calls it makes."""
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("mode", ["metadata", "falloc"])
def test_work_grows_with_tables_not_with_clusters(machine: Any, mode: str) -> None:
    """4 GiB are 65,536 clusters, in 8 second-level tables and 3 blocks of counts."""
    few = calls(lambda: create(machine, mode, MB))
    machine.ask("blockdev-del", node_name="f")
    assert calls(lambda: create(machine, mode, 4 << 30)) < few + 10_000
    machine.add("qcow2", "q", file="f")
    assert calls(lambda: machine.ask("block_resize", node_name="q", size=1 << 40)) < 20_000


def test_a_table_of_many_small_clusters_is_found_room_for_in_rows(machine: Any) -> None:
    """The first-level table of 8 GiB in clusters of 512 bytes takes 4,096 of them in a row."""
    create(machine, "off", MB, cluster_size=512)
    machine.add("qcow2", "q", file="f")
    assert calls(lambda: machine.ask("block_resize", node_name="q", size=8 << 30)) < 40_000
    assert machine.vm.block.graph.nodes["q"].driver.image.header.l1_size == 1 << 18


def test_a_row_with_a_gap_is_not_taken_for_whole(machine: Any) -> None:
    """The first and the last cluster of a table lie as far apart as if all between were there."""
    create(machine, "metadata", 64 * 512, cluster_size=512)
    machine.add("qcow2", "q", file="f")
    image = machine.vm.block.graph.nodes["q"].driver.image
    assert image.entry(63 * 512) == image.entry(0) + 63 * 512
    machine.vm.block.write("q", 0, b"x" * 64 * 512)
    image.discard(10 * 512, 12 * 512)
    assert [(piece.offset, piece.length) for piece in image.status(0, 64 * 512)] == [
        (0, 10 * 512), (10 * 512, 2 * 512), (12 * 512, 52 * 512)
    ]  # fmt: skip
    found = base.read(machine.vm.block.graph.nodes["q"], 0, 64 * 512)
    assert found == b"x" * 10 * 512 + bytes(1024) + b"x" * 52 * 512


@pytest.mark.parametrize("bits", [1, 16])
def test_counts_that_cannot_all_be_changed_stay_as_they_are(machine: Any, bits: int) -> None:
    assert create(machine, "off", MB, refcount_bits=bits) is None
    machine.add("qcow2", "q", file="f")
    counts = machine.vm.block.graph.nodes["q"].driver.image.refcounts
    counts.update(20 * CLUSTER, CLUSTER, 1)
    before = [counts.get(index) for index in range(15, 25)]
    with pytest.raises(QapiError):
        # up: the sixth is full; down: all but the sixth are free already
        counts.update(15 * CLUSTER, 10 * CLUSTER, 1 if bits == 1 else -1)
    assert [counts.get(index) for index in range(15, 25)] == before
    if bits != 1:
        with pytest.raises(QapiError):
            counts.update(20 * CLUSTER, 2 * CLUSTER, -1)
        assert [counts.get(index) for index in range(15, 25)] == before
