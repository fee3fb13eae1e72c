"""Migration of dirty bitmaps (capability dirty-bitmaps): which ones, their records, loading.

The block layer keeps a bitmap as intervals of dirty grains; the stream has words of bits. A disk
may be huge and hardly written to, so stretches without a dirty grain are one record, whatever their
length.

See migration/block-dirty-bitmap.c: init_dirty_bitmap_migration(), dirty_bitmap_save_iterate() and
dirty_bitmap_load().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fakeqemu.dataclass import dataclass
from fakeqemu.formats.intervals import Intervals
from fakeqemu.formats.migration_stream.dirty_bitmaps import (
    ALIGNMENT,
    SECTOR,
    Flag,
    RecordWriter,
    StartFlag,
    grains_per_record,
    longest_run,
)
from fakeqemu.formats.migration_stream.errors import EINVAL, LoadError
from fakeqemu.model.block.graph import dirty_bitmaps as bitmaps
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.json.utf8 import c_bytes

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.block.graph.bitmap import Bitmap
    from fakeqemu.model.block.graph.node import Node
    from fakeqemu.model.machine import Machine

#: longest alias, in bytes
_LONGEST_ALIAS = 255

Mapping = list[dict[str, Any]]


def mapping_of(migration: MigrationSettings) -> Mapping | None:
    """The parameter block-bitmap-mapping; None if it was never set."""
    mapping: Mapping | None = migration.parameters.get("block-bitmap-mapping")
    return mapping


# -- the source ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A bitmap of the source that is being sent."""

    bitmap: Bitmap
    #: aliases of node and bitmap
    names: tuple[str, str]
    #: StartFlag of it
    flags: int

    @property
    def place(self) -> tuple[object, object]:
        """Node and bitmap name: the key by which bitmaps are unique."""
        return self.bitmap.node, self.bitmap


class OutgoingBitmaps:
    """The bitmaps of one outgoing migration, in use until `release`."""

    def __init__(self, vm: Machine, mapping: Mapping | None) -> None:
        """Choose the bitmaps and mark them busy.

        Raises QapiError for one that cannot be migrated; then none is busy.
        """
        self._records = RecordWriter()
        self._all: list[_Leaving] = []
        try:
            for node, name in _nodes(vm, use_backends=mapping is None):
                self._add(node, name, mapping)
        except QapiError:
            self.release()
            raise
        for each in self._all:
            each.bitmap.skip_store = True

    def __bool__(self) -> bool:
        return bool(self._all)

    def _add(self, node: Node, name: str, mapping: Mapping | None) -> None:
        named = [bitmap for bitmap in node.bitmaps if bitmap.name is not None]
        if not named:
            return
        alias, entries = name, None
        if mapping is not None:
            found = next((each for each in mapping if each["node-name"] == name), None)
            if found is None:
                return
            alias = found["alias"]
            entries = {each["name"]: each for each in found["bitmaps"]}
        if alias.startswith("#"):
            raise QapiError(
                f"Bitmap '{named[0].name}' in a node with auto-generated name '{alias}'"
                " can't be migrated"
            )
        for bitmap in named:
            self._add_one(bitmap, name, alias, entries)

    def _add_one(
        self, bitmap: Bitmap, node_name: str, node_alias: str, entries: dict[str, Any] | None
    ) -> None:
        bitmap.check()
        assert bitmap.name is not None
        alias, persistent = bitmap.name, bitmap.persistent
        if entries is not None:
            if bitmap.name not in entries:
                return
            entry = entries[bitmap.name]
            alias = entry["alias"]
            persistent = entry.get("transform", {}).get("persistent", persistent)
        elif len(c_bytes(alias)) > _LONGEST_ALIAS:
            raise QapiError(
                f"Cannot migrate bitmap '{alias}' on node '{node_name}':"
                f" Name is longer than {_LONGEST_ALIAS} bytes"
            )
        flags = StartFlag.ENABLED if bitmap.enabled else 0
        flags |= StartFlag.PERSISTENT if persistent else 0
        bitmap.busy = True
        self._all.append(_Leaving(bitmap, (node_alias, alias), int(flags)))

    @property
    def pending(self) -> int:
        """Bytes still to send by QEMU's estimate: one byte per grain."""
        return sum(-(-each.bitmap.size // each.bitmap.granularity) for each in self._all)

    def start(self) -> bytes:
        """Bytes of the records that begin each bitmap, with its granularity and flags."""
        return self._part(
            self._records.start(each.place, each.names, each.bitmap.granularity, each.flags)
            for each in self._all
        )

    def finish(self) -> bytes:
        """Bytes of all bits and of the records that complete each bitmap; bitmaps are released."""
        data = self._part(
            (
                *(piece for each in self._all for piece in self._bits(each)),
                *(self._records.complete(each.place, each.names) for each in self._all),
            )
        )
        self.release()
        return data

    def release(self) -> None:
        """Mark the bitmaps as no longer busy."""
        for each in self._all:
            each.bitmap.busy = False
        self._all = []

    def _part(self, records: Iterator[bytes] | tuple[bytes, ...]) -> bytes:
        return b"".join(records) + self._records.end()

    def _bits(self, each: _Leaving) -> Iterator[bytes]:
        bitmap = each.bitmap
        step = grains_per_record(bitmap.granularity)
        end = -(-bitmap.size // bitmap.granularity)
        dirty = bitmap.copy_bits()
        at = 0
        for index in dirty.units(step):
            yield from self._zeros(each, at, index * step)
            at = min((index + 1) * step, end)
            bits = dirty.to_bits(index * step, -(-(at - index * step) // 64) * 8)
            yield self._piece(each, index * step, at, bits)
        yield from self._zeros(each, at, end)

    def _zeros(self, each: _Leaving, at: int, end: int) -> Iterator[bytes]:
        longest = longest_run(each.bitmap.granularity)
        while at < end:
            upto = min(at + longest, end)
            yield self._piece(each, at, upto, None)
            at = upto

    def _piece(self, each: _Leaving, first: int, end: int, data: bytes | None) -> bytes:
        sectors = each.bitmap.granularity // SECTOR
        last = min(end * sectors, -(-each.bitmap.size // SECTOR))
        begin = first * sectors
        return self._records.bits(each.place, each.names, begin, last - begin, data)


def _nodes(vm: Machine, *, use_backends: bool) -> Iterator[tuple[Node, str]]:
    """Pairs of node and name to send: the BlockBackend's name where a device uses the node."""
    if not vm.has_block:
        return
    seen: list[Node] = []
    if use_backends:
        for name, backend in vm.block.backends.named.items():
            node = backend.node
            while node is not None and node.driver.is_filter and not _has_named(node):
                node = edge.node if (edge := node.filtered_edge) is not None else None
            if node is not None and not node.driver.is_filter:
                seen.append(node)
                yield node, name
    for node in vm.block.graph.nodes.values():
        if not any(node is each for each in seen):
            yield node, node.name


def _has_named(node: Node) -> bool:
    return any(bitmap.name is not None for bitmap in node.bitmaps)


# -- the destination -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Coming:
    """A bitmap of the destination that is being loaded."""

    bitmap: Bitmap
    #: the bitmap records the guest's writes once the guest runs
    enabled: bool
    whole: bool = False


class IncomingBitmaps:
    """The bitmaps of one incoming migration; a `formats.migration_stream.dirty_bitmaps.Sink`.

    Most errors in them cancel the bitmaps only: the rest of the migration continues.
    """

    def __init__(self, vm: Machine, mapping: Callable[[], Mapping | None]) -> None:
        self._vm = vm
        self._mapping = mapping
        self._cancelled = False
        self._guest_runs = False
        self._node_alias = ""
        self._node: Node | None = None
        #: aliases of the node's bitmaps, from block-bitmap-mapping; None without a mapping
        self._entries: dict[str, Any] | None = None
        #: entry of the mapping for the current bitmap
        self._entry: dict[str, Any] = {}
        self._name = ""
        self._bitmap: Bitmap | None = None
        self._coming: list[_Coming] = []

    # -- what the stream says ----------------------------------------------------------------

    def names(
        self, flags: Flag, node: str | None, bitmap: str | None, report: Callable[[str], None]
    ) -> None:
        """See `Sink`."""
        nothing = not flags & ~int(Flag.EOS)
        if node is not None:
            self._node_alias = node
            if not self._cancelled:
                try:
                    self._node = self._find_node()
                except QapiError as error:
                    self._refuse(error.desc, report)
        elif self._node is None and not nothing:
            self._refuse("Error: block device name is not set", report)
        if bitmap is not None:
            self._choose(bitmap, flags, report)
        elif self._bitmap is None and not nothing:
            self._refuse("Error: block device name is not set", report)

    def start(self, granularity: int, flags: int) -> None:
        """See `Sink`."""
        if self._cancelled:
            return
        assert self._node is not None
        if self._bitmap is not None:
            raise _fatal(
                f"Bitmap with the same name ('{self._bitmap.name}') already exists on destination"
            )
        if granularity < SECTOR or granularity & granularity - 1:
            # QEMU asserts that it is none of these
            raise _fatal("Granularity must be power of 2 and at least 512")
        try:
            made = bitmaps.create(self._node, self._name, granularity)
        except QapiError as error:
            raise _fatal(error.desc) from None
        self._bitmap = made
        if flags & ~int(StartFlag.ENABLED | StartFlag.PERSISTENT | StartFlag.AUTOLOAD):
            raise _fatal(f"Unknown flags in migrated dirty bitmap header: {flags:x}")
        persistent = bool(flags & StartFlag.PERSISTENT)
        made.persistent = self._entry.get("transform", {}).get("persistent", persistent)
        made.enabled, made.busy = False, True
        self._coming.append(_Coming(made, bool(flags & StartFlag.ENABLED)))

    def bits(
        self, first: int, count: int, data: bytes | None, report: Callable[[str], None]
    ) -> None:
        """See `Sink`."""
        if self._cancelled:
            return
        bitmap = self._bitmap
        assert bitmap is not None
        begin, size = first * SECTOR, count * SECTOR
        grain, beyond = divmod(begin, bitmap.granularity * 64)
        if beyond or begin >= max(1, bitmap.size) or begin + size > bitmap.size + SECTOR:
            # QEMU asserts that there are such bits
            raise _fatal(f"Bits beyond the end of bitmap '{bitmap.name}'")
        if data is None:
            return
        words = -(-size // (bitmap.granularity * 64))
        needed = words * 8
        if not needed <= len(data) <= -(-needed // ALIGNMENT) * ALIGNMENT:
            self._refuse(
                "Migrated bitmap granularity doesn't match the destination bitmap"
                f" '{bitmap.name}' granularity",
                report,
            )
            return
        self._put(bitmap, grain * 64, data[:needed])

    @staticmethod
    def _put(bitmap: Bitmap, at: int, data: bytes) -> None:
        dirty = Intervals()
        dirty.append_bits(at, data)
        dirty.clip(-(-bitmap.size // bitmap.granularity))
        bitmap.add_grains(dirty)

    def complete(self) -> None:
        """See `Sink`."""
        if self._cancelled or self._bitmap is None:
            return
        self._bitmap.busy = False
        for each in self._coming:
            if each.bitmap is self._bitmap:
                each.whole = True
        if self._guest_runs:
            self._coming = [each for each in self._coming if not each.whole]

    def cancel(self) -> None:
        """See `Sink`."""
        if self._cancelled:
            return
        self._cancelled = True
        self._node = self._bitmap = None
        for each in self._coming:
            bitmaps.remove(each.bitmap)
        self._coming = []

    # -- the machine -------------------------------------------------------------------------

    def before_guest_runs(self) -> None:
        """Enable recording of the guest's writes, also in bitmaps that are not complete yet."""
        self._guest_runs = True
        for each in self._coming:
            each.bitmap.enabled = each.enabled
        self._coming = [each for each in self._coming if not each.whole]

    # -- inside ------------------------------------------------------------------------------

    def _find_node(self) -> Node:
        graph, mapping = self._vm.block.graph, self._mapping()
        if mapping is None:
            self._entries = None
            return graph.lookup(self._node_alias, self._node_alias)
        found = next((each for each in mapping if each["alias"] == self._node_alias), None)
        if found is None:
            raise QapiError(f"Error: Unknown node alias '{self._node_alias}'")
        self._entries = {each["alias"]: each for each in found["bitmaps"]}
        return graph.lookup(None, found["node-name"])

    def _choose(self, alias: str, flags: Flag, report: Callable[[str], None]) -> None:
        if self._cancelled:
            return
        assert self._node is not None
        self._name, self._entry = alias, {}
        if self._entries is not None:
            if alias not in self._entries:
                self._refuse(
                    f"Error: Unknown bitmap alias '{alias}' on node '{self._node.name}'"
                    f" (alias '{self._node_alias}')",
                    report,
                )
                return
            self._entry = self._entries[alias]
            self._name = self._entry["name"]
        self._bitmap = bitmaps.find_on(self._node, self._name)
        if self._bitmap is None and not flags & Flag.START:
            self._refuse(
                f"Error: unknown dirty bitmap '{self._name}' for block device '{self._node.name}'",
                report,
            )

    def _refuse(self, text: str, report: Callable[[str], None]) -> None:
        if not self._cancelled:
            report(text)
            self.cancel()


def _fatal(text: str) -> LoadError:
    return LoadError(EINVAL, reports=(text,))
