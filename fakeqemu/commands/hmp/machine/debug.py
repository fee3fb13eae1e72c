"""The human monitor's door for a debugger. See monitor/hmp-cmds.c: hmp_gdbserver()."""

from __future__ import annotations

from fakeqemu.boot import gdbserver as server
from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model.machine import Machine

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
