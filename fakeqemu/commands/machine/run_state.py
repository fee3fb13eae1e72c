"""Commands of QAPI's run-state module and those of misc that control running.

See system/runstate.c: qmp_query_status(); monitor/qmp-cmds.c: qmp_cont() and qmp_quit();
system/runstate-action.c: qmp_set_action(); system/vl.c: qmp_x_exit_preconfig(); system/cpus.c:
qmp_inject_nmi().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import actions, command, commands
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError


@command("query-status")
def query_status(vm: Machine) -> dict[str, Any]:
    """StatusInfo."""
    status: dict[str, Any] = {"running": vm.runstate.running}
    if vm.profile.traits.status_singlestep:
        status["singlestep"] = vm.state.single_step
    return {**status, "status": vm.runstate.current}


@command("system_wakeup")
def system_wakeup(vm: Machine) -> None:
    """Wake a guest that sleeps."""
    if not vm.lifecycle.wakeup_support:
        raise QapiError("wake-up from suspend is not supported by this guest")
    vm.lifecycle.wakeup()


@command("set-action")
def set_action(
    vm: Machine,
    reboot: str | None = None,
    shutdown: str | None = None,
    panic: str | None = None,
    watchdog: str | None = None,
) -> None:
    """Say what happens on reboot, shutdown, panic and watchdog."""
    vm.lifecycle.set_action(reboot=reboot, panic=panic, watchdog=watchdog, shutdown=shutdown)


@command("x-exit-preconfig")
def x_exit_preconfig(vm: Machine) -> None:
    """Let a boot that waits in preconfig go on."""
    if not vm.preconfig or vm.exit_preconfig is None:
        raise QapiError("The command is permitted only before machine initialization")
    vm.exit_preconfig()


@command("inject-nmi")
def inject_nmi(vm: Machine) -> None:
    """Give the guest a non-maskable interrupt. See hw/core/nmi.c: nmi_monitor_handle()."""
    takes_it = vm.state.is_a("nmi") or any(
        vm.profile.is_a(obj.type, "nmi") for obj in vm.qom.root.walk()
    )
    if not vm.cpus or not takes_it:
        raise QapiError(vm.profile.traits.no_nmi_text)

actions(
    {
        "stop": lambda vm: vm.lifecycle.stop(),
        "cont": lambda vm: vm.lifecycle.cont(),
        "system_reset": lambda vm: vm.lifecycle.reset("host-qmp-system-reset"),
        "system_powerdown": lambda vm: vm.lifecycle.powerdown(),
        "quit": lambda vm: vm.lifecycle.quit(),
        "watchdog-set-action": lambda vm, action: vm.lifecycle.set_action(watchdog=action),
    }
)

commands(
    {"query-current-machine": lambda vm: {"wakeup-suspend-support": vm.lifecycle.wakeup_support}},
)
