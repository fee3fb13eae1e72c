"""Commands of QAPI's run-state module and those of misc that control running.

See system/runstate.c: qmp_query_status(); monitor/qmp-cmds.c: qmp_cont() and qmp_quit();
system/runstate-action.c: qmp_set_action(); system/vl.c: qmp_x_exit_preconfig(); system/cpus.c:
qmp_inject_nmi().
"""

from __future__ import annotations

from typing import Any

from fakeqemu.commands.registry import command
from fakeqemu.model.machine import Machine
from fakeqemu.qapi.errors import QapiError


@command("query-status")
def query_status(vm: Machine) -> dict[str, Any]:
    """StatusInfo."""
    status: dict[str, Any] = {"running": vm.runstate.running}
    if vm.profile.traits.status_singlestep:
        status["singlestep"] = False
    return {**status, "status": vm.runstate.current}


@command("stop")
def stop(vm: Machine) -> None:
    """Pause the guest."""
    vm.lifecycle.stop()


@command("cont")
def cont(vm: Machine) -> None:
    """Let the guest run."""
    vm.lifecycle.cont()


@command("system_reset")
def system_reset(vm: Machine) -> None:
    """Press the reset button."""
    vm.lifecycle.reset("host-qmp-system-reset")


@command("system_powerdown")
def system_powerdown(vm: Machine) -> None:
    """Press the power button."""
    vm.lifecycle.powerdown()


@command("system_wakeup")
def system_wakeup(vm: Machine) -> None:
    """Wake a guest that sleeps."""
    if not vm.lifecycle.wakeup_support:
        raise QapiError("wake-up from suspend is not supported by this guest")
    vm.lifecycle.wakeup()


@command("quit")
def quit_(vm: Machine) -> None:
    """End the process."""
    vm.lifecycle.quit()


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


@command("watchdog-set-action")
def watchdog_set_action(vm: Machine, action: str) -> None:
    """Say what happens when the watchdog runs out."""
    vm.lifecycle.set_action(watchdog=action)


@command("x-exit-preconfig")
def x_exit_preconfig(vm: Machine) -> None:
    """Let a boot that waits in preconfig go on."""
    if not vm.preconfig or vm.exit_preconfig is None:
        raise QapiError("The command is permitted only before machine initialization")
    vm.exit_preconfig()


@command("query-current-machine")
def query_current_machine(vm: Machine) -> dict[str, Any]:
    """CurrentMachineParams."""
    return {"wakeup-suspend-support": vm.lifecycle.wakeup_support}


@command("inject-nmi")
def inject_nmi(vm: Machine) -> None:
    """Give the guest a non-maskable interrupt."""
    if not vm.cpus:
        raise QapiError(vm.profile.traits.no_nmi_text)
