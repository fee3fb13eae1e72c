"""New qcow2 images, and clusters of them that are there before anything is written.

See block/qcow2.c: qcow2_co_create(), qcow2_co_truncate() and preallocate_co().
"""

from __future__ import annotations

import struct

from fakeqemu.formats.extents import check_length
from fakeqemu.formats.qcow2.header import Header, Store
from fakeqemu.formats.qcow2.image import Qcow2
from fakeqemu.formats.qcow2.tables import COPIED
from fakeqemu.formats.qcow2.write import blaming
from fakeqemu.qapi.errors import QapiError


def create_empty(
    store: Store, header: Header, prealloc: str = "off", data: Store | None = None
) -> Qcow2:
    """Write an empty image of `header`'s size into an empty store. Raises QapiError.

    `prealloc`: a PreallocMode. `data`: the external data file, if there is to be one.
    """
    cluster = header.cluster
    header.refcount_table_offset, header.refcount_table_clusters = cluster, 1
    size, header.size = header.size, 0
    header.l1_size = header.l1_offset = 0
    with blaming("Could not write qcow2 header"):
        store.truncate(0)
        store.write(0, header.pack().ljust(cluster, b"\0"))
    with blaming("Could not write refcount table"):
        store.write(cluster, struct.pack(">Q", 2 * cluster).ljust(2 * cluster, b"\0"))
    image = Qcow2(store)
    image.data = data or store
    with blaming("Could not allocate clusters for qcow2 header and refcount table"):
        image.refcounts.update(0, 3 * cluster, 1)
    with blaming("Could not resize image"):
        check_length(size)
        with blaming("Failed to grow the L1 table"):
            image.writer.grow_l1(-(-size // (cluster * image.l2_entries)), exact=True)
        _preallocate(image, size, prealloc)
        image.header.size = size
        image.header.backing_file = header.backing_file
        with blaming("Failed to update the image size"):
            image.write_header()
        image.flush()
        image.mark_clean()
    return image


def _preallocate(image: Qcow2, size: int, mode: str) -> None:
    """Have clusters for all of an image that is empty so far. Raises QapiError.

    `mode`: a PreallocMode. With `metadata` tables lead to clusters, with `falloc` and `full` the
    file has them, too.
    """
    if mode == "metadata" or (mode != "off" and image.external):
        image.writer.allocate_all(0, size, "off" if mode == "metadata" else mode)
    elif mode == "off" and image.external:
        image.data.truncate(size)
    elif mode != "off":
        _data_first(image, size, mode)
    if mode != "off":
        with blaming("Failed to flush the preallocated area to disk"):
            image.flush()


def _data_first(image: Qcow2, size: int, mode: str) -> None:
    """Clusters in one piece behind everything, with the counts that they need before them."""
    cluster = image.cluster
    clusters = -(-size // cluster)
    tables = -(-clusters // image.l2_entries) + 1
    last = -(-image.store.size() // cluster) - 1
    while last >= 0 and not image.refcounts.get(last):
        last -= 1
    with blaming("Failed to resize refcount structures"):
        start = image.refcounts.reserve((last + 1) * cluster, clusters + tables)
    with blaming("Failed to allocate data clusters"):
        image.refcounts.allocate_at(start, clusters)
    try:
        with blaming("Failed to resize underlying file"):
            image.store.truncate(start + clusters * cluster, mode)
        with blaming("Failed to update L2 tables"):
            for number in range(0, clusters, image.l2_entries):
                table, slot = image.writer.table_for(number * cluster)
                first = start + number * cluster | COPIED
                row = min(image.l2_entries, clusters - number)
                table.put_row(slot, range(first, first + row * cluster, cluster))
    except QapiError:
        image.refcounts.free(start, clusters * cluster, "other")
        raise
