"""The human monitor's commands for debugging the guest, and QEMU itself.

See monitor/hmp-cmds.c: hmp_gdbserver() and hmp_sync_profile(); monitor/misc.c: hmp_singlestep()
(7.2).
"""

from __future__ import annotations

from typing import Any

from fakeqemu.boot import gdbserver as server
from fakeqemu.commands.hmp.definitions import HmpTable
from fakeqemu.commands.hmp.registry import hmp
from fakeqemu.model.machine import Machine
from fakeqemu.model.trace import matching
from fakeqemu.qapi.errors import NotModelledError, QapiError

_DEFAULT = "tcp::1234"
#: before the name of a trace event, among the items that are logged
_TRACE = "trace:"
#: the item for a file of each thread
_PER_THREAD = "tid"
_PROFILE_HEAD = "Type               Object  Call site  Wait Time (s)         Count  Average (us)"
_PROFILE_LINE = "-" * len(_PROFILE_HEAD)


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


@hmp("one-insn-per-tb")
def one_insn_per_tb(vm: Machine, option: str = "on") -> str:
    """Translate one instruction at a time, or not. See hmp_one_insn_per_tb()."""
    if vm.state.accelerator != "tcg":
        return "This accelerator does not support setting one-insn-per-tb\n"
    return singlestep(vm, option)


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


@hmp("info sync-profile")
def info_sync_profile(vm: Machine, **_: Any) -> str:
    """The synchronization profile, empty: no thread waits. See util/qsp.c: qsp_report()."""
    if vm.state.sync_profile:
        raise NotModelledError("info sync-profile while it is on")
    return f"{_PROFILE_HEAD}\n{_PROFILE_LINE}\n{_PROFILE_LINE}\n"


@hmp("log")
def log(vm: Machine, items: str) -> str:
    """Choose what is logged of the guest's doings, and so nothing; events of the trace are on.

    See monitor/hmp-cmds.c: hmp_log(); util/log.c: qemu_str_to_log_mask().
    """
    usage = HmpTable.of(vm.profile).log_items
    known = [each.split()[0] for each in usage.splitlines()[1:] if each[:1].strip()]
    chosen = [] if items == "none" else items.split(",")
    said = ""
    for item in chosen:
        if item.startswith(_TRACE) and item != _TRACE:
            pattern = item.removeprefix(_TRACE)
            if "*" not in pattern and not matching(vm.profile, pattern):
                said += f"warning: trace event '{pattern}' does not exist\n"
                continue
            vm.trace_events.set(pattern, True)
        elif item == "none" or (item != "all" and item not in known):
            return usage
    try:
        vm.log.choose(per_thread=_PER_THREAD in chosen or "all" in chosen)
    except QapiError as error:
        said += f"{error.desc}\n"
    return said


@hmp("logfile")
def logfile(vm: Machine, filename: str) -> str:
    """Let the log go to another file. See monitor/hmp-cmds.c: hmp_logfile()."""
    try:
        vm.log.set_file(filename)
    except QapiError as error:
        return f"{error.desc}\n"
    return ""
