"""The human monitor's migration commands, on top of what QMP calls.

See migration/migration-hmp-cmds.c: hmp_migrate(), hmp_migrate_set_parameter() and
hmp_migrate_set_capability().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.hmp.migration import info_migrate as migration_format
from fakeqemu.commands.hmp.registry import HmpMonitor, hmp
from fakeqemu.commands.migration import migration as qmp
from fakeqemu.migration.channels.address import parse_uri
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import parse_size
from fakeqemu.qapi.readers.shell_words import split_words
from fakeqemu.qapi.readers.string_input import parse_string
from fakeqemu.qapi.schema import AlternateType, ArrayType, BuiltinType, EnumType

_INT64_MAX = (1 << 63) - 1

#: a number without a unit is in MiB for these
_MIB_PARAMETERS = frozenset({"max-bandwidth", "avail-switchover-bandwidth"})


# -- setting -------------------------------------------------------------------------------------


@hmp("migrate_set_parameter")
def migrate_set_parameter(vm: Machine, parameter: str, value: str) -> None:
    """Set one parameter from text."""
    migration = qmp.migration_of(vm)
    if parameter not in migration.types:
        raise QapiError(f"invalid parameter value: {parameter}")
    migration.set_parameters({parameter: _value(vm, parameter, value)})


def _value(vm: Machine, name: str, text: str) -> Any:
    type = qmp.migration_of(vm).types[name]
    traits = vm.profile.traits
    if name in _MIB_PARAMETERS:
        try:
            size = parse_size(text, traits, "m")
        except ValueError:
            size = _INT64_MAX + 1
        if size > _INT64_MAX:
            raise QapiError(f"Invalid size {text}")
        return size
    if isinstance(type, ArrayType):
        if not isinstance(type.element, BuiltinType):
            raise QapiError(f"The {name} parameter can only be set through QMP")
        return split_words(text)
    if isinstance(type, EnumType):
        return parse_string(type.name, text, name, traits, type.values)
    if isinstance(type, AlternateType):
        return text
    assert isinstance(type, BuiltinType)
    kind = {"uint64": "size"}.get(type.name, type.name)
    value = parse_string(kind, text, name, traits)
    if name == "xbzrle-cache-size" and value > _INT64_MAX:
        raise QapiError(f"Invalid size {text}")
    return value


@hmp("migrate_set_capability")
def migrate_set_capability(vm: Machine, capability: str, state: bool) -> None:
    """Switch one capability."""
    migration = qmp.migration_of(vm)
    if capability not in migration.capabilities.names:
        raise QapiError(f"invalid parameter value: {capability}")
    migration.set_capabilities([{"capability": capability, "state": state}])


# -- migrating -----------------------------------------------------------------------------------


@hmp("migrate", monitor=True)
def migrate(
    vm: Machine,
    monitor: HmpMonitor,
    uri: str,
    *,
    detach: bool = False,
    resume: bool = False,
    blk: bool = False,
    inc: bool = False,
) -> str:
    """Migrate; over QMP always in the background."""
    qmp.migrate(vm, monitor.outer or monitor, uri, resume=resume, blk=blk, inc=inc)
    if detach or vm.profile.traits.hmp_info_migrate_grouped:
        return ""
    return "terminal does not allow synchronous migration, continuing detached\n"


@hmp("migrate_incoming", monitor=True)
def migrate_incoming(vm: Machine, monitor: HmpMonitor, uri: str) -> None:
    """Start the incoming migration."""
    if vm.profile.traits.migration_channels:
        # the address is judged before anything else
        address = parse_uri(uri, vm.profile.traits)
        channel = {"channel-type": "main", "addr": address}
        qmp.migrate_incoming(vm, monitor.outer or monitor, channels=[channel])
        return
    qmp.migrate_incoming(vm, monitor.outer or monitor, uri)


@hmp("migrate_cancel")
def migrate_cancel(vm: Machine) -> None:
    """Call the migration off; a refusal is not shown."""
    try:
        qmp.migrate_cancel(vm)
    except QapiError:
        return


@hmp("migrate_continue")
def migrate_continue(vm: Machine, state: str) -> None:
    """Go on from pre-switchover."""
    if state not in schemainfo.statuses(vm.profile):
        raise QapiError(f"invalid parameter value: {state}")
    qmp.migrate_continue(vm, state)


@hmp("migrate_recover", monitor=True)
def migrate_recover(vm: Machine, monitor: HmpMonitor, uri: str) -> None:
    """Give a paused destination a new channel."""
    qmp.migrate_recover(vm, monitor.outer or monitor, uri)


@hmp("announce_self")
def announce_self(vm: Machine, interfaces: str = "", id: str = "") -> None:
    """Announce network devices with the parameters in force."""
    parameters = qmp.migration_of(vm).parameters
    arguments: dict[str, Any] = {
        name: parameters[f"announce-{name}"] for name in ("initial", "max", "rounds", "step")
    }
    if interfaces:
        arguments["interfaces"] = interfaces.split(",")
    if id:
        arguments["id"] = id
    qmp.announce_self(vm, **arguments)


# -- showing -------------------------------------------------------------------------------------


@hmp("info migrate_capabilities")
def info_migrate_capabilities(vm: Machine) -> str:
    """Every capability and its state."""
    return "".join(
        f"{each['capability']}: {'on' if each['state'] else 'off'}\n"
        for each in qmp.query_migrate_capabilities(vm)
    )


@hmp("info migrate_parameters")
def info_migrate_parameters(vm: Machine) -> str:
    """Every parameter that the monitor knows how to print."""
    shown = qmp.query_migrate_parameters(vm)
    states = [n for n in qmp.migration_of(vm).capabilities.names if n in shown]
    return migration_format.parameters(vm.profile.traits, shown, states)


@hmp("info migrate")
def info_migrate(vm: Machine, all: bool = False) -> str:
    """Status of both sides."""
    info = qmp.query_migrate(vm)
    globals = qmp.migration_of(vm).globals()
    if vm.profile.traits.hmp_info_migrate_grouped:
        return migration_format.grouped_info(info, globals, all=all)
    return migration_format.plain_info(info, globals)
