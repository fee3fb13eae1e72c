"""How long the SMBIOS tables of a board are: an entry point of 32 bits holds 65535 bytes of them.

See hw/smbios/smbios.c: smbios_get_tables(), smbios_validate_table() and smbios_set_defaults();
include/hw/firmware/smbios.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fakeqemu.model.boards.guest_memory import below_4g
from fakeqemu.qapi.errors import StartupError

if TYPE_CHECKING:
    from fakeqemu.model.machine import Machine

_MOST = 0xFFFF
#: bytes of memory in one module
_DIMM = 16 << 30
#: type -> bytes without texts, and the keys of its texts
_PARTS: dict[int, tuple[int, tuple[str, ...]]] = {
    0: (24, ("vendor", "version", "date")),
    1: (27, ("manufacturer", "product", "version", "serial", "sku", "family")),
    2: (15, ("manufacturer", "product", "version", "serial", "asset", "location")),
    3: (22, ("manufacturer", "version", "serial", "asset", "sku")),
    4: (42, ("sock_pfx", "manufacturer", "version", "serial", "asset", "part")),
    16: (23, ()),
    17: (40, ("loc_pfx", "bank", "manufacturer", "serial", "asset", "part")),
    19: (31, ()),
    32: (11, ()),
    127: (4, ()),
}
#: those that are there without being asked for
_ALWAYS = (1, 3, 4, 16, 17, 19, 32, 127)


def check_length(vm: Machine, *, only_files: bool) -> None:
    """Raise StartupError if the tables are too long for the entry point.

    `only_files`: the board makes none by itself.
    """
    entry_point = vm.qom.container("/machine").values.get("smbios-entry-point-type")
    files = [each.values for each in vm.configuration.smbios if "length" in each.values]
    if entry_point != "32" or not files:
        # fields alone are never that long
        return
    length = sum(int(values["length"]) for values in files)
    given = {int(values["type"]) for values in files}
    length += 0 if only_files else sum(_built(vm, given))
    if length > _MOST:
        raise StartupError(f"SMBIOS 2.1 table length {length} exceeds {_MOST}")


def _built(vm: Machine, given: set[int]) -> Iterator[int]:
    fields: dict[int, dict[str, str]] = {}
    for each in vm.configuration.smbios:
        if "length" not in each.values:
            fields.setdefault(int(each.values["type"]), {}).update(each.values)
    machine, size = vm.state.type, vm.state.memory.size
    assert machine is not None
    maker = {"manufacturer": "QEMU", "product": machine.desc, "version": machine.name}
    dimms = max(1, -(-size // _DIMM))
    areas = 1 + (below_4g(vm.state, size) < size)
    for number in sorted({*_ALWAYS, *(fields.keys() & _PARTS.keys())} - given):
        count = {4: vm.cpus.topology.levels["sockets"], 17: dimms, 19: areas}.get(number, 1)
        for index in range(count):
            texts = {**maker, "sock_pfx": "CPU", "loc_pfx": "DIMM"} if number else {}
            yield _structure(number, {**texts, **fields.get(number, {})}, index)


def _structure(number: int, texts: Mapping[str, str], index: int) -> int:
    """Bytes of one: its texts end with a zero each, all of them with one more."""
    fixed, keys = _PARTS[number]
    numbered = {"sock_pfx": f" {index}", "loc_pfx": f" {index}"}
    lengths = [
        len((texts[key] + numbered.get(key, "")).encode()) + 1 for key in keys if texts.get(key)
    ]
    return fixed + (sum(lengths) + 1 if lengths else 2)
