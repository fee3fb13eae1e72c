"""Damaged qcow2 images: each limit of a header and of its tables, and what a fatal one leads to.

The texts are those of QEMU's block/qcow2*.c; the records `found-r2-*` have whole conversations
with real ones.
"""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.qcow2 import check as qcow2check, snapshots as qcow2snapshots
from fakeqemu.formats.qcow2.creation import create_empty
from fakeqemu.formats.qcow2.header import BITMAPS, CORRUPT, DIRTY, EXT_BITMAPS, Header, parse_header
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.snapshots import QCowSnapshot
from fakeqemu.model.block.files import MemoryFiles
from fakeqemu.qapi.errors import NotModelledError, QapiError
from tests.block.test_qcow2 import Store, zeros

SIZE = 1 << 20
CLUSTER = 4096
#: field -> offset in the header and struct format
FIELDS = {
    "magic": (0, "I"), "version": (4, "I"), "backing_at": (8, "Q"), "backing_length": (16, "I"),
    "cluster_bits": (20, "I"), "size": (24, "Q"), "crypt": (32, "I"), "l1_size": (36, "I"),
    "l1_at": (40, "Q"), "table_at": (48, "Q"), "table_clusters": (56, "I"),
    "snapshots": (60, "I"), "snapshots_at": (64, "Q"), "incompatible": (72, "Q"),
    "autoclear": (88, "Q"), "order": (96, "I"), "length": (100, "I"), "compression": (104, "B"),
    "extension": (112, "I"), "extension_length": (116, "I"),
}  # fmt: skip


def fresh(**header: Any) -> tuple[Store, Qcow2]:
    """An image with some data and a snapshot."""
    store = Store(MemoryFiles().open("/x", writable=True, create=True))
    image = create_empty(store, Header(size=SIZE, cluster_bits=12, **header))
    image.write(0, b"a" * 3 * CLUSTER, zeros)
    qcow2snapshots.take(image, QCowSnapshot("1", "s1", 1, 2, 3))
    image.write(0, b"b" * CLUSTER, zeros)
    image.flush()
    return store, image


def damage(store: Store, **fields: int) -> Store:
    for name, value in fields.items():
        at, kind = FIELDS[name]
        store.write(at, struct.pack(">" + kind, value))
    return store


def opened(store: Store, *, writable: bool = True) -> Qcow2:
    """Everything an open looks at, in QEMU's order."""
    image = Qcow2(store, writable=writable)
    image.open_rest()
    qcow2snapshots.load(image)
    return image


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"magic": 0}, "Image is not in qcow2 format"),
        ({"version": 1}, "Unsupported qcow2 version 1"),
        ({"version": 4, "cluster_bits": 0}, "Unsupported qcow2 version 4"),
        ({"cluster_bits": 8}, "Unsupported cluster size: 2^8"),
        ({"cluster_bits": 22}, "Unsupported cluster size: 2^22"),
        ({"length": 103}, "qcow2 header too short"),
        ({"length": 4097}, "qcow2 header exceeds cluster size"),
        ({"backing_at": 4097}, "Invalid backing file offset"),
        ({"compression": 2}, "qcow2: unknown compression type: 2"),
        (
            {"compression": 1},
            "qcow2: Compression type incompatible feature bit must be set",
        ),
        (
            {"incompatible": 8},
            "qcow2: Compression type incompatible feature bit must not be set",
        ),
        (
            {"incompatible": 1 << 62 | 32},
            "Unsupported qcow2 feature(s): Unknown incompatible feature: 4000000000000020",
        ),
        ({"incompatible": 2}, "qcow2: Image is corrupt; cannot be opened read/write"),
        ({"incompatible": 16}, "Unsupported subcluster size: 128"),
        ({"order": 7}, "Reference count entry width too large; may not exceed 64 bits"),
        (
            {"crypt": 1},
            "Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators",
        ),
        ({"crypt": 2}, "Missing CRYPTO header for crypt method 2"),
        ({"table_clusters": 0}, "Image does not contain a reference count table"),
        ({"table_clusters": 2049}, "Reference count table too large"),
        ({"table_at": 4097}, "Reference count table offset invalid"),
        ({"table_at": 1 << 63}, "Reference count table offset invalid"),
        ({"snapshots": 65537}, "Snapshot table too large"),
        ({"snapshots_at": 8}, "Snapshot table offset invalid"),
        ({"l1_size": (32 << 17) + 1}, "Active L1 table too large"),
        ({"l1_at": 1}, "Active L1 table offset invalid"),
        (
            {"l1_at": (1 << 63) - 2 * CLUSTER, "l1_size": 1},
            "Could not read L1 table: Input/output error",
        ),
        (
            {"table_at": (1 << 63) - 2 * CLUSTER},
            "Could not initialize refcount handling: Input/output error",
        ),
        ({"size": 1 << 62}, "Image is too big"),
        ({"size": 1 << 40}, "L1 table is too small"),
        ({"extension_length": 4000}, "Header extension too large"),
        (
            {"extension": 0xE2792ACA, "extension_length": 16},
            "ERROR: ext_backing_format: len=16 too large (>=16)",
        ),
        (
            {"extension": 0x0537BE77},
            "CRYPTO header extension only expected with LUKS encryption method",
        ),
        (
            {"extension": EXT_BITMAPS, "extension_length": 16},
            "bitmaps_ext: Invalid extension length",
        ),
        ({"backing_at": 600, "backing_length": 1024}, "Backing file name too long"),
        ({"snapshots_at": 1 << 40, "snapshots": 65536}, ""),
    ],
)
def test_each_limit_of_a_header(fields: dict[str, int], text: str) -> None:
    store, _ = fresh()
    damage(store, **fields)
    if not text:
        assert len(opened(store).snapshots) == fields["snapshots"]
        return
    with pytest.raises(QapiError) as caught:
        opened(store)
    assert caught.value.desc == text


def test_what_an_image_calls_a_feature_we_lack() -> None:
    store, _ = fresh()
    # a table of names, which images with clusters so small have not
    store.write(112, struct.pack(">IIBB46s", 0x6803F857, 48, 0, 40, b"teleportation"))
    damage(store, incompatible=3 << 40)
    with pytest.raises(QapiError, match=r"\(s\): teleportation, Unknown incompatible.*: 20{10}$"):
        opened(store)


@pytest.mark.parametrize(
    ("number", "size", "offset", "text"),
    [
        (65536, 32, CLUSTER, "exceeding the QEMU supported maximum of 65535"),
        (0, 32, CLUSTER, "found bitmaps extension with zero bitmaps"),
        (1, 32, CLUSTER + 8, "bitmaps_ext: invalid bitmap directory offset"),
        (1, (65535 << 10) + 1, CLUSTER, "exceeds the maximum supported size (67107840)"),
    ],
)
def test_limits_of_the_bitmap_extension(number: int, size: int, offset: int, text: str) -> None:
    store, image = fresh()
    image.header.autoclear |= BITMAPS
    data = struct.pack(">IIQQ", number, 0, size, offset)
    image.header.extensions.append((EXT_BITMAPS, data))
    image.write_header()
    with pytest.raises(QapiError) as caught:
        opened(store)
    assert text in caught.value.desc


@pytest.mark.parametrize(
    ("at", "value", "text"),
    [
        (36, 1025, "Too much extra metadata in snapshot table entry 0"),
        (36, 1024, ""),
    ],
)
def test_limits_of_the_snapshot_table(at: int, value: int, text: str) -> None:
    store, image = fresh()
    store.write(image.header.snapshots_offset + at, struct.pack(">I", value))
    if text:
        with pytest.raises(QapiError, match=text):
            opened(store)
    else:
        assert len(opened(store).snapshots[0].extra) == 1000


def test_a_snapshot_table_of_more_than_64_mebibytes() -> None:
    store, image = fresh()
    entry = struct.pack(">QIHHIIQII", 0, 0, 65535, 65535, 0, 0, 0, 0, 0)
    for number in range(600):
        store.write(image.header.snapshots_offset + number * 131112, entry)
    damage(store, snapshots=600)
    with pytest.raises(QapiError, match="Snapshot table is too big"):
        opened(store)


def events(image: Qcow2) -> list[tuple[str, bool, int, int]]:
    found: list[tuple[str, bool, int, int]] = []
    image.on_corrupt = lambda *what: found.append(what)
    return found


def test_a_write_over_metadata_marks_the_image_as_corrupt() -> None:
    store, image = fresh()
    # the first refcount block says that nothing is in use
    store.write(2 * CLUSTER, bytes(CLUSTER))
    image = opened(store)
    found = events(image)
    with pytest.raises(BlockIoError):
        image.write(SIZE // 2, b"x" * 16 * CLUSTER, zeros)
    (what,) = found
    assert what[0].startswith("Preventing invalid ")
    assert what[1]
    assert parse_header(store, writable=False).incompatible & CORRUPT
    with pytest.raises(QapiError, match="cannot be opened read/write"):
        opened(store)
    assert opened(store, writable=False).read(CLUSTER, 1, zeros) == b"a"


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (1 << 63 | 0x200, "Cluster allocation offset 0x200 unaligned (L2 offset: 0x"),
        (0x201, "Cluster allocation offset 0x200 unaligned (L2 offset: 0x"),
    ],
)
def test_reading_through_an_entry_that_cannot_be(entry: int, text: str) -> None:
    store, image = fresh()
    store.write(image.l1[0] & 0xFFFFFFFFFFFE00, struct.pack(">Q", entry))
    image = opened(store, writable=False)
    found = events(image)
    for _ in range(2):
        with pytest.raises(BlockIoError):
            image.read(0, 1, zeros)
    ((said, fatal, offset, size),) = found  # once, where nobody can make it worse
    assert said.startswith(text)
    assert (fatal, offset, size) == (False, -1, -1)


def test_a_zero_cluster_in_an_image_older_than_they_are() -> None:
    store, image = fresh(version=2)
    store.write(image.l1[0] & 0xFFFFFFFFFFFE00, struct.pack(">Q", 1))
    image = opened(store)
    found = events(image)
    with pytest.raises(BlockIoError):
        image.read(0, 1, zeros)
    assert found[0][0].startswith("Zero cluster entry found in pre-v3 image (L2 offset: 0x")
    assert found[0][1]


def test_l1_entries_and_refcount_blocks_that_are_not_where_clusters_begin() -> None:
    store, image = fresh()
    store.write(image.header.l1_offset, struct.pack(">Q", 1 << 63 | 0x1200))
    image = opened(store)
    found = events(image)
    with pytest.raises(BlockIoError):
        image.write(0, b"x", zeros)
    assert found[0][0] == "L2 table offset 0x1200 unaligned (L1 index: 0)"

    store, image = fresh()
    store.write(CLUSTER, struct.pack(">Q", 0x600))
    image = opened(store)
    found = events(image)
    with pytest.raises(BlockIoError):
        image.write(SIZE // 2, b"x", zeros)
    assert found[0][0] == "Refblock offset 0x600 unaligned (reftable index: 0)"


def test_deleting_a_snapshot_with_a_table_that_cannot_be() -> None:
    store, image = fresh()
    store.write(image.header.snapshots_offset, struct.pack(">Q", 0x1003))
    image = opened(store)
    with pytest.raises(QapiError, match="Snapshot L1 table offset invalid"):
        qcow2snapshots.delete(image, image.snapshots[0])
    assert len(image.snapshots) == 1


def test_a_dirty_image_is_repaired() -> None:
    store, image = fresh()
    # two clusters too many and one too few are counted
    image.refcounts.update(40 * CLUSTER, 2 * CLUSTER, 1)
    image.flush()
    store.truncate(50 * CLUSTER)
    damage(store, incompatible=DIRTY)
    image = opened(store)
    qcow2check.repair(image)
    assert image.refcounts.get(40) == image.refcounts.get(41) == 0
    assert not parse_header(store).incompatible & DIRTY
    assert image.read(0, CLUSTER + 1, zeros) == b"b" * CLUSTER + b"a"


def test_counts_that_are_gone_are_made_anew() -> None:
    store, image = fresh()
    before = [image.refcounts.get(index) for index in range(3, 12)]
    store.write(2 * CLUSTER, bytes(CLUSTER))
    damage(store, incompatible=DIRTY)
    image = opened(store)
    qcow2check.repair(image)
    again = opened(store)
    assert [again.refcounts.get(index) for index in range(3, 12)] == before
    assert not again.header.incompatible & DIRTY
    again.write(0, b"c" * 20 * CLUSTER, zeros)
    assert again.read(0, 1, zeros) == b"c"


def test_lazy_counts_leave_the_image_dirty_until_it_is_closed() -> None:
    store, image = fresh(compatible=1)
    assert parse_header(store).incompatible & DIRTY
    image.mark_clean()
    assert not parse_header(store).incompatible & DIRTY


def test_opening_costs_what_is_there_not_what_is_announced() -> None:
    store, _ = fresh()
    damage(store, l1_size=32 << 17, table_clusters=2048, snapshots_at=1 << 50, snapshots=0)
    tracemalloc.start()
    image = opened(store)
    image.read(0, SIZE, zeros)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * (32 << 20)  # the largest tables that QEMU takes, and copies of them


def test_a_small_image_whose_bitmap_is_all_dirty(start: Any, files: MemoryFiles) -> None:
    """256 entries that say `all ones` for 512 byte grains are four thousand million bits."""
    cluster = 2 << 20
    size = 256 * cluster * 8 * 512
    image = create_empty(
        Store(files.open("/x.qcow2", writable=True, create=True)),
        Header(size=size, cluster_bits=21),
    )
    name = b"b"
    directory = struct.pack(">QIIBBHI", 8 * cluster, 256, 2, 1, 9, len(name), 0) + name
    directory = directory.ljust(32, b"\0")
    image.store.write(7 * cluster, directory)
    image.store.write(8 * cluster, struct.pack(">Q", 1) * 256)
    image.header.autoclear |= BITMAPS
    data = struct.pack(">IIQQ", 1, 0, len(directory), 7 * cluster)
    image.header.extensions.append((EXT_BITMAPS, data))
    image.write_header()
    file = {"driver": "file", "filename": "/x.qcow2"}
    vm = start()
    tracemalloc.start()
    vm.add("qcow2", "x", file=file)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 << 20
    (bitmap,) = vm.vm.block.graph.nodes["x"].bitmaps
    assert (bitmap.count, list(bitmap.ranges())) == (size, [(0, size)])


def test_bits_that_take_turns_cost_too_much(start: Any, files: MemoryFiles) -> None:
    """Each entry of the table may lead to the same cluster, and each other bit be set there."""
    cluster = 2 << 20
    image = create_empty(
        Store(files.open("/x.qcow2", writable=True, create=True)),
        Header(size=4 * cluster * 8 * 512, cluster_bits=21),
    )
    directory = struct.pack(">QIIBBHI", 8 * cluster, 4, 2, 1, 9, 1, 0) + b"b"
    directory = directory.ljust(32, b"\0")
    image.store.write(7 * cluster, directory)
    image.store.write(8 * cluster, struct.pack(">Q", 9 * cluster) * 4)
    image.store.write(9 * cluster, b"\xaa" * cluster)
    image.header.autoclear |= BITMAPS
    data = struct.pack(">IIQQ", 1, 0, len(directory), 7 * cluster)
    image.header.extensions.append((EXT_BITMAPS, data))
    image.write_header()
    file = {"driver": "file", "filename": "/x.qcow2"}
    assert "does not model" in start().refusal_of_add("qcow2", "x", file=file)


@settings(
    max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*FIELDS, "l1", "l2", "table", "block", "snapshot"]),
            st.one_of(
                st.integers(0, (1 << 64) - 1),
                st.sampled_from([0, 1, 3, CLUSTER, 1 << 62, 1 << 63, 1 << 63 | CLUSTER, 1 << 56]),
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_an_image_says_nothing_but_errors_come_of_it(
    changes: list[tuple[str, int]],
) -> None:
    store, image = fresh()
    places = {
        "l1": image.header.l1_offset, "l2": image.l1[0] & 0xFFFFFFFFFFFE00, "table": CLUSTER,
        "block": 2 * CLUSTER, "snapshot": image.header.snapshots_offset,
    }  # fmt: skip
    for name, value in changes:
        at, kind = FIELDS.get(name, (places.get(name, 0), "Q"))
        bits = struct.calcsize(">" + kind) * 8
        store.write(at, struct.pack(">" + kind, value & (1 << bits) - 1))
    try:
        image = opened(store)
    except QapiError:
        return
    for act in (
        lambda: image.read(0, min(image.header.size, SIZE), zeros),
        lambda: image.write(0, b"y" * 5 * CLUSTER, zeros),
        lambda: image.zero(CLUSTER, CLUSTER, zeros),
        lambda: qcow2snapshots.take(image, QCowSnapshot("2", "s2", 1, 2, 3)),
        lambda: qcow2snapshots.delete(image, image.snapshots[0]) if image.snapshots else None,
        image.flush,
        lambda: qcow2check.repair(image),
    ):
        try:
            act()
        except (QapiError, NotModelledError):
            continue
