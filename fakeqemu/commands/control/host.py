"""Queries about what the program was built with, for which target and on what host.

See hw/core/machine-qmp-cmds.c: qmp_query_target(); chardev/char.c: qmp_query_chardev_backends();
system/tpm.c: qmp_query_tpm_models(); target/i386/sev.c: qmp_query_sev_capabilities();
hw/i386/sgx.c: qmp_query_sgx_capabilities().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.machine.unsupported import recorded
from fakeqemu.commands.registry import command
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import NotModelledError, QapiError

Json = dict[str, Any]


@command("query-target")
def query_target(vm: Machine) -> Json:
    """TargetInfo."""
    target: Json = recorded(vm, "query-target")
    return target


@command("query-chardev-backends")
def query_chardev_backends(vm: Machine) -> list[Json]:
    """The kinds of character devices that were built in, or whose module has been loaded."""
    return [{"name": name} for name in vm.chardevs.backends]


@command("query-tpm-models")
def query_tpm_models(vm: Machine) -> list[str]:
    """The TPM devices that were built in."""
    models: list[str] = recorded(vm, "query-tpm-models")
    return models


@command("query-tpm-types")
def query_tpm_types(vm: Machine) -> list[str]:
    """The TPM backends that were built in."""
    types: list[str] = recorded(vm, "query-tpm-types")
    return types


@command("query-tpm")
def query_tpm(vm: Machine) -> list[Json]:
    """The TPM that a device uses."""
    return vm.tpm.query() if vm.configuration.tpmdevs else recorded(vm, "query-tpm")


@command("query-sev-capabilities")
def query_sev_capabilities(vm: Machine) -> Json:
    """No host here has SEV; KVM says so in other words than the lack of KVM."""
    if vm.state.accelerator == "kvm":
        raise QapiError("SEV is not enabled in KVM")
    capabilities: Json = recorded(vm, "query-sev-capabilities")
    return capabilities


@command("query-sgx-capabilities")
def query_sgx_capabilities(vm: Machine) -> Json:
    """The recorded host has no SGX; neither has this one."""
    capabilities: Json = recorded(vm, "query-sgx-capabilities")
    return capabilities


#: what needs a guest that does something, on the target that has it; see
#: hw/s390x/s390-skeys.c: qmp_dump_skeys()
_WITHOUT_GUEST = {"dump-skeys": "This guest is not using storage keys - nothing to dump"}


def _foreign(name: str) -> None:
    """Register a command of other targets, which a binary for several targets refuses."""

    @command(name)
    def refuse(vm: Machine, **_arguments: Any) -> None:
        text = vm.profile.foreign_commands.get(name)
        if text is None and vm.state.is_a("s390-ccw-machine"):
            text = _WITHOUT_GUEST.get(name)
        if text is None:
            raise NotModelledError(name)
        raise QapiError(text)


for _name in (
    *("dump-skeys", "inject-ghes-v2-error", "set-cpu-topology"),
    *("query-cpu-model-baseline", "query-cpu-model-comparison"),
):
    _foreign(_name)
