"""Options of a composed version, of which libvirt's probe says little.

What has a group in `query-command-line-options` is there exactly if the group is. Of the others the
releases tell, as far as they changed between recorded versions; see qemu-options.hx there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

#: option -> the first release that has it, and the first that has it no more
_CAME = {"audio": (7, 1), "async-teardown": (7, 2), "shim": (10, 0)}
_WENT = {"audio-help": (8, 2), "portrait": (9, 2), "rotate": (9, 2), "runas": (10, 0)}

#: as in part `options`: its name first
Row = list[Any]


def options(
    nearest: Collection[Row],
    others: Iterable[Row],
    had: set[str],
    has: set[str],
    release: tuple[int, int],
) -> list[Row]:
    """The options of `release`, major and minor, sorted.

    `had` and `has`: the groups of the nearest recorded version, and of this one.
    """

    def there(name: str) -> bool:
        if name in had | has:
            return name in has
        return _CAME.get(name, release) <= release < _WENT.get(name, (release[0] + 1,))

    found = {row[0]: row for row in nearest}
    for row in others:
        # a group's name is mostly that of its option
        if row[0] in _WENT or row[0] in has - had:
            found.setdefault(row[0], row)
    return sorted(row for name, row in found.items() if there(name))
