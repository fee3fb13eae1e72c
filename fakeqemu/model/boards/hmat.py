"""What -numa hmat-lb and hmat-cache say about memory: latencies, bandwidths, caches beside it.

They are of no use but to a guest that reads ACPI's table HMAT. See hw/core/numa.c:
parse_numa_hmat_lb() and parse_numa_hmat_cache().
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fakeqemu.dataclass import dataclass, field
from fakeqemu.qapi.errors import QapiError

_MIB = 1 << 20
#: cache levels, with that of memory itself
_LEVELS = 4
_LARGEST = 0xFFFF
_ENTRY_BITS = 16


@dataclass(slots=True)
class _Table:
    """One kind of data of one level of the hierarchy."""

    #: (initiator, target) pairs that were given
    given: set[tuple[int, int]] = field(default_factory=set)
    #: what entries are multiples of; 0 until the first one
    base: int = 0
    #: latencies: the largest entry; bandwidths: all bits that occur
    range: int = 0


class Hmat:
    """The tables of one machine."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], _Table] = {}
        #: target -> "latency", "bandwidth", as far as given
        self._provided: dict[int, set[str]] = {}
        #: node -> level -> bytes
        self._caches: dict[int, dict[int, int]] = {}

    def set_lb(
        self, options: dict[str, Any], nodes: Collection[int], initiators: Collection[int]
    ) -> None:
        """A NumaHmatLBOptions; `initiators`: nodes with CPUs. Raises QapiError."""
        initiator, target = options["initiator"], options["target"]
        for name in ("initiator", "target"):
            if options[name] > len(nodes):
                raise QapiError(
                    f"Invalid {name}={options[name]}, it should be less than {len(nodes)}"
                )
        if initiator not in initiators:
            raise QapiError(
                f"Invalid initiator={initiator}, it isn't an initiator proximity domain"
            )
        if target not in nodes:
            raise QapiError(f"The target={target} should point to an existing node")
        kind = "latency" if options["data-type"].endswith("latency") else "bandwidth"
        other = "bandwidth" if kind == "latency" else "latency"
        if kind not in options:
            raise QapiError(f"Missing '{kind}' option")
        if other in options:
            raise QapiError(f"Invalid option '{other}' since the data type is {kind}")
        value = options[kind]
        pair = f"initiator={initiator} and target={target}"
        if kind == "bandwidth" and value % _MIB:
            raise QapiError(f"Bandwidth {value} between {pair} should be 1MB aligned")
        key = (options["hierarchy"], options["data-type"])
        table = self._tables.setdefault(key, _Table())
        if (initiator, target) in table.given:
            raise QapiError(f"Duplicate configuration of the {kind} for {pair}")
        if value and kind == "latency":
            _add_latency(table, value, pair)
        elif value:
            _add_bandwidth(table, value, pair)
        if value:
            self._provided.setdefault(target, set()).add(kind)
        table.given.add((initiator, target))

    def set_cache(self, options: dict[str, Any], nodes: Collection[int]) -> None:
        """A NumaHmatCacheOptions. Raises QapiError."""
        node, level, size = options["node-id"], options["level"], options["size"]
        if node >= len(nodes):
            raise QapiError(f"Invalid node-id={node}, it should be less than {len(nodes)}")
        if len(self._provided.get(node, ())) < 2:
            raise QapiError(
                f"The latency and bandwidth information of node-id={node} should be provided "
                "before memory side cache attributes"
            )
        if not 1 <= level < _LEVELS:
            raise QapiError(
                f"Invalid level={level}, it should be larger than 0 and less than or equal to "
                f"{_LEVELS - 1}"
            )
        caches = self._caches.setdefault(node, {})
        if level in caches:
            raise QapiError(
                f"Duplicate configuration of the side cache for node-id={node} and level={level}"
            )
        if level > 1 and level - 1 not in caches:
            raise QapiError(f"Cache level={level - 1} shall be defined first")
        if level > 1 and size <= caches[level - 1]:
            raise QapiError(
                f"Invalid size={size}, the size of level={level} should be larger than the "
                f"size({caches[level - 1]}) of level={level - 1}"
            )
        caches[level] = size


def _add_latency(table: _Table, value: int, pair: str) -> None:
    base, rest = 1, value
    while rest % 10 == 0:
        rest //= 10
        base *= 10
    # the first entry sets the base, and counts for nothing yet
    largest = max(table.range, value // table.base if table.base else 0)
    if largest >= _LARGEST:
        raise QapiError(
            f"Latency {value} between {pair} should not differ from previously entered min or "
            f"max values on more than {_LARGEST - 1}"
        )
    table.base, table.range = min(table.base or base, base), largest


def _add_bandwidth(table: _Table, value: int, pair: str) -> None:
    bits = table.range | value
    base = bits & -bits
    if bits.bit_length() - base.bit_length() + 1 > _ENTRY_BITS or value // base >= _LARGEST:
        raise QapiError(
            f"Bandwidth {value} between {pair} should not differ from previously entered values "
            f"on more than {_LARGEST - 1}"
        )
    table.base, table.range = base, bits
