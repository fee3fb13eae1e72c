"""The checks of `migrate` before anything happens, in QEMU's order.

See migration/migration.c: migrate_prepare(), migration_channels_and_transport_compatible() and
migration_is_blocked().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.migration import cpr
from fakeqemu.migration.channels.address import Address, check_transport, parse_uri
from fakeqemu.migration.channels.fds import rdma_error
from fakeqemu.migration.state import RUNNING
from fakeqemu.qapi.errors import NotModelledError, QapiError

if TYPE_CHECKING:
    from fakeqemu.migration.object import MigrationObject
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.machine import Machine

NO_PROTOCOL = "Parameter 'uri' expects a valid migration protocol"

#: URI schemes of an outgoing migration in 7.2
_OLD_SCHEMES = ("tcp", "unix", "vsock", "rdma", "exec", "fd")


def channels_by_type(channels: list[dict[str, Any]]) -> dict[str, Address]:
    """Channel type -> address of a MigrationChannelList. Raises QapiError."""
    by_type: dict[str, Address] = {}
    for channel in channels:
        kind = channel["channel-type"]
        if kind in by_type:
            raise QapiError(f"Channel list has more than one {kind} entry")
        by_type[kind] = channel["addr"]
    if channels and "main" not in by_type:
        raise QapiError("Channel list has no main entry")
    return by_type


def channel_addresses(
    vm: Machine,
    migration: MigrationObject,
    uri: str | None,
    channels: list[dict[str, Any]] | None,
) -> tuple[Address, Address | None]:
    """The main address, and that of the cpr channel if there is one. Raises QapiError."""
    if (uri is None) == (not channels):
        raise QapiError("need either 'uri' or 'channels' argument")
    by_type = channels_by_type(channels or [])
    address = parse_uri(uri, vm.profile.traits) if uri is not None else by_type["main"]
    check_transport(address, migration.capabilities, migration.parameters)
    if uri is None or not vm.profile.traits.cpr_channel_missed_last:
        cpr.check_channel(migration.mode, by_type.get("cpr"))
    return address, by_type.get("cpr")


def old_address(vm: Machine, uri: str) -> Address:
    """The address of a URI where it is judged after the migration began. Raises QapiError."""
    if ":" not in uri or uri.partition(":")[0] not in _OLD_SCHEMES:
        raise QapiError(NO_PROTOCOL)
    try:
        return parse_uri(uri, vm.profile.traits)
    except QapiError as error:
        raise rdma_error(vm, error.desc) from None


def check_migrate(vm: Machine, migration: MigrationObject, *, resume: bool) -> None:
    """Whether the machine may migrate now. Raises QapiError."""
    status = migration.outgoing.status
    if resume:
        if status != "postcopy-paused":
            raise QapiError("Cannot resume if there is no paused migration")
        if migration.capabilities("release-ram"):
            raise QapiError("Postcopy recovery cannot work when release-ram capability is set")
        return
    if status in RUNNING:
        raise QapiError("There's a migration process in progress")
    if vm.runstate.check("inmigrate"):
        raise QapiError("Guest is waiting for an incoming migration")
    if vm.runstate.check("postmigrate"):
        raise QapiError("Can't migrate the vm that was paused due to previous migration")
    migration.blockers.check(migration.mode)
    _check_combinations(migration)


def _check_combinations(migration: MigrationSettings) -> None:
    capabilities, parameters = migration.capabilities, migration.parameters
    if capabilities("mapped-ram"):
        if parameters.get("tls-creds"):
            raise QapiError("Cannot use TLS with mapped-ram")
        if parameters.get("multifd-compression", "none") != "none":
            raise QapiError("Cannot use compression with mapped-ram")
    if migration.mode != "normal":
        for names, what in (
            (("postcopy-ram", "dirty-bitmaps"), "postcopy"),
            (("background-snapshot",), "background snapshot"),
            (("x-colo",), "COLO"),
        ):
            if any(capabilities(name) for name in names):
                raise QapiError(f"Cannot use {what} with CPR")
    if capabilities("x-colo"):
        raise NotModelledError("migrate with capability x-colo")


def check_disks(vm: Machine, migration: MigrationSettings, *, incremental: bool) -> None:
    """Raise QapiError if `blk` or `inc` ask for block migration and it is not possible."""
    if migration.capabilities("block") or (
        incremental and migration.parameters.get("block-incremental")
    ):
        raise QapiError("Command options are incompatible with current migration capabilities")
    if vm.has_block and any(True for _ in vm.block.backends.shown()):
        raise NotModelledError("migrate with disks")


def check_cpr_exec(migration: MigrationSettings) -> None:
    """Raise QapiError unless mode cpr-exec has its command and a usable machine."""
    if not migration.parameters.get("cpr-exec-command"):
        raise QapiError("cpr-exec mode requires setting cpr-exec-command")
