"""Queries about hardware and features that the model never has: encryption of guest memory,
enclaves, Xen, a replay, a TPM, balloons of other hypervisors.

What QEMU answers without them is recorded, reply or error.

See target/i386/sev-system-stub.c; hw/i386/sgx-stub.c; hw/net/rocker/qmp-norocker.c.
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import command, refused
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError, error_of_class


def recorded(vm: Machine, name: str) -> Any:
    """The recorded reply of query `name`. Raises its recorded error."""
    reply = vm.profile.query(name)
    if "error" in reply:
        raise error_of_class(reply["error"]["class"], reply["error"]["desc"])
    return reply["return"]


def _absent(name: str) -> None:
    @command(name)
    def query(vm: Machine, **_: Any) -> Any:
        return recorded(vm, name)


for _name in (
    "query-sev",
    "query-sev-launch-measure",
    "query-gic-capabilities",
    "query-hv-balloon-status-report",
    "query-xen-replication-status",
    "query-firmware-log",
    "query-s390x-cpu-polarization",
    "query-colo-status",
    "query-replay",
    "query-pr-managers",
    "query-spice",
    "x-query-opcount",
    "x-query-profile",
    "x-query-rdma",
):
    _absent(_name)


@command("query-sgx")
def query_sgx(vm: Machine) -> Any:
    """There are no enclaves, least of all on boards that cannot have them."""
    machine = vm.state.type
    if machine is not None and vm.profile.is_a(machine.typename, "generic-pc-machine"):
        raise QapiError("No EPC regions defined, SGX not available")
    return recorded(vm, "query-sgx")


@command("query-rocker")
def query_rocker(vm: Machine, name: str) -> None:  # noqa: ARG001
    """There is no such switch."""
    raise QapiError(f"rocker {name} not found")


@command("xen-set-global-dirty-log")
def xen_set_global_dirty_log(vm: Machine, enable: bool) -> None:
    """Without Xen it changes nothing."""


refused(
    {
        "xen-event-list": "Xen event channel emulation not enabled",
        "sev-inject-launch-secret": "SEV not enabled for guest",
        "query-sev-attestation-report": "SEV is not enabled",
    }
)
