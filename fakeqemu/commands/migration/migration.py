"""Commands of QAPI's migration module.

See qapi/migration.json; migration/migration.c: qmp_migrate() and qmp_migrate_incoming();
migration/options.c: qmp_migrate_set_parameters().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import actions, command, commands, refused
from fakeqemu.migration.info import migration_info
from fakeqemu.migration.object import MigrationObject, check_local, current_migration
from fakeqemu.migration.parameters import schema_info as schemainfo
from fakeqemu.migration.parameters.early import EarlyParameters
from fakeqemu.migration.parameters.parameters import Layer
from fakeqemu.migration.parameters.reader import ParameterReader
from fakeqemu.migration.proposed import inline
from fakeqemu.migration.proposed.prepared import PREPARED
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError


def migration_of(vm: Machine) -> MigrationObject:
    """The machine's migration object, which every command here needs."""
    migration = current_migration(vm)
    if migration is None:
        raise RuntimeError("a migration command ran before the migration object was made")
    return migration


# -- parameters and capabilities -----------------------------------------------------------------


@command("migrate-set-parameters")
def migrate_set_parameters(vm: Machine, **arguments: Any) -> None:
    """Change parameters, all or none."""
    types = schemainfo.parameter_types(vm.profile)
    members = {name.replace("-", "_"): name for name in types}
    changes = {members[key]: value for key, value in arguments.items()}
    if (early := _early_parameters(vm)) is not None:
        check_local(vm, changes)
        early.add_config(changes, Layer.QMP)
        return
    migration_of(vm).set_parameters(changes)


def _early_parameters(vm: Machine) -> EarlyParameters | None:
    """What is kept for the migration object, where QMP comes before it; None once it is there."""
    reader = vm.migration.parameters
    if vm.migration.object is None and isinstance(reader, ParameterReader):
        return reader.early
    return None


@command("query-migrate-parameters")
def query_migrate_parameters(vm: Machine) -> dict[str, Any]:
    """MigrationParameters."""
    if (early := _early_parameters(vm)) is not None:
        return early.values()
    return migration_of(vm).query_parameters()


@command("migrate-set-capabilities")
def migrate_set_capabilities(vm: Machine, capabilities: list[dict[str, Any]]) -> None:
    """Switch capabilities, all or none."""
    migration_of(vm).set_capabilities(capabilities)


@command("query-migrate-capabilities")
def query_migrate_capabilities(vm: Machine) -> list[dict[str, Any]]:
    """Every capability and its state."""
    return migration_of(vm).capabilities.reply()


# -- migrating -----------------------------------------------------------------------------------


@command("query-migrate")
def query_migrate(vm: Machine) -> dict[str, Any]:
    """MigrationInfo of both sides."""
    migration = migration_of(vm)
    if migration.has("outgoing"):
        migration.outgoing.settle()
    return migration_info(vm.profile, migration)


@command("migrate", monitor=True)
def migrate(
    vm: Machine,
    monitor: Any,
    uri: str | None = None,
    channels: list[dict[str, Any]] | None = None,
    *,
    detach: bool = False,  # noqa: ARG001 - accepted and ignored, as always
    resume: bool = False,
    blk: bool = False,
    inc: bool = False,
    config: dict[str, Any] | None = None,
    capabilities: list[dict[str, Any]] | None = None,
) -> None:
    """Migrate away."""
    migration = migration_of(vm)
    if resume and (config is not None or capabilities is not None):
        raise QapiError("'config' and 'capabilities' cannot be given with 'resume'")
    migration.prepared.check_free(PREPARED)
    from fakeqemu.migration.migrate import migrate_away

    def start() -> None:
        migrate_away(
            vm, migration, monitor, uri, channels, resume=resume, block=blk, incremental=inc
        )

    inline.start_with(migration, config, capabilities, start)


@command("migrate-incoming", monitor=True)
def migrate_incoming(
    vm: Machine,
    monitor: Any,
    uri: str | None = None,
    channels: list[dict[str, Any]] | None = None,
    *,
    exit_on_error: bool | None = None,
    config: dict[str, Any] | None = None,
    capabilities: list[dict[str, Any]] | None = None,
) -> None:
    """Start the incoming migration that `-incoming defer` put off."""
    migration = migration_of(vm)
    migration.prepared.check_free(PREPARED)
    # -migrate-incoming may have said it without an address
    option = vm.configuration.main_incoming
    exits = (option is None or option.exit_on_error) if exit_on_error is None else exit_on_error

    def start() -> None:
        if not migration.incoming.started and vm.runstate.check("inmigrate"):
            vm.taps.check_before_incoming(bool(migration.parameters.get("local", False)))
        migration.incoming.start(monitor, uri, channels, exit_on_error=exits)

    if migration.incoming.started:
        start()  # which refuses: the values are not for the migration under way
    inline.start_with(migration, config, capabilities, start)


@command("migrate_cancel")
def migrate_cancel(vm: Machine) -> None:
    """Call the outgoing migration off, or one that is only prepared."""
    migration = migration_of(vm)
    if not migration.prepared.cancel():
        migration.outgoing.cancel()


@command("migrate_prepare")
def migrate_prepare(vm: Machine, **arguments: Any) -> None:
    """Set what a migration needs, all at once, and fix it; see the proposal prepare-run."""
    migration_of(vm).prepared.prepare(**arguments)


@command("migrate_run", monitor=True)
def migrate_run(
    vm: Machine,
    monitor: Any,
    uri: str | None = None,
    channels: list[dict[str, Any]] | None = None,
) -> None:
    """Start the migration that was prepared."""
    migration_of(vm).prepared.run(monitor, uri, channels)


@command("migrate-continue")
def migrate_continue(vm: Machine, state: str) -> None:
    """Go on from pre-switchover."""
    migration_of(vm).outgoing.continue_(state)


@command("migrate-pause")
def migrate_pause(vm: Machine) -> None:
    """Break a postcopy migration so that it can be recovered."""
    migration = migration_of(vm)
    paused = migration.outgoing.pause()
    if not (migration.incoming.pause() or paused):
        raise QapiError(vm.profile.traits.migrate_pause_refusal)


@command("migrate-recover", monitor=True)
def migrate_recover(vm: Machine, monitor: Any, uri: str) -> None:
    """Give a paused postcopy destination a new channel."""
    migration_of(vm).incoming.recover(monitor, uri)


@command("announce-self")
def announce_self(vm: Machine, **arguments: Any) -> None:
    """Let NICs announce their addresses."""
    vm.net.announce(arguments)
    vm.journal.note("announce-self", str(arguments.get("id", "")), **arguments)


# -- COLO ----------------------------------------------------------------------------------------


actions({"migrate-start-postcopy": lambda vm: migration_of(vm).outgoing.start_postcopy()})

commands({"query-migrationthreads": lambda vm: migration_of(vm).outgoing.threads()})

refused({"x-colo-lost-heartbeat": lambda traits: traits.colo_refusal})
