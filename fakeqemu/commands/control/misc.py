"""Commands of QAPI's misc and control modules: descriptors, and a line for the human monitor.

See monitor/qmp-cmds.c: qmp_human_monitor_command(); monitor/fds.c: qmp_getfd() and qmp_add_fd().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.hmp.registry import HmpMonitor, run_hmp
from fakeqemu.commands.registry import command
from fakeqemu.model.machine import Machine
from fakeqemu.qapi import texts
from fakeqemu.qapi.errors import QapiError
from fakeqemu.qapi.readers.scalars import c_int

Json = dict[str, Any]

_NO_FD = "No file descriptor supplied via SCM_RIGHTS"


def _take_fd(monitor: Any) -> int:
    take = getattr(monitor, "take_fd", None)
    fd = take() if take is not None else None
    if fd is None:
        raise QapiError(_NO_FD)
    return int(fd)


@command("getfd", monitor=True)
def getfd(vm: Machine, fdname: str, monitor: Any = None) -> None:
    """Keep the descriptor that came along under a name."""
    fd = _take_fd(monitor)
    try:
        old = vm.named_fds.of(monitor).add(fdname, fd)
    except QapiError:
        vm.host.close_fd(fd)
        raise
    if old is not None:
        vm.host.close_fd(old)


@command("closefd", monitor=True)
def closefd(vm: Machine, fdname: str, monitor: Any = None) -> None:
    """Close a descriptor kept under a name."""
    vm.host.close_fd(vm.named_fds.of(monitor).close(fdname))


@command("add-fd", monitor=True)
def add_fd(
    vm: Machine, fdset_id: int | None = None, opaque: str | None = None, monitor: Any = None
) -> Json:
    """AddfdInfo."""
    fd = _take_fd(monitor)
    try:
        return dict(vm.fdsets.add(fd, fdset_id, opaque))
    except QapiError:
        vm.host.close_fd(fd)
        raise


@command("remove-fd")
def remove_fd(vm: Machine, fdset_id: int, fd: int | None = None) -> None:
    """Take a descriptor, or all, out of a set."""
    vm.fdsets.remove(fdset_id, fd)


@command("query-fdsets")
def query_fdsets(vm: Machine) -> list[Json]:
    """FdsetInfo list."""
    return [
        {
            "fdset-id": fdset.id,
            "fds": [
                {"fd": each.fd, **({} if each.opaque is None else {"opaque": each.opaque})}
                for each in fdset.fds
            ],
        }
        for fdset in vm.fdsets
    ]


@command("human-monitor-command", monitor=True)
def human_monitor_command(
    vm: Machine, command_line: str, cpu_index: int | None = None, monitor: Any = None
) -> str:
    """What a human monitor prints for the line, its errors included."""
    human = HmpMonitor(monitor)
    if cpu_index is not None:
        if c_int(cpu_index) not in vm.cpus:
            raise QapiError(texts.parameter_expects("cpu-index", "a CPU number"))
        human.cpu_index = c_int(cpu_index)
    return run_hmp(vm, human, command_line).replace("\n", "\r\n")
