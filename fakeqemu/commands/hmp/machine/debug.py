"""The human monitor's commands for debugging the guest, and QEMU itself.

See monitor/hmp-cmds.c: hmp_gdbserver() and hmp_sync_profile(); monitor/misc.c: hmp_singlestep()
(7.2).
"""

from __future__ import annotations

from fakeqemu.boot import gdbserver as server
from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError

_DEFAULT = "tcp::1234"


@hmp("gdbserver")
def gdbserver(vm: Machine, device: str = _DEFAULT) -> str:
    """Start gdb's server on a device, or close it (`none`)."""
    try:
        server.start(vm, device)
    except server.GdbServerError as error:
        traits = vm.profile.traits
        reason = error.desc
        lines = [form.format(reason, device) for form in traits.hmp_gdbserver_failure]
        return "".join(f"{line}\n" for line in (*error.reports, *lines) if line)
    if device == server.NOTHING:
        return "Disabled gdbserver\n"
    return f"Waiting for gdb connection on device '{device}'\n"


@hmp("singlestep")
def singlestep(vm: Machine, option: str = "on") -> str:
    """Translate one instruction at a time, or not."""
    if option not in ("on", "off"):
        return f"unexpected option {option}\n"
    vm.state.single_step = option == "on"
    return ""


@hmp("sync-profile")
def sync_profile(vm: Machine, op: str | None = None) -> str:
    """Measure how long locks are waited for, or not; there are none here."""
    if op is None:
        return f"sync-profile is {'on' if vm.state.sync_profile else 'off'}\n"
    if op not in ("on", "off", "reset"):
        raise QapiError(vm.profile.traits.hmp_sync_profile_refusal.format(op))
    if op != "reset":
        vm.state.sync_profile = op == "on"
    return ""
