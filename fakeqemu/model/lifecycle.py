"""Starting, stopping, resetting and ending the machine.

QEMU turns these requests into flags that its main loop looks at before the reply of the
command goes out; so everything here happens at once, and the events come before the reply.
The process ends after the reply: `on_exit` callbacks only say that it is to end.

See system/cpus.c: vm_start(), vm_stop() and do_vm_stop(); system/runstate.c: qemu_system_reset(),
qemu_system_guest_panicked() and main_loop_should_exit(); monitor/qmp-cmds.c: qmp_cont().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import QapiError

if TYPE_CHECKING:
    from fakeqemu.configuration import Configuration
    from fakeqemu.model.process import Process
    from fakeqemu.model.runstate import RunState

#: ShutdownCause values that say the guest itself asked
GUEST_CAUSES = frozenset({"guest-shutdown", "guest-reset", "guest-panic"})

#: what each action is before anybody chooses
DEFAULT_ACTIONS: Mapping[str, str] = {
    "reboot": "reset",
    "shutdown": "poweroff",
    "panic": "shutdown",
    "watchdog": "reset",
}


class Lifecycle:
    """Run control of one machine."""

    def __init__(
        self, process: Process, runstate: RunState, configuration: Configuration
    ) -> None:
        self._process = process
        self._runstate = runstate
        self._events = process.events
        #: whether the machine starts by itself once it is ready, or once incoming is done
        self.autostart = configuration.autostart
        #: "reboot", "shutdown", "panic", "watchdog" -> action
        self.actions: dict[str, str] = {**DEFAULT_ACTIONS, **configuration.action}
        #: whether the stopped guest was suspended, and a start makes it so again
        self.was_suspended = False
        #: called with (running, state) when the guest starts or stops, before the event
        self.on_state_change: list[Callable[[bool, str], None]] = []
        #: called when the guest is to stop, even where it stands already, after STOP
        self.on_stopped: list[Callable[[], None]] = []
        #: called after RESUME, when the guest has been let run
        self.on_started: list[Callable[[], None]] = []
        #: called with the cause when the machine is reset, before RESET
        self.on_reset: list[Callable[[str], None]] = []
        #: called after RESET, for what a reset completes
        self.after_reset: list[Callable[[], None]] = []
        #: called with the cause of a shutdown after SHUTDOWN
        self.on_shutdown: list[Callable[[str], None]] = []
        #: called when the power button is pressed, after POWERDOWN
        self.on_powerdown: list[Callable[[], None]] = []
        #: reasons for which `cont` is refused: text -> test
        self.cont_blockers: dict[str, Callable[[], bool]] = {}
        #: called by `cont` once it is not refused, even where it only sets autostart
        self.on_cont: list[Callable[[], None]] = []
        #: called by `cont` before the guest starts; may raise QapiError
        self.before_cont: list[Callable[[], None]] = []
        #: whether the board can resume a guest that sleeps in S3
        self.wakeup_support = False

    # -- starting and stopping -------------------------------------------------------------

    def stop(self) -> None:
        """What the command `stop` does; on an incoming machine only autostart goes off."""
        if self._runstate.check("inmigrate"):
            self.autostart = False
        else:
            self.vm_stop("paused")

    def cont(self) -> None:
        """What the command `cont` does.

        Raises QapiError where the state does not allow it.
        """
        runstate = self._runstate
        for text, blocked in self.cont_blockers.items():
            if blocked():
                raise QapiError(text)
        if runstate.needs_reset:
            raise QapiError("Resetting the Virtual Machine is required")
        if runstate.check("suspended"):
            return
        if runstate.check("finish-migrate"):
            raise QapiError("Migration is not finalized yet")
        for call in tuple(self.on_cont):
            call()
        if runstate.check("inmigrate"):
            self.autostart = True
            return
        for prepare in self.before_cont:
            prepare()
        self.vm_start()

    def vm_start(self) -> None:
        """Let the guest run (or sleep on, if it was suspended): RESUME, unless it runs."""
        runstate = self._runstate
        if runstate.running:
            return
        state = "suspended" if self.was_suspended else "running"
        if runstate.check(state):
            return
        runstate.set(state)
        self._notify(True, state)
        self._events.emit("RESUME")
        for listener in tuple(self.on_started):
            listener()

    def vm_stop(self, state: str, *, event: bool = True) -> bool:
        """Stop a live guest with `state` as reason: STOP. False if it was not live.

        Raises QapiError for what a guest that sleeps cannot bring about.
        """
        self._check_awake_for(state)
        runstate = self._runstate
        live = runstate.live
        if live:
            self.was_suspended = runstate.check("suspended")
            runstate.set(state)
            self._notify(False, state)
            if event:
                self._events.emit("STOP")
        for call in tuple(self.on_stopped):
            call()
        return live

    def vm_stop_force_state(self, state: str) -> None:
        """As `vm_stop`, but a guest that is stopped already changes to `state` all the same."""
        if not self.vm_stop(state):
            self._runstate.set(state)

    # -- reset, power, end ---------------------------------------------------------------

    def reset(self, cause: str) -> None:
        """Reset the machine for `cause` (a ShutdownCause), or shut down if so configured."""
        if self.actions["reboot"] == "shutdown" and cause != "subsystem-reset":
            self.shutdown(cause)
            return
        self.system_reset(cause)
        if not self._runstate.check("running", "inmigrate", "finish-migrate"):
            self._runstate.set("prelaunch")

    def system_reset(self, cause: str) -> None:
        """Reset the devices: RESET, except for causes the guest does not notice."""
        for listener in tuple(self.on_reset):
            listener(cause)
        if self._process.exit_code is not None:
            return  # a device that could not be reset ends the process
        if cause not in ("none", "subsystem-reset", "snapshot-load"):
            self._events.emit("RESET", self._cause(cause))
        self.was_suspended = False
        for completed in tuple(self.after_reset):
            completed()

    def shutdown(self, cause: str, *, code: int = 0) -> None:
        """Shut down for `cause`: SHUTDOWN, then pause or end as the action says."""
        self._events.emit("SHUTDOWN", self._cause(cause))
        for listener in tuple(self.on_shutdown):
            listener(cause)
        if self.actions["shutdown"] == "pause":
            self.vm_stop("shutdown")
            return
        if cause == "guest-panic" and self.actions["panic"] == "exit-failure":
            code = 1
        self._process.exit(code)

    def quit(self, cause: str = "host-qmp-quit", *, code: int = 0) -> None:
        """End the process whatever the shutdown action: `quit`, or a signal."""
        self.actions["shutdown"] = "poweroff"
        self.shutdown(cause, code=code)

    def killed(self) -> None:
        """SIGTERM, SIGINT or SIGHUP came."""
        self.quit("host-signal")

    def powerdown(self) -> None:
        """Press the power button: POWERDOWN."""
        self._events.emit("POWERDOWN")
        for listener in tuple(self.on_powerdown):
            listener()

    # -- what a guest can do ---------------------------------------------------------------

    def suspend(self) -> None:
        """The guest goes to sleep in S3: SUSPEND."""
        if self._runstate.check("suspended") or not self._runstate.can("suspended"):
            return
        for listener in tuple(self.on_state_change):
            listener(False, "suspended")
        self._runstate.set("suspended")
        self._events.emit("SUSPEND")

    def wakeup(self) -> None:
        """Wake a guest that sleeps: WAKEUP. Raises QapiError if it does not."""
        runstate = self._runstate
        if not runstate.check("suspended"):
            raise QapiError("Unable to wake up: guest is not in suspended state")
        runstate.set("running")
        self._notify(True, "running")
        self._events.emit("WAKEUP")

    def guest_panicked(self, info: dict[str, Any] | None = None) -> None:
        """The guest says that it crashed; `info` is a GuestPanicInformation.

        Raises QapiError for a guest that sleeps.
        """
        self._check_awake_for("guest-panicked")
        panic, data = self.actions["panic"], {"info": info} if info else {}
        paused = panic == "pause" or (
            panic == "shutdown" and self.actions["shutdown"] == "pause"
        )
        if paused:
            self._events.emit("GUEST_PANICKED", {"action": "pause", **data})
            self.vm_stop("guest-panicked")
        elif panic in ("shutdown", "exit-failure"):
            self._events.emit("GUEST_PANICKED", {"action": "poweroff", **data})
            self.vm_stop("guest-panicked")
            self.shutdown("guest-panic")
        else:
            self._events.emit("GUEST_PANICKED", {"action": "run", **data})

    def watchdog_expired(self) -> None:
        """A watchdog device has run out: do as the watchdog action says."""
        action = self.actions["watchdog"]
        if action == "pause":
            self._check_awake_for("watchdog")
        if action == "inject-nmi":
            self._events.emit("WATCHDOG", {"action": action})
            return
        self._events.emit("WATCHDOG", {"action": action})
        if action == "reset":
            self.reset("guest-reset")
        elif action == "shutdown":
            self.powerdown()
        elif action == "poweroff":
            self._process.exit(0)
        elif action == "pause":
            self.vm_stop("watchdog")

    def _check_awake_for(self, state: str) -> None:
        """Raise QapiError if a guest sleeps for which the run state `state` would be a way out.

        QEMU has no such transition: it would end by abort().
        """
        runstate = self._runstate
        if runstate.live and not runstate.can(state):
            raise QapiError("the guest sleeps and does nothing of the kind: wake it up first")

    # -- settings ----------------------------------------------------------------------------

    def set_action(self, **actions: str | None) -> None:
        """Change what happens on reboot, shutdown, panic and watchdog; None changes nothing."""
        for name, action in actions.items():
            if action is not None:
                self.actions[name] = action

    def _notify(self, running: bool, state: str) -> None:
        for listener in tuple(self.on_state_change):
            listener(running, state)

    @staticmethod
    def _cause(cause: str) -> dict[str, Any]:
        return {"guest": cause in GUEST_CAUSES, "reason": cause}
