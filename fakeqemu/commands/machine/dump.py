"""Commands of QAPI's dump module. See dump/dump.c: qmp_dump_guest_memory() and qmp_query_dump()."""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.machine.unsupported import recorded
from fakeqemu.commands.registry import actions, command, commands
from fakeqemu.model.machine import Machine

Json = dict[str, Any]


@command("query-dump-guest-memory-capability")
def query_dump_guest_memory_capability(vm: Machine) -> Json:
    """The formats that were built in."""
    capability: Json = recorded(vm, "query-dump-guest-memory-capability")
    return capability


actions(
    {
        "dump-guest-memory": lambda vm, arguments, monitor=None: vm.dump.start(arguments, monitor),
    },
    monitor=True,
    raw=True,
)

commands({"query-dump": lambda vm: vm.dump.query()})
