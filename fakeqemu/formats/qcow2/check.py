"""Repairing a qcow2 image whose counts may be wrong: one that its last writer left dirty.

What uses a cluster is counted by walking all tables, and compared with what the image has, as
block/qcow2-refcount.c does it: qcow2_check_refcounts() with all repairs. Counts that are too
low for the tables they stand in are made anew; the rest is set right in place. Counts are kept
by the clusters that are in use, for a file may be far longer than what it holds.
"""

from __future__ import annotations

import errno
import struct
from array import array
from collections import Counter

from fakeqemu.dataclass import dataclass, field
from fakeqemu.formats.extents import BlockIoError
from fakeqemu.formats.qcow2.bitmap_directory import used_ranges
from fakeqemu.formats.qcow2.header import LARGEST_L1
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.refcount.refcounts import failure
from fakeqemu.formats.qcow2.snapshots import store
from fakeqemu.formats.qcow2.tables import COMPRESSED, COPIED, OFFSET, ZERO_FLAG
from fakeqemu.qapi.errors import QapiError

_REFBLOCK = 0xFFFFFFFFFFFFFE00
_RESERVED_L2 = 0x3F000000000001FE
_INT_MAX = (1 << 31) - 1
#: where the header has the refcount table's offset and clusters
_HEADER_FIELDS = 48


@dataclass
class _Check:
    """One walk over an image."""

    image: Qcow2
    clusters: int
    counts: Counter[int] = field(default_factory=Counter)
    corruptions: int = 0
    leaks: int = 0
    errors: int = 0
    #: whether counts have to be written to a place of their own
    rebuild: bool = False

    def use(self, offset: int, size: int) -> None:
        """Somebody uses a range: qcow2_inc_refcounts_imrt()."""
        cluster = self.image.cluster
        if size <= 0:
            return
        if offset + size - self.image.store.size() >= cluster:
            self.corruptions += 1
            return
        for index in range(offset // cluster, (offset + size - 1) // cluster + 1):
            self.clusters = max(self.clusters, index + 1)
            if self.counts[index] == self.image.refcounts.most:
                self.corruptions += 1
            else:
                self.counts[index] += 1


def repair(image: Qcow2) -> None:
    """Make the counts of a dirty image right, and mark it clean. Raises BlockIoError."""
    incomplete = sum(each.known < 16 for each in image.snapshots)
    incomplete *= image.header.version >= 3
    check = _check(image)
    if check.errors:
        raise BlockIoError
    if incomplete:
        store(image)
    if not check.corruptions:
        image.flush()
        image.mark_clean()
    else:
        image.settle()


def _check(image: Qcow2) -> _Check:
    clusters = -(-image.store.size() // image.cluster)
    if clusters > _INT_MAX:
        raise failure(errno.EFBIG)
    check = _calculate(image, clusters, fix=True)
    before = check.corruptions, check.leaks
    _compare(check, leaks=False, errors=False)
    if check.rebuild:
        image.say("Rebuilding refcount structure")
        _rebuild(check)
        check = _calculate(image, check.clusters, fix=False)
        _compare(check, leaks=True, errors=False)
    elif check.leaks or check.corruptions:
        check.corruptions, check.leaks = before
        _compare(check, leaks=True, errors=True)
    _mark(check)
    return check


# -- what uses which cluster ---------------------------------------------------------------------


def _calculate(image: Qcow2, clusters: int, *, fix: bool) -> _Check:
    check = _Check(image, clusters)
    header = image.header
    check.use(0, image.cluster)
    _walk_l1(check, header.l1_offset, header.l1_size, fix, "active-l2")
    for each in image.snapshots:
        if each.l1_offset % image.cluster or each.l1_size > LARGEST_L1 // 8:
            check.corruptions += 1
        else:
            _walk_l1(check, each.l1_offset, each.l1_size, fix, "inactive-l2")
    check.use(header.snapshots_offset, image.snapshots_size)
    if header.crypto is not None:
        check.use(*header.crypto)
    check.use(header.refcount_table_offset, header.refcount_table_clusters * image.cluster)
    try:
        for offset, size in used_ranges(image):
            check.use(offset, size)
    except BlockIoError:
        raise
    except QapiError:
        check.corruptions += 1
        raise failure(errno.EINVAL) from None
    _walk_refblocks(check, fix)
    return check


def _walk_l1(check: _Check, offset: int, entries: int, fix: bool, kind: str) -> None:
    image = check.image
    check.use(offset, entries * 8)
    for entry in filter(None, image.read_table(offset, entries)):
        if entry & ~(OFFSET | COPIED):
            check.corruptions += 1
        at = entry & OFFSET
        check.use(at, image.cluster)
        if at % image.cluster:
            check.corruptions += 1
        _walk_l2(check, at, fix, kind)


def _walk_l2(check: _Check, at: int, fix: bool, kind: str) -> None:
    image = check.image
    for slot, entry in enumerate(image.read_table(at, image.l2_entries)):
        if not entry:
            continue
        if entry & COMPRESSED:
            check.corruptions += bool(entry & COPIED)
            if image.external:
                check.corruptions += 1
                continue
            check.use(*image.packed_place(entry & ~COPIED))
            continue
        check.corruptions += bool(entry & _RESERVED_L2)
        data = entry & OFFSET
        if not data:
            continue
        if data % image.cluster:
            check.corruptions += 1
            if entry & ZERO_FLAG and fix:
                image.check_write(at + slot * 8, 8, ignore=kind)
                image.store.write(at + slot * 8, struct.pack(">Q", ZERO_FLAG))
                image.l2_cache.forget((at,))
                check.corruptions -= 1
                continue
        if not image.external:
            check.use(data, image.cluster)


def _walk_refblocks(check: _Check, fix: bool) -> None:
    """Blocks of counts: check_refblocks()."""
    image = check.image
    for entry in filter(None, image.refcounts.table):
        at = entry & _REFBLOCK
        if entry != at or at % image.cluster:
            check.corruptions += 1
            check.rebuild = True
        elif at // image.cluster >= check.clusters:
            check.corruptions += 1
            if fix and _reach(check, at):
                check.corruptions -= 1
                check.use(at, image.cluster)
        elif at:
            check.use(at, image.cluster)
            if check.counts[at // image.cluster] != 1:
                check.corruptions += 1
                check.rebuild = True


def _reach(check: _Check, at: int) -> bool:
    """Make the file long enough to have a refcount block; else all of them are rebuilt."""
    image = check.image
    try:
        if at > (1 << 63) - 1 - image.cluster:
            raise failure(errno.EINVAL)
        image.store.truncate(at + image.cluster)
    except QapiError as error:
        image.say(f"ERROR could not resize image: {error.desc}")
        check.rebuild = True
        return False
    check.clusters = -(-image.store.size() // image.cluster)
    return True


# -- comparing and setting right -----------------------------------------------------------------


def _compare(check: _Check, *, leaks: bool, errors: bool) -> None:
    """Compare counts, and set right what may be: compare_refcounts()."""
    refcounts = check.image.refcounts
    by_block: dict[int, set[int]] = {}
    for index, count in check.counts.items():
        if count and index < check.clusters:
            by_block.setdefault(index // refcounts.per_block, set()).add(index)
    numbers = {n for n, entry in enumerate(refcounts.table) if entry & _REFBLOCK} | set(by_block)
    for number in sorted(numbers):
        first = number * refcounts.per_block
        if first >= check.clusters:
            break
        try:
            kept = refcounts.counts(number)
        except BlockIoError:
            check.errors += 1
            continue
        there = {first + slot for slot, count in enumerate(kept) if count}
        for index in sorted(there | by_block.get(number, set())):
            if index < check.clusters:
                _set_right(check, index, kept[index - first], leaks=leaks, errors=errors)


def _set_right(check: _Check, index: int, has: int, *, leaks: bool, errors: bool) -> None:
    wanted = check.counts[index]
    if has == wanted:
        return
    if has == 0:
        check.rebuild = True
    elif leaks if has > wanted else errors:
        try:
            at = index * check.image.cluster
            check.image.refcounts.update(at, 1, wanted - has, "always")
        except BlockIoError:
            pass
        else:
            return
    if has < wanted:
        check.corruptions += 1
    else:
        check.leaks += 1


def _mark(check: _Check) -> None:
    """Whether what an entry leads to is used once: check_oflag_copied()."""
    image, refcounts = check.image, check.image.refcounts
    image.l2_cache.flush()
    for number, entry in enumerate(image.l1):
        at = entry & OFFSET
        if not at:
            continue
        alone = refcounts.get(at // image.cluster) == 1
        if alone != bool(entry & COPIED):
            image.set_l1(number, entry | COPIED if alone else entry & ~COPIED)
            image.writer.write_l1_entry(number)
        table = image.read_table(at, image.l2_entries)
        changed = False
        for slot, inner in enumerate(table):
            if inner & COMPRESSED or not inner & OFFSET:
                continue
            once = image.external or refcounts.get((inner & OFFSET) // image.cluster) == 1
            if once != bool(inner & COPIED):
                table[slot] = inner | COPIED if once else inner & ~COPIED
                changed = True
        if changed:
            image.check_write(at, image.cluster, ignore="active-l2")
            image.write_table(at, table)
            image.l2_cache.forget((at,))


# -- all counts anew -----------------------------------------------------------------------------


def _rebuild(check: _Check) -> None:
    """Write all counts to a new place: rebuild_refcount_structure(). Raises BlockIoError."""
    image, refcounts = check.image, check.image.refcounts
    refcounts.cache.clear()
    table: array[int] = array("Q")
    _write_blocks(check, table, set(check.counts))
    while True:
        clusters = -(-len(table) * 8 // image.cluster)
        at = _take(check, clusters, 0)
        before = len(table)
        _write_blocks(check, table, set(range(at, at + clusters)))
        if len(table) == before:
            break
    at *= image.cluster
    image.check_write(at, len(table) * 8)
    image.write_table(at, table)
    image.store.write(_HEADER_FIELDS, struct.pack(">QI", at, clusters))
    image.header.refcount_table_offset, image.header.refcount_table_clusters = at, clusters
    refcounts.replace(table)


def _write_blocks(check: _Check, table: array[int], indexes: set[int]) -> None:
    """Write the blocks that count `indexes`, and what counts those blocks."""
    image, refcounts = check.image, check.image.refcounts
    per_cluster = image.cluster // 8
    todo = {index // refcounts.per_block for index in indexes if check.counts[index]}
    while todo:
        number = min(todo)
        todo.discard(number)
        if number >= len(table):
            wanted = -(-(number + 1) // per_cluster) * per_cluster
            table.extend([0] * (wanted - len(table)))
        if not table[number]:
            index = _take(check, 1, number * refcounts.per_block)
            table[number] = index * image.cluster
            if index // refcounts.per_block != number:
                todo.add(index // refcounts.per_block)
        image.check_write(table[number], image.cluster)
        image.store.write(table[number], refcounts.packed(number, check.counts))


def _take(check: _Check, clusters: int, start: int) -> int:
    """The first of so many free clusters in a row: alloc_clusters_imrt()."""
    index = start
    while True:
        used = next((n for n in range(index, index + clusters) if check.counts[n]), None)
        if used is None:
            break
        index = used + 1
    for each in range(index, index + clusters):
        check.counts[each] = 1
    check.clusters = max(check.clusters, index + clusters)
    return index
