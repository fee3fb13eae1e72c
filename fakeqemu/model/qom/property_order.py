"""The order in which qom-list shows an object's properties.

QEMU walks the table of the object's own properties and then those of its classes, and puts what it
meets in front of what it has: its classes' properties come first, its own ones behind them from the
end of their table. Where a listing was recorded and names have come or gone since, the recorded one
tells which are the classes'.

See qom/object.c: object_property_iter_next(); qom/qom-qmp-cmds.c: qmp_qom_list().
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from fakeqemu.qapi.qdict import NameTable, in_name_table


def listed(recorded: Sequence[str], names: Collection[str]) -> list[str]:
    """`names`, in order of creation, as qom-list has them; `recorded` is a listing of the kind."""
    if len(recorded) == len(names) and all(name in names for name in recorded):
        return list(recorded)
    of_classes, own = _split(tuple(recorded) or ("type",))
    first = [name for name in of_classes if name in names]
    old = [name for name in own if name in names]
    known = {*first, *old}
    return [*first, *_own(old, (name for name in names if name not in known))]


def walked_as_recorded(recorded: Sequence[str], names: Collection[str]) -> list[str]:
    """`names` in the order of a walk; in what order they were made, only `recorded` tells.

    Those that were recorded stay as they were, others come where a table of all would have them.
    """
    table = NameTable(names)
    known = [name for name in reversed(recorded) if name in names]
    if len(table.slots) != len(NameTable(recorded[1:]).slots):
        return table.walked()
    behind: str | None = None
    for name in reversed(table.walked()):
        if name not in recorded:
            known.insert(len(known) if behind is None else known.index(behind), name)
        behind = name
    return known


def _own(old: Iterable[str], new: Iterable[str] = ()) -> list[str]:
    return in_name_table([*old, *new])[::-1]


@lru_cache(maxsize=512)
def _split(recorded: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A listing's properties of classes, and the object's own in an order that explains it."""
    for begin in range(1, len(recorded)):
        own = recorded[begin:]
        for order in (own, own[::-1], tuple(sorted(own, key=_numbered))):
            if tuple(_own(order)) == own:
                return recorded[:begin], order
    return recorded, ()


def _numbered(name: str) -> tuple[str, int]:
    """Names that differ in their number in its order."""
    kind, _, rest = name.partition("[")
    number = rest.rstrip("]")
    return kind, int(number) if number.isdigit() else 0
