"""Where in a qcow2 file a write goes: into clusters of its own, or new ones in a row with them.

See block/qcow2-cluster.c: qcow2_alloc_host_offset(), handle_copied() and handle_alloc().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.qcow2.tables import COPIED, OFFSET, ZERO_FLAG, hex_of

if TYPE_CHECKING:
    from fakeqemu.formats.qcow2.image import Qcow2


@dataclass(slots=True)
class L2Meta:
    """Clusters in a row that tables have to lead to once their data is written."""

    #: offset of the first in the guest's view, and in the file
    guest: int
    host: int
    clusters: int
    #: whether the tables lead there already
    kept: bool
    #: the part of them that the request writes
    start: int
    end: int


class Allocator:
    """What finds clusters of one image. Failures are BlockIoErrors."""

    def __init__(self, image: Qcow2) -> None:
        self._image = image

    def allocate(self, offset: int, count: int, links: list[L2Meta]) -> tuple[int, int]:
        """Where the first bytes of a request go, and how many of them: qcow2_alloc_host_offset().

        What tables have to learn of it is put into `links`, also where this fails.
        """
        first: int | None = None
        expected: int | None = None
        done = 0
        while done < count:
            got = self._in_place(offset + done, count - done, expected, links)
            if got is None:
                got = self._anew(offset + done, count - done, expected, links)
            host, step = got
            if not step:
                break
            if first is None:
                first = host
            done += step
            expected = host + step
        assert first is not None
        return first, done

    def _in_place(
        self, guest: int, count: int, expected: int | None, links: list[L2Meta]
    ) -> tuple[int, int] | None:
        """Use clusters that are this state's alone; None where there are none: handle_copied()."""
        image = self._image
        table, slot = image.writer.table_for(guest)
        entry = table.entry(slot)
        at, inside = entry & OFFSET, guest % image.cluster
        if self._needs_new(entry):
            return None
        if at % image.cluster:
            what = "Preallocated zero" if entry & ZERO_FLAG else "Data"
            raise image.corrupt(
                f"{what} cluster offset {at:#x} unaligned (guest offset: {hex_of(guest)})"
            )
        if expected is not None and at + inside != expected:
            return 0, 0
        wanted = -(-(inside + count) // image.cluster)
        clusters, zeros = 0, False
        for entry in table.entries(slot, min(slot + wanted, image.l2_entries)):
            if self._needs_new(entry) or entry & OFFSET != at + clusters * image.cluster:
                break
            zeros = zeros or bool(entry & ZERO_FLAG)
            clusters += 1
        step = min(count, clusters * image.cluster - inside)
        if zeros:
            links.append(L2Meta(guest - inside, at, clusters, True, inside, inside + step))
        return at + inside, step

    def _needs_new(self, entry: int) -> bool:
        return not (entry & COPIED and self._image.leads_to(entry))

    def _anew(
        self, guest: int, count: int, expected: int | None, links: list[L2Meta]
    ) -> tuple[int, int]:
        """Allocate clusters, in a row with those before: handle_alloc()."""
        image = self._image
        table, slot = image.writer.table_for(guest)
        inside = guest % image.cluster
        wanted = min(-(-(inside + count) // image.cluster), image.l2_entries - slot)
        clusters = table.zeros(slot * 8, (slot + wanted) * 8) // 8
        while clusters < wanted and self._needs_new(table.entry(slot + clusters)):
            clusters += 1
        if image.external:
            at = guest - inside
        elif expected is None:
            at = image.refcounts.allocate(clusters * image.cluster)
        else:
            at = expected - expected % image.cluster
            clusters = image.refcounts.allocate_at(at, clusters)
            if not clusters:
                return 0, 0
        step = min(count, clusters * image.cluster - inside)
        links.append(L2Meta(guest - inside, at, clusters, False, inside, inside + step))
        return at + inside, step
