"""Emulators and guests that end by themselves."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable

from accept.domainxml import Domain
from accept.errors import Failed, Skipped
from accept.lab import Lab
from accept.registry import step

NAME = "acc-crash"
#: how often a port is poked until the firmware has set it up
POKES = 25


@step("crash.sigkill")
def sigkill(lab: Lab) -> None:
    lab.running(NAME)
    mark = lab.near.mark()
    os.kill(lab.near.pid_of(NAME), signal.SIGKILL)
    lab.near.wait_state(NAME, "shut off (crashed)")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Stopped Failed", mark)


@step("crash.sigterm")
def sigterm(lab: Lab) -> None:
    """The emulator says SHUTDOWN (not the guest, host-signal) and ends."""
    lab.running(NAME)
    mark = lab.near.mark()
    os.kill(lab.near.pid_of(NAME), signal.SIGTERM)
    lab.near.wait_state(NAME, "shut off")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Stopped", mark)
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Shutdown Finished after host request", mark)


@step("crash.qmp-quit")
def qmp_quit(lab: Lab) -> None:
    lab.running(NAME)
    mark = lab.near.mark()
    lab.near.ask("qemu-monitor-command", NAME, '{"execute":"quit"}')
    lab.near.wait_state(NAME, "shut off")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Stopped", mark)


@step("crash.restart-after")
def restart_after(lab: Lab) -> None:
    lab.running(NAME)
    lab.near.wait_state(NAME, "running")


def poke(lab: Lab, domain: str, line: str, done: Callable[[], object]) -> None:
    """Write to a port from the monitor until the guest has done what that asks for."""
    for _ in range(POKES):
        outcome = lab.near.ask("qemu-monitor-command", "--hmp", domain, line)
        if outcome.code == 0 and "unknown command" in outcome.out:
            raise Skipped(f"there is no HMP command {line.split(maxsplit=1)[0]!r}")
        with contextlib.suppress(Failed):
            lab.until(done, 0.8, f"what {line!r} asks for")
            return
    raise Failed(f"{line!r} does nothing")


@step("guest.reset")
def guest_reset(lab: Lab) -> None:
    """RESET by the guest, which is libvirt's reboot."""
    lab.running(NAME)
    mark = lab.near.mark()
    event = rf"event 'reboot' for domain '{NAME}"
    poke(
        lab, NAME, lab.options.guest_reset_hmp, lambda: re.search(event, lab.near.events()[mark:])
    )


@step("guest.shutdown")
def guest_shutdown(lab: Lab) -> None:
    """SHUTDOWN by the guest: libvirt ends the emulator."""
    lab.running(NAME)
    mark = lab.near.mark()
    poke(
        lab,
        NAME,
        lab.options.guest_shutdown_hmp,
        lambda: lab.near.state(NAME).startswith("shut off"),
    )
    lab.near.wait_state(NAME, "shut off (shutdown)")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Shutdown Finished after guest request", mark)
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Stopped Shutdown", mark)


@step("guest.panic")
def guest_panic(lab: Lab) -> None:
    """GUEST_PANICKED, and then what on_crash says."""
    name = "acc-panic"
    lab.running(name, on_crash="preserve", extra="<panic model='isa'/>")
    mark = lab.near.mark()
    poke(lab, name, lab.options.guest_panic_hmp, lambda: "crashed" in lab.near.state(name))
    lab.near.wait_event(rf"lifecycle.*{name}.*Crashed Panicked", mark)
    lab.near.gone(name)


@step("crash.cleanup")
def cleanup(lab: Lab) -> None:
    lab.near.gone(NAME)


@step("crash.on-reboot-destroy")
def on_reboot_destroy(lab: Lab) -> None:
    name = "acc-noreboot"
    lab.define(Domain(name, disk=lab.image(f"{name}.qcow2"), on_reboot="destroy"))
    lab.near.virsh("start", name, timeout=60)
    lab.near.virsh("reset", name)
    lab.near.wait_state(name, "shut off", 20)
    lab.near.gone(name)
