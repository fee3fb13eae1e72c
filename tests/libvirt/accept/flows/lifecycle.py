"""A domain from its definition to its end."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from accept.domainxml import Domain
from accept.errors import Failed
from accept.lab import Lab
from accept.registry import step

NAME = "acc-life"


def defined(lab: Lab) -> None:
    lab.define(
        Domain(NAME, disk=lab.image(f"{NAME}.qcow2"), extra=lab.rich_devices(NAME))
    )


def running(lab: Lab) -> None:
    lab.running(NAME, extra=lab.rich_devices(NAME))


@step("lifecycle.define")
def define(lab: Lab) -> None:
    defined(lab)
    lab.near.wait_state(NAME, "shut off")


@step("lifecycle.start")
def start(lab: Lab) -> None:
    mark = lab.near.mark()
    if lab.near.state(NAME) == "absent":
        defined(lab)
    lab.near.virsh("start", NAME, timeout=60)
    lab.near.wait_state(NAME, "running")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Started", mark)
    pid = lab.near.pid_of(NAME)
    if not Path(f"/proc/{pid}").exists():
        raise Failed(f"the pid file names {pid}, which is not running")


@step("lifecycle.dominfo")
def dominfo(lab: Lab) -> None:
    running(lab)
    said = lab.near.virsh("dominfo", NAME)
    if not re.search(r"State:\s+running", said) or not re.search(r"CPU\(s\):\s+1", said):
        raise Failed(said)
    lab.near.virsh("domid", NAME)


@step("lifecycle.domstats")
def domstats(lab: Lab) -> None:
    running(lab)
    said = lab.near.virsh("domstats", NAME)
    for key in ("state.state=1", "vcpu.current=1", "block.count=2", "balloon.current="):
        if key not in said:
            raise Failed(f"domstats lacks {key}: {said[:600]}")


@step("lifecycle.stats")
def stats(lab: Lab) -> None:
    running(lab)
    lab.near.virsh("domblkstat", NAME, "vda")
    said = lab.near.virsh("domblkinfo", NAME, "vda")
    if not re.search(r"Capacity:\s+67108864", said):
        raise Failed("domblkinfo: " + said)
    lab.near.virsh("domblklist", "--details", NAME)
    for command in ("dommemstat", "domblkerror", "iothreadinfo", "domcontrol"):
        lab.near.virsh(command, NAME)


@step("lifecycle.vcpuinfo")
def vcpuinfo(lab: Lab) -> None:
    running(lab)
    said = lab.near.virsh("vcpuinfo", NAME)
    if "VCPU:" not in said or "running" not in said:
        raise Failed(said)
    lab.near.virsh("vcpupin", NAME)
    lab.near.ask("vcpucount", "--live", "--current", NAME)


@step("lifecycle.vcpu-thread")
def vcpu_thread(lab: Lab) -> None:
    """The thread of a CPU must be one of the emulator's."""
    running(lab)
    pid = lab.near.pid_of(NAME)
    cpus = lab.near.qmp(NAME, "query-cpus-fast")
    if len(cpus) != 1:
        raise Failed(f"{len(cpus)} cpus")
    thread = cpus[0]["thread-id"]
    if not Path(f"/proc/{pid}/task/{thread}").exists():
        raise Failed(f"thread-id {thread} is not a thread of {pid}")


@step("lifecycle.ttyconsole")
def ttyconsole(lab: Lab) -> None:
    running(lab)
    tty = lab.near.virsh("ttyconsole", NAME).strip()
    if not re.match(r"^/dev/pts/\d+$", tty):
        raise Failed(f"ttyconsole: {tty!r}")
    os.close(os.open(tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))


@step("lifecycle.vncdisplay")
def vncdisplay(lab: Lab) -> None:
    running(lab)
    said = lab.near.virsh("vncdisplay", NAME).strip()
    if not re.match(r"^127\.0\.0\.1:\d+$", said):
        raise Failed("vncdisplay: " + said)


@step("lifecycle.qmp-passthrough")
def qmp_passthrough(lab: Lab) -> None:
    running(lab)
    status = lab.near.qmp(NAME, "query-status")
    if not status.get("running"):
        raise Failed(str(status))
    if "qemu" not in lab.near.qmp(NAME, "query-version"):
        raise Failed("query-version without qemu")
    outcome = lab.near.ask("qemu-monitor-command", NAME, '{"execute":"no-such-command"}')
    if "CommandNotFound" not in outcome.out + outcome.err:
        raise Failed(f"no-such-command: {outcome}")


@step("lifecycle.hmp-passthrough")
def hmp_passthrough(lab: Lab) -> None:
    running(lab)
    said = lab.near.hmp(NAME, "info status")
    if "VM status: running" not in said:
        raise Failed(repr(said))


@step("lifecycle.set-lifecycle-action")
def set_lifecycle_action(lab: Lab) -> None:
    running(lab)
    lab.near.virsh("set-lifecycle-action", NAME, "reboot", "destroy", "--live")
    lab.near.virsh("set-lifecycle-action", NAME, "reboot", "restart", "--live")


@step("lifecycle.suspend")
def suspend(lab: Lab) -> None:
    running(lab)
    mark = lab.near.mark()
    lab.near.virsh("suspend", NAME)
    lab.near.wait_state(NAME, "paused")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Suspended", mark)
    if lab.near.qmp(NAME, "query-status").get("status") != "paused":
        raise Failed("the emulator does not say paused")


@step("lifecycle.resume")
def resume(lab: Lab) -> None:
    if not lab.near.state(NAME).startswith("paused"):
        running(lab)
        lab.near.virsh("suspend", NAME)
    mark = lab.near.mark()
    lab.near.virsh("resume", NAME)
    lab.near.wait_state(NAME, "running")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Resumed", mark)


@step("lifecycle.external-stop-cont")
def external_stop_cont(lab: Lab) -> None:
    """STOP and RESUME events that libvirt did not cause."""
    running(lab)
    mark = lab.near.mark()
    lab.near.qmp(NAME, "stop")
    lab.near.wait_state(NAME, "paused")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Suspended", mark)
    lab.near.qmp(NAME, "cont")
    lab.near.wait_state(NAME, "running")


@step("lifecycle.reset")
def reset(lab: Lab) -> None:
    running(lab)
    mark = lab.near.mark()
    lab.near.virsh("reset", NAME)
    lab.near.wait_state(NAME, "running")
    lab.near.wait_event(rf"event 'reboot' for domain '{NAME}", mark)


def pressed(lab: Lab) -> None:
    """Until the emulator has taken the press of the button: it answers in order."""
    outcome = lab.near.ask("qemu-monitor-command", NAME, '{"execute":"query-status"}')
    if outcome.code and not lab.near.state(NAME).startswith(("in shutdown", "shut off")):
        raise Failed(outcome.err)


@step("lifecycle.reboot")
def reboot(lab: Lab) -> None:
    """The ACPI power button; without a guest nothing more happens."""
    running(lab)
    pid = lab.near.pid_of(NAME)
    lab.near.virsh("reboot", NAME, "--mode", "acpi")
    pressed(lab)
    lab.near.wait_state(NAME, "running", 30)
    if lab.near.pid_of(NAME) != pid:
        raise Failed("another emulator process after a reboot")


@step("lifecycle.shutdown-request")
def shutdown_request(lab: Lab) -> None:
    """Firmware ignores it, a guest would power off: either is fine."""
    running(lab)
    lab.near.virsh("shutdown", NAME, "--mode", "acpi")
    pressed(lab)
    state = lab.near.state(NAME)
    if not state.startswith(("running", "in shutdown", "shut off")):
        raise Failed(state)
    if state.startswith("in shutdown"):
        lab.near.wait_state(NAME, "shut off", 60)


@step("lifecycle.send-key")
def send_key(lab: Lab) -> None:
    running(lab)
    lab.near.virsh("send-key", NAME, "KEY_LEFTCTRL", "KEY_A")


@step("lifecycle.screenshot")
def screenshot(lab: Lab) -> None:
    running(lab)
    path = lab.scratch / "shot.ppm"
    lab.near.virsh("screenshot", NAME, path)
    head = path.read_bytes()[:8]
    if not head.startswith((b"P6", b"\x89PNG")):
        raise Failed(f"not an image: {head!r}")


@step("lifecycle.inject-nmi")
def inject_nmi(lab: Lab) -> None:
    running(lab)
    lab.near.virsh("inject-nmi", NAME)


@step("lifecycle.reconnect")
def reconnect(lab: Lab) -> None:
    """Libvirtd goes away and comes back: the emulator must survive and be found again."""
    running(lab)
    pid = lab.near.pid_of(NAME)
    lab.near.stop()
    if not Path(f"/proc/{pid}").exists():
        raise Failed("the emulator ended with libvirtd")
    lab.near.start()
    lab.near.wait_state(NAME, "running", 40)
    lab.near.start_events()
    lab.until(lambda: "QEMU" in lab.near.virsh("version", timeout=60), 30, "version")
    if not lab.near.qmp(NAME, "query-status").get("running"):
        raise Failed("not running after the reconnect")
    if lab.near.pid_of(NAME) != pid:
        raise Failed("another emulator process")


@step("lifecycle.reconnect-paused")
def reconnect_paused(lab: Lab) -> None:
    """What changed while libvirtd was away must be noticed."""
    running(lab)
    lab.near.virsh("suspend", NAME)
    lab.near.stop()
    lab.near.start()
    lab.near.wait_state(NAME, "paused", 40)
    lab.near.start_events()
    lab.near.virsh("resume", NAME)
    lab.near.wait_state(NAME, "running")


@step("lifecycle.destroy")
def destroy(lab: Lab) -> None:
    running(lab)
    pid = lab.near.pid_of(NAME)
    mark = lab.near.mark()
    began = time.monotonic()
    lab.near.virsh("destroy", NAME, timeout=60)
    took = time.monotonic() - began
    lab.near.wait_state(NAME, "shut off (destroyed)")
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Stopped Destroyed", mark)
    lab.until(lambda: not Path(f"/proc/{pid}").exists(), 5, "the emulator process to go")
    if took > 9:
        raise Failed(f"destroy took {took:.1f}s: SIGTERM was ignored, libvirt had to SIGKILL")


@step("lifecycle.start-paused")
def start_paused(lab: Lab) -> None:
    if lab.near.state(NAME) == "absent":
        defined(lab)
    lab.near.ask("destroy", NAME)
    lab.near.virsh("start", "--paused", NAME, timeout=60)
    lab.near.wait_state(NAME, "paused")
    status = lab.near.qmp(NAME, "query-status")
    if status.get("running") or status.get("status") not in ("prelaunch", "paused"):
        raise Failed(str(status))
    lab.near.virsh("resume", NAME)
    lab.near.wait_state(NAME, "running")


@step("lifecycle.destroy-graceful")
def destroy_graceful(lab: Lab) -> None:
    running(lab)
    lab.near.virsh("destroy", "--graceful", NAME, timeout=60)
    lab.near.wait_state(NAME, "shut off")


@step("lifecycle.undefine")
def undefine(lab: Lab) -> None:
    lab.near.ask("destroy", NAME)
    lab.near.virsh("undefine", NAME)
    if lab.near.state(NAME) != "absent":
        raise Failed("still there")
