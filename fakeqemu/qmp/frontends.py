"""Puts monitors on character devices: the one place that makes them.

See monitor/monitor.c: monitor_init(); monitor/qmp.c: monitor_init_qmp(); monitor/hmp.c:
monitor_init_hmp().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fakeqemu.qmp.dispatch import dispatcher_of

if TYPE_CHECKING:
    from fakeqemu.model.chardev.chardev import Chardev
    from fakeqemu.model.machine import Machine
    from fakeqemu.qmp.hmp.terminal import HmpTerminal
    from fakeqemu.qmp.monitor import QmpMonitor


def make_monitor(
    vm: Machine, chardev: Chardev, *, human: bool, pretty: bool = False, readline: bool = True
) -> QmpMonitor | HmpTerminal:
    """Put a QMP session or an HMP terminal on a chardev.

    Raises QapiError if the chardev is in use.
    """
    if human:
        from fakeqemu.qmp.hmp.terminal import HmpTerminal

        return HmpTerminal(vm, chardev, readline=readline)
    from fakeqemu.qmp.monitor import QmpMonitor

    return QmpMonitor(dispatcher_of(vm), chardev, pretty)
