"""The command `migrate`: its checks in QEMU's order, and connecting the main channel.

See migration/migration.c: qmp_migrate() and migrate_prepare(). Since 10.0 addresses and transports
are checked before anything else, up to 7.2 last, when the state is `setup` already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.migration import cpr
from fakeqemu.migration.migrate_checks import (
    NO_PROTOCOL,
    channel_addresses,
    check_cpr_exec,
    check_disks,
    check_migrate,
    old_address,
)
from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.object import MigrationObject
    from fakeqemu.model.machine import Machine


def migrate_away(
    vm: Machine,
    migration: MigrationObject,
    monitor: Any,
    uri: str | None = None,
    channels: list[dict[str, Any]] | None = None,
    *,
    resume: bool = False,
    block: bool = False,
    incremental: bool = False,
) -> None:
    """Start a migration, or with `resume` recover a paused postcopy. Raises QapiError."""
    outgoing = migration.outgoing
    if not outgoing.traits.migration_channels:
        assert uri is not None
        check_migrate(vm, migration, resume=resume)
        if block or incremental:
            check_disks(vm, migration, incremental=incremental)
        if not resume:
            outgoing.begin()
        try:
            address = old_address(vm, uri)
        except QapiError as error:
            # a scheme it does not know is refused without being recorded
            outgoing.refused(error, record=error.desc != NO_PROTOCOL)
            raise
        outgoing.open(monitor, address, resume=resume)
        return
    address, cpr_address = channel_addresses(vm, migration, uri, channels)
    check_migrate(vm, migration, resume=resume)
    cpr.check_channel(migration.mode, cpr_address)
    if migration.mode == cpr.EXEC:
        check_cpr_exec(migration)
    if not resume:
        outgoing.begin()
    elif outgoing.traits.postcopy_recover_setup_state:
        outgoing.state.move("postcopy-recover-setup")
    if migration.mode == cpr.TRANSFER:
        outgoing.open_after_cpr(cpr_address, address)
    else:
        outgoing.open(monitor, address, resume=resume)
