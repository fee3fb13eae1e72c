"""The human monitor about what the model never has: a replay, enclaves, recorded sound.

See replay/replay-debugging.c: hmp_info_replay(); hw/i386/sgx.c: hmp_info_sgx();
target/i386/sev.c: hmp_info_sev(); stats/stats-hmp-cmds.c: hmp_info_stats();
audio/audio-hmp-cmds.c: hmp_info_capture().
"""

from __future__ import annotations

from typing import Any, NoReturn

from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.commands.machine import unsupported, virtio
from fakeqemu.commands.registry import COMMANDS
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import NotModelledError, QapiError


def _as_error(name: str, qmp: str) -> None:
    """`name` prints the error of command `qmp`, which always has one, without a word before."""

    @hmp(name)
    def show(vm: Machine, **arguments: Any) -> str:
        return error_of(vm, qmp, arguments)


def error_of(vm: Machine, qmp: str, arguments: dict[str, Any]) -> str:
    """What a QMP command refuses with, as a line."""
    function = COMMANDS[qmp].function
    assert function is not None
    try:
        function(vm, **arguments)
    except NotModelledError:
        raise
    except QapiError as error:
        return f"{error.desc}\n"
    raise NotModelledError(qmp)


_as_error("info sgx", "query-sgx")
for _name in ("break", "delete-break", "seek"):
    _as_error(f"replay_{_name.replace('-', '_')}", f"replay-{_name}")


def _recorded_text(name: str, qmp: str) -> None:
    @hmp(name)
    def show(vm: Machine) -> str:
        text: str = unsupported.recorded(vm, qmp)["human-readable-text"]
        return text


_recorded_text("info opcount", "x-query-opcount")
_recorded_text("info rdma", "x-query-rdma")


@hmp("info replay")
def info_replay(vm: Machine) -> str:
    """Whether something is recorded or replayed."""
    if unsupported.recorded(vm, "query-replay")["mode"] != "none":
        raise NotModelledError("info replay")
    return "Record/replay is not active\n"


@hmp("info sev")
def info_sev(vm: Machine) -> str:
    """Whether the guest's memory is encrypted."""
    if unsupported.recorded(vm, "query-sev")["enabled"]:
        raise NotModelledError("info sev")
    return "SEV is not enabled\n"


@hmp("info firmware-log")
def info_firmware_log(vm: Machine, **_: Any) -> NoReturn:
    """What firmware has logged: there is no buffer, as none runs."""
    unsupported.recorded(vm, "query-firmware-log")
    raise NotModelledError("info firmware-log")


@hmp("info via")
def info_via(vm: Machine) -> str:  # noqa: ARG001
    """A chip of other boards."""
    return "MOS6522 VIA is not available in this QEMU\n"


@hmp("info capture")
def info_capture(vm: Machine) -> str:
    """Sound that is recorded: `wavcapture` is not modelled."""
    return vm.profile.traits.hmp_capture_warning.format("info capture")


@hmp("stopcapture")
def stopcapture(vm: Machine, n: int) -> str:  # noqa: ARG001
    """Stop recording; there is none of that number, and QEMU does not say so."""
    return vm.profile.traits.hmp_capture_warning.format("stopcapture")


@hmp("info stats")
def info_stats(
    vm: Machine, target: str, names: str | None = None, provider: str | None = None
) -> str:
    """Statistics: KVM has them, and devices that the model lacks."""
    for what, text in (("target", target), ("provider", provider)):
        known = vm.profile.schema.enum_values(f"Stats{what.capitalize()}")
        if text is not None and text not in known:
            return f"invalid stats {what} {text}\n"
    if virtio.query_stats(vm, target):
        raise NotModelledError(f"info stats of {names or 'all'}")
    return ""
