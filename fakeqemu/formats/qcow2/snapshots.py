"""Internal snapshots of a qcow2 image: the table of them, and taking, applying, deleting one.

The image owns the list (`Qcow2.snapshots`), for no cluster of their tables may be written over.
What a table may say is in block/qcow2-snapshot.c: qcow2_do_read_snapshots().
"""

from __future__ import annotations

import errno
import struct
from array import array

from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.qcow2.header import LARGEST_L1, MOST_SNAPSHOTS, validate_table
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.refcount.refcounts import failure
from fakeqemu.formats.qcow2.tables import COMPRESSED, COPIED, OFFSET, QCowSnapshot, hex_of
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

_ENTRY = struct.Struct(">QIHHIIQII")
_EXTRA = struct.Struct(">QQQ")
#: bytes of the table of snapshots, and of what one says beyond what we know (block/qcow2.h)
_LARGEST_TABLE, _MOST_EXTRA = 1024 * MOST_SNAPSHOTS, 1024
#: where the header has number and offset of snapshots
_HEADER_FIELDS = 60





# -- the table -----------------------------------------------------------------------------------


def load(image: Qcow2) -> None:
    """Read the snapshots in an image, oldest first. Raises QapiError."""
    start = at = image.header.snapshots_offset
    image.snapshots.clear()
    image.snapshots_size = 0
    for number in range(image.header.snapshot_count):
        at = -(-at // 8) * 8
        try:
            found, at = _read(image, at, number)
        except BlockIoError as error:
            image.snapshots.clear()
            raise error.prefixed("Failed to read snapshot table: ") from None
        if at - start > _LARGEST_TABLE:
            image.snapshots.clear()
            left = image.header.snapshot_count - number
            raise QapiError(
                "Snapshot table is too big",
                f"You can force-remove all {left} overhanging snapshots with qemu-img check"
                " -r all",
            )
        image.snapshots.append(found)
    image.snapshots_size = at - start


def _read(image: Qcow2, at: int, number: int) -> tuple[QCowSnapshot, int]:
    (l1_offset, l1_size, id_length, name_length, date_sec, date_nsec, clock, state,
     extra) = _ENTRY.unpack(image.store.read(at, _ENTRY.size))  # fmt: skip
    at += _ENTRY.size
    if extra > _MOST_EXTRA:
        raise QapiError(
            f"Too much extra metadata in snapshot table entry {number}",
            "You can force-remove this extra metadata with qemu-img check -r all",
        )
    more = image.store.read(at, extra)
    at += extra
    id = image.store.read(at, id_length)
    name = image.store.read(at + id_length, name_length)
    state_size, size, icount = _EXTRA.unpack(more[: _EXTRA.size].ljust(_EXTRA.size, b"\xff"))
    found = QCowSnapshot(
        _text(id), _text(name), date_sec, date_nsec, clock,
        state_size if extra >= 8 else state, l1_offset, l1_size,
        size if extra >= 16 else image.header.size,
        icount if extra >= 24 and icount < COPIED else -1,
        min(extra, _EXTRA.size), more[_EXTRA.size :],
    )  # fmt: skip
    return found, at + id_length + name_length


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _packed(each: QCowSnapshot) -> bytes:
    id, name = c_bytes(each.id), c_bytes(each.name)
    extra = _EXTRA.pack(each.vm_state_size, each.size, each.icount & (1 << 64) - 1) + each.extra
    short = each.vm_state_size if each.vm_state_size < 1 << 32 else 0
    entry = _ENTRY.pack(
        each.l1_offset, each.l1_size, len(id), len(name), each.date_sec, each.date_nsec,
        each.vm_clock, short, len(extra),
    )  # fmt: skip
    return entry + extra + id + name


def store(image: Qcow2) -> None:
    """Rewrite the snapshot table and the header's pointer to it. Raises BlockIoError.

    See block/qcow2-snapshot.c: qcow2_write_snapshots().
    """
    out = bytearray()
    for each in image.snapshots:
        out += bytes(-len(out) % 8) + _packed(each)
        if len(out) > _LARGEST_TABLE:
            raise failure(errno.EFBIG)
    # where there are none QEMU takes no cluster, and its table is where a free one begins
    at = image.refcounts.allocate(len(out))
    try:
        image.flush()
        image.check_write(at, len(out))
        image.store.write(at, bytes(out))
        image.flush()
        image.store.write(_HEADER_FIELDS, struct.pack(">IQ", len(image.snapshots), at))
    except BlockIoError:
        if at > 0:
            image.refcounts.free(at, len(out), "always")
        raise
    image.header.snapshot_count = len(image.snapshots)
    image.refcounts.free(image.header.snapshots_offset, image.snapshots_size, "snapshot")
    image.header.snapshots_offset, image.snapshots_size = at, len(out)


def check_l1(image: Qcow2, offset: int, entries: int) -> None:
    """Whether a snapshot's first-level table can be there. Raises QapiError."""
    validate_table(image.header, "Snapshot L1 table", (offset, entries, 8), LARGEST_L1)


# -- taking, deleting, applying ------------------------------------------------------------------


def _refuse_external(image: Qcow2) -> None:
    """Nobody counts clusters of a data file."""
    if image.external:
        raise failure(errno.ENOTSUP)


def take(image: Qcow2, new: QCowSnapshot) -> None:
    """Keep the image's state of now as `new`: qcow2_snapshot_create(). Raises BlockIoError."""
    if len(image.snapshots) >= MOST_SNAPSHOTS:
        raise failure(errno.EFBIG)
    _refuse_external(image)
    length = len(image.l1) * 8
    new.l1_offset, new.l1_size = image.refcounts.allocate(length), len(image.l1)
    new.size = image.header.size
    image.check_write(new.l1_offset, length)
    image.write_table(new.l1_offset, image.l1)
    _count_current(image, 1)
    image.snapshots.append(new)
    try:
        store(image)
    except BlockIoError:
        image.snapshots.pop()
        raise
    finally:
        image.settle()


def delete(image: Qcow2, old: QCowSnapshot) -> None:
    """Forget a snapshot: qcow2_snapshot_delete(). Raises QapiError."""
    _refuse_external(image)
    check_l1(image, old.l1_offset, old.l1_size)
    image.snapshots.remove(old)
    doing = "Failed to remove snapshot from snapshot list: "
    try:
        store(image)
        doing = "Failed to free the cluster and L1 table: "
        _count_other(image, old.l1_offset, old.l1_size, -1)
        image.refcounts.free(old.l1_offset, old.l1_size * 8, "snapshot")
        doing = "Failed to update snapshot status in disk: "
        _count_current(image, 0)
    except BlockIoError as error:
        raise error.prefixed(doing) from None
    finally:
        image.settle()


def apply(image: Qcow2, snapshot: QCowSnapshot) -> None:
    """Make the image what it was at `snapshot`: qcow2_snapshot_goto(). Raises QapiError."""
    _refuse_external(image)
    check_l1(image, snapshot.l1_offset, snapshot.l1_size)
    if snapshot.size != image.header.size:
        image.writer.resize(snapshot.size)
    image.writer.grow_l1(snapshot.l1_size, exact=True)
    table = image.read_table(snapshot.l1_offset, snapshot.l1_size)
    table.extend([0] * (len(image.l1) - len(table)))
    try:
        _count_other(image, snapshot.l1_offset, snapshot.l1_size, 1)
        image.check_write(image.header.l1_offset, len(table) * 8, ignore="active-l1")
        image.write_table(image.header.l1_offset, table)
        try:
            _count_current(image, -1)
        finally:
            image.use_l1(table)
        _count_current(image, 0)
    finally:
        image.settle()


# -- counting what a table leads to --------------------------------------------------------------


def _count_other(image: Qcow2, offset: int, entries: int, by: int) -> None:
    """The same for the table at a file offset, which is written if it is to stay."""
    if offset == image.header.l1_offset:
        _count_current(image, by)
        return
    table = image.read_table(offset, entries)
    before = table[:]
    _count(image, table, by)
    if by >= 0 and table != before:
        image.write_table(offset, table)


def _count_current(image: Qcow2, by: int) -> None:
    table = image.l1[:]
    try:
        _count(image, table, by)
    finally:
        changed = table != image.l1
        image.use_l1(table)
    if by >= 0 and changed:
        image.write_table(image.header.l1_offset, table)


def _count(image: Qcow2, l1: array[int], by: int) -> None:
    """Count all that a first-level table leads to up or down, and mark what is used once.

    See block/qcow2-refcount.c: qcow2_update_snapshot_refcount(). With 0 only marks change.
    """
    image.refcounts.hold_discards()
    failed = True
    try:
        for index, entry in enumerate(l1):
            if entry:
                l1[index] = _count_table(image, index, entry, by)
        image.flush()
        failed = False
    finally:
        image.refcounts.release_discards(failed=failed)


def _count_table(image: Qcow2, index: int, entry: int, by: int) -> int:
    """Count a second-level table and what it leads to; the entry that leads to it now."""
    at = entry & OFFSET
    if at % image.cluster:
        raise image.corrupt(f"L2 table offset {at:#x} unaligned (L1 index: {hex_of(index)})")
    if not at:
        # QEMU asserts: an entry that has flags only
        raise BlockIoError
    table = image.l2_table(at)
    for slot, inner in enumerate(table.entries()):
        if inner:
            now = _count_cluster(image, inner, by, (at, slot))
            if now != inner:
                if by > 0:
                    image.l2_cache.needs_first(image.refcounts.cache)
                table.put(slot, now)
    if by:
        image.refcounts.update(at, 1, by, "snapshot")
    return at | COPIED if image.refcounts.get(at // image.cluster) == 1 else at


def _count_cluster(image: Qcow2, entry: int, by: int, where: tuple[int, int]) -> int:
    entry &= ~COPIED
    if entry & COMPRESSED:
        if by:
            image.refcounts.update(*image.packed_place(entry), by, "snapshot")
        return entry
    at = entry & OFFSET
    if not at:
        return entry
    if at % image.cluster:
        raise image.corrupt(
            f"Cluster allocation offset {at:#x} unaligned"
            f" (L2 offset: {where[0]:#x}, L2 index: {hex_of(where[1])})"
        )
    if by:
        image.refcounts.update(at, 1, by, "snapshot")
    alone = image.refcounts.get(at // image.cluster) == 1
    return entry | COPIED if alone else entry
