"""qcow2 images whose data are in a file of their own: the child `data-file`."""

from __future__ import annotations

from typing import Any

import pytest

from fakeqemu.formats.qcow2.check import repair
from fakeqemu.formats.qcow2.tables import COMPRESSED, COPIED
from fakeqemu.model.block.drivers import base
from fakeqemu.qapi.errors import QapiError

MB = 1 << 20
CLUSTER = 1 << 16
ENOTSUP = "Operation not supported"


def create(machine: Any, **more: Any) -> str | None:
    """Make an image in node `f` with its data in node `d`; what went wrong."""
    files = machine.vm.host.files
    if "/d" not in files.names():
        files.put("/d", b"")
    files.put("/f", b"")
    machine.add("file", "f", filename="/f")
    machine.add("file", "d", filename="/d")
    options = {"driver": "qcow2", "file": "f", "data-file": "d", "size": MB, **more}
    machine.ask("blockdev-create", job_id="j", options=options)
    (job,) = machine.ask("query-jobs")
    machine.ask("job-dismiss", id="j")
    error: str | None = job.get("error")
    return error


@pytest.fixture
def q(machine: Any) -> Any:
    """Such an image as node `q`, opened by its file alone."""
    assert create(machine) is None
    return opened(machine)


def opened(machine: Any) -> Any:
    """The image as node `q`, its data file as the header names it."""
    for name in "fd":
        machine.ask("blockdev-del", node_name=name)
    machine.add("qcow2", "q", file={"driver": "file", "filename": "/f"})
    return machine.vm.block.graph.nodes["q"]


def data(machine: Any, offset: int, count: int) -> bytes:
    found: bytes = machine.vm.host.files.open("/d", writable=False).read(offset, count)
    return found


def test_data_are_where_the_guest_has_them(machine: Any, q: Any) -> None:
    size = machine.vm.host.files.open("/f", writable=False).size()
    for at in (0, 3 * CLUSTER + 5):
        base.write(q, at, b"abc")
        assert data(machine, at, 3) == base.read(q, at, 3) == b"abc"
    assert data(machine, MB - 1, 1) == b"\0"
    grown = machine.vm.host.files.open("/f", writable=False).size() - size
    assert grown <= 2 * CLUSTER  # the second-level table, no data
    assert [(p.offset, p.length, p.kind) for p in base.status(q, 0, 4 * CLUSTER)] == [
        (0, CLUSTER, "data"), (CLUSTER, 2 * CLUSTER, "hole"), (3 * CLUSTER, CLUSTER, "data"),
    ]  # fmt: skip
    repair(q.driver.image)
    assert base.read(q, 0, 3) == b"abc"


def test_what_it_tells_of_itself(machine: Any, q: Any) -> None:
    (image,) = [n["image"] for n in machine.ask("query-named-block-nodes") if n["drv"] == "qcow2"]
    told = image["format-specific"]["data"]
    assert (told["data-file"], told["data-file-raw"]) == ("/d", False)
    assert q.children["file"].role.isdisjoint({"data"})


def test_the_data_file_can_be_another_node(machine: Any) -> None:
    assert create(machine) is None
    machine.vm.host.files.put("/e", b"other", size=MB)
    machine.add("file", "e", filename="/e")
    machine.add("qcow2", "q", file="f", **{"data-file": "e"})
    q = machine.vm.block.graph.nodes["q"]
    base.write(q, 9, b"x")
    assert machine.vm.host.files.open("/e", writable=False).read(9, 1) == b"x"


def test_one_that_is_named_nowhere_is_missed(machine: Any) -> None:
    assert create(machine) is None
    machine.add("qcow2", "q", file="f", **{"data-file": "d"})
    image = machine.vm.block.graph.nodes["q"].driver.image
    image.header.data_file = ""
    image.write_header()
    machine.ask("blockdev-del", node_name="q")
    text = machine.desc("blockdev-add", driver="qcow2", node_name="q", file="f")
    assert text == "'data-file' is required for this image"


def test_an_image_with_data_of_its_own_takes_none(machine: Any) -> None:
    machine.image("n")
    machine.vm.host.files.put("/d", b"")
    machine.add("file", "d", filename="/d")
    options = {"driver": "qcow2", "node_name": "q", "file": "n-file", "data_file": "d"}
    machine.ask("blockdev-del", node_name="n")
    text = machine.desc("blockdev-add", **options)
    assert text == "'data-file' can only be set for images with an external data file"


def test_a_raw_data_file_alone_reads_as_the_image(machine: Any) -> None:
    machine.vm.host.files.put("/d", b"\7" * MB)
    assert create(machine, **{"data-file-raw": True}) is None
    q = opened(machine)
    assert base.read(q, 0, MB) == b"\7" * MB
    q.driver.zero(q, CLUSTER, CLUSTER)
    assert data(machine, CLUSTER, CLUSTER) == bytes(CLUSTER)
    q.driver.truncate(q, 2 * MB)
    assert {p.kind for p in q.driver.image.status(MB, 2 * MB)} == {"data"}
    with pytest.raises(QapiError, match="Invalid argument"):
        q.driver.write_backing(q, "/b", "raw")


def test_zeros_are_only_marked_where_the_data_file_is_not_raw(machine: Any, q: Any) -> None:
    base.write(q, 0, b"\7" * CLUSTER)
    q.driver.image.discards = frozenset()
    q.driver.zero(q, 0, CLUSTER)
    assert base.read(q, 0, CLUSTER) == bytes(CLUSTER)
    assert data(machine, 0, CLUSTER) == b"\7" * CLUSTER


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"version": "v2"}, "External data files are only supported with compatibility level 1.1"
         " and above (use version=v3 or greater)"),
        ({"data-file-raw": True, "backing-file": "/b", "backing-fmt": "raw"},
         "Backing file and data-file-raw cannot be used at the same time"),
    ],
)  # fmt: skip
def test_what_cannot_be_made(machine: Any, more: dict[str, Any], text: str) -> None:
    assert create(machine, **more) == text


def test_snapshots_and_compressed_clusters_are_refused(machine: Any, q: Any) -> None:
    with pytest.raises(QapiError, match=ENOTSUP):
        base.write_compressed(q, 0, bytes(CLUSTER))
    answer = machine.desc("blockdev-snapshot-internal-sync", device="q", name="s")
    assert ENOTSUP in answer


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (COPIED | 2 * CLUSTER, "External data file host cluster offset 0x20000 does not match"
         " guest cluster offset: 0x10000, L2 index: 0x1)"),
        (COMPRESSED | 2 * CLUSTER, "Compressed cluster entry found in image with external data"
         " file (L2 offset: 0x40000, L2 index: 0x1)"),
    ],
)  # fmt: skip
def test_tables_that_lead_elsewhere_are_damage(
    machine: Any, q: Any, entry: int, text: str
) -> None:
    base.write(q, 0, b"x")
    image = q.driver.image
    image.l2_table(image.l2_at(0)).put(1, entry)
    machine.events.clear()
    with pytest.raises(QapiError):
        base.read(q, CLUSTER, 1)
    (event,) = [told for name, told in machine.events if name == "BLOCK_IMAGE_CORRUPTED"]
    assert event["msg"] == text
