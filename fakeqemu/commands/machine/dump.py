"""Commands of QAPI's dump module. See dump/dump.c: qmp_dump_guest_memory() and qmp_query_dump()."""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.machine.unsupported import recorded
from fakeqemu.commands.registry import command
from fakeqemu.model.machine import Machine

Json = dict[str, Any]


@command("query-dump")
def query_dump(vm: Machine) -> Json:
    """DumpQueryResult."""
    return vm.dump.query()


@command("query-dump-guest-memory-capability")
def query_dump_guest_memory_capability(vm: Machine) -> Json:
    """The formats that were built in."""
    capability: Json = recorded(vm, "query-dump-guest-memory-capability")
    return capability


@command("dump-guest-memory", monitor=True, raw=True)
def dump_guest_memory(vm: Machine, arguments: Json, monitor: Any = None) -> None:
    """Write a dump."""
    vm.dump.start(arguments, monitor)
