"""Internal snapshots of a qcow2 image: the table of them, and taking, applying, deleting one."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from fakeqemu.model.block.qcow2 import Qcow2
from fakeqemu.qapi.utf8 import c_bytes

_ENTRY = struct.Struct(">QIHHIIQII")
_EXTRA = struct.Struct(">QQQ")
_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_OFFSET = 0x00FFFFFFFFFFFE00
_SECOND = 10**9


@dataclass
class Snapshot:
    """One internal snapshot."""

    id: str
    name: str
    #: seconds since 1970, and nanoseconds beyond
    date_sec: int
    date_nsec: int
    #: the guest's clock in nanoseconds
    vm_clock: int
    vm_state_size: int = 0
    l1_offset: int = 0
    l1_size: int = 0
    size: int = 0
    #: instructions counted; -1: not counted
    icount: int = -1

    def info(self) -> dict[str, Any]:
        """SnapshotInfo."""
        found: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "vm-state-size": self.vm_state_size,
            "date-sec": self.date_sec,
            "date-nsec": self.date_nsec,
            "vm-clock-sec": self.vm_clock // _SECOND,
            "vm-clock-nsec": self.vm_clock % _SECOND,
        }
        if self.icount >= 0:
            found["icount"] = self.icount
        return found


def load(image: Qcow2) -> list[Snapshot]:
    """The snapshots in an image, oldest first."""
    at = image.header.snapshots_offset
    found = []
    for _ in range(image.header.snapshot_count):
        (l1_offset, l1_size, id_length, name_length, date_sec, date_nsec, clock, state,
         extra) = _ENTRY.unpack(image.store.read(at, _ENTRY.size))  # fmt: skip
        at += _ENTRY.size
        more = image.store.read(at, extra)
        at += extra
        texts = image.store.read(at, id_length + name_length).decode(errors="surrogateescape")
        at += -(-(id_length + name_length + extra + _ENTRY.size) // 8) * 8
        at -= extra + _ENTRY.size
        state_size, size, icount = (*_EXTRA.unpack(more.ljust(24, b"\xff")),)
        found.append(
            Snapshot(
                texts[:id_length], texts[id_length:], date_sec, date_nsec, clock,
                state_size if extra >= 8 else state, l1_offset, l1_size,
                size if extra >= 16 else image.header.size,
                icount if extra >= 24 and icount < _COPIED else -1,
            )
        )  # fmt: skip
    return found


def store(image: Qcow2, snapshots: list[Snapshot]) -> None:
    """Write the table anew, and where it is."""
    out = b""
    for each in snapshots:
        id, name = c_bytes(each.id), c_bytes(each.name)
        extra = _EXTRA.pack(each.vm_state_size, each.size, each.icount & (1 << 64) - 1)
        short = each.vm_state_size if each.vm_state_size < 1 << 32 else 0
        entry = _ENTRY.pack(
            each.l1_offset, each.l1_size, len(id), len(name), each.date_sec, each.date_nsec,
            each.vm_clock, short, len(extra),
        )  # fmt: skip
        entry += extra + id + name
        out += entry.ljust(-(-len(entry) // 8) * 8, b"\0")
    old, old_length = image.header.snapshots_offset, _length(image)
    image.header.snapshots_offset = 0
    if out:
        clusters = -(-len(out) // image.cluster)
        image.header.snapshots_offset = image.refcounts.allocate(clusters)
        image.store.write(image.header.snapshots_offset, out)
    image.header.snapshot_count = len(snapshots)
    image.write_header()
    if old:
        image.refcounts.change(old, -(-old_length // image.cluster), -1)


def _length(image: Qcow2) -> int:
    at = image.header.snapshots_offset
    for _ in range(image.header.snapshot_count):
        fields = _ENTRY.unpack(image.store.read(at, _ENTRY.size))
        at += -(-(_ENTRY.size + fields[2] + fields[3] + fields[8]) // 8) * 8
    return at - image.header.snapshots_offset


def take(image: Qcow2, snapshots: list[Snapshot], new: Snapshot) -> None:
    """Keep the image's state of now as `new`."""
    _count(image, image.l1, 1)
    clusters = max(1, -(-len(image.l1) * 8 // image.cluster))
    new.l1_offset, new.l1_size = image.refcounts.allocate(clusters), len(image.l1)
    new.size = image.header.size
    image.put_table(new.l1_offset, [entry & ~_COPIED for entry in image.l1])
    _mark(image)
    snapshots.append(new)
    store(image, snapshots)


def delete(image: Qcow2, snapshots: list[Snapshot], old: Snapshot) -> None:
    """Forget a snapshot."""
    snapshots.remove(old)
    store(image, snapshots)
    _count(image, image.table(old.l1_offset, old.l1_size), -1)
    image.refcounts.change(old.l1_offset, max(1, -(-old.l1_size * 8 // image.cluster)), -1)
    _mark(image)


def apply(image: Qcow2, snapshot: Snapshot) -> None:
    """Make the image what it was at `snapshot`."""
    table = image.table(snapshot.l1_offset, snapshot.l1_size)
    table += [0] * (len(image.l1) - len(table))
    _count(image, table, 1)
    before = list(image.l1)
    image.use_l1(table)
    _count(image, before, -1)
    image.header.size = snapshot.size or image.header.size
    image.write_header()
    _mark(image)


def _count(image: Qcow2, l1: list[int], delta: int) -> None:
    """Count all clusters that a first-level table leads to up or down."""
    for entry in l1:
        at = entry & _OFFSET
        if not at:
            continue
        for inner in image.table(at, image.l2_entries):
            if inner & _COMPRESSED:
                bits = 62 - (image.header.cluster_bits - 8)
                where = inner & (1 << bits) - 1
                sectors = (inner >> bits & (1 << image.header.cluster_bits - 8) - 1) + 1
                first = where // image.cluster
                last = (where - where % 512 + sectors * 512 - 1) // image.cluster
                image.refcounts.change(first * image.cluster, last - first + 1, delta)
            elif inner & _OFFSET:
                image.refcounts.change(inner & _OFFSET, 1, delta)
        image.refcounts.change(at, 1, delta)


def _mark(image: Qcow2) -> None:
    """Say in every entry of the tables now in use whether what it leads to is used once."""

    def marked(entry: int) -> int:
        at = entry & _OFFSET
        if entry & _COMPRESSED or not at:
            return entry
        alone = image.refcounts.get(at // image.cluster) == 1
        return entry | _COPIED if alone else entry & ~_COPIED

    l1 = [marked(entry) for entry in image.l1]
    for entry in l1:
        at = entry & _OFFSET
        if at:
            image.put_table(at, [marked(inner) for inner in image.table(at, image.l2_entries)])
    image.use_l1(l1)
