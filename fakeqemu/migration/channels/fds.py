"""Channels that need more than an address: descriptors by name or number, and RDMA.

See migration/fd.c: fd_start_outgoing_migration() and migration_fd_valid(); monitor/fds.c:
monitor_fd_param(); migration/rdma.c: rdma_start_outgoing_migration().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeqemu.migration.channels.address import (
    UNIX_SOCKET_REQUIRED,
    Address,
    requires_unix_socket,
)
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import c_int, digits

if TYPE_CHECKING:
    from fakeqemu.migration.parameters.parameters import Parameters
    from fakeqemu.migration.parameters.settings import MigrationSettings
    from fakeqemu.model.machine import Machine

FILE_REFUSED = "fd: migration to a file is not supported. Use file: instead."
_FILE_WARNING = "warning: fd: migration to a file is deprecated. Use file: instead."


def named_fd_address(
    vm: Machine, parameters: Parameters, monitor: Any, address: Address
) -> Address:
    """The address of an outgoing `fd:NAME`; the monitor must know the name. Raises QapiError."""
    name = address["str"]
    if monitor is None:
        raise QapiError(f"File descriptor named '{name}' has not been found")
    return _checked(vm, parameters, address, vm.named_fds.of(monitor).take(name))


def incoming_fd_address(
    vm: Machine, parameters: Parameters, monitor: Any, address: Address
) -> Address:
    """The address of an incoming `fd:`: a number, or a name the monitor knows. Raises QapiError."""
    name = address["str"]
    if monitor is not None and not name[:1].isdigit():
        return _checked(vm, parameters, address, vm.named_fds.of(monitor).take(name))
    fd = digits(name)
    if fd is None or c_int(fd) != fd:
        raise QapiError(f"Invalid file descriptor number '{name}'")
    return _checked(vm, parameters, address, vm.host.passed_fd(fd))


def rdma_error(vm: Machine, text: str) -> QapiError:
    """A QapiError with `text`; 7.2 also prints what its RDMA code reports, as it stands."""
    if text.startswith("RDMA ERROR") and vm.profile.traits.rdma_prints_errors:
        vm.host.say(text)
    return QapiError(text)


def rdma_refusal(vm: Machine, migration: MigrationSettings) -> QapiError:
    """Why nothing listens on RDMA: migration/rdma.c: rdma_start_incoming_migration()."""
    for name, text in (("xbzrle", "XBZRLE"), ("multifd", "multifd")):
        if migration.capabilities(name):
            return QapiError(f"RDMA and {text} can't be used together")
    return rdma_error(vm, "RDMA ERROR: could not create rdma event channel")


def _checked(vm: Machine, parameters: Parameters, address: Address, fd: int) -> Address:
    """The address with its descriptor as `number`. Raises QapiError for one of a wrong kind."""
    if requires_unix_socket(parameters):
        if not vm.host.is_unix_socket(fd):
            raise QapiError(UNIX_SOCKET_REQUIRED)
    elif vm.host.fd_kind(fd) not in ("socket", "pipe"):
        treatment = vm.profile.traits.fd_to_file
        if treatment == "refuse":
            raise QapiError(FILE_REFUSED)
        if treatment == "warn":
            vm.host.warn(_FILE_WARNING)
    return {**address, "number": fd}
