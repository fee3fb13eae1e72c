"""What may not be left behind, nor have been said, when all is over."""

from __future__ import annotations

import re

from accept.errors import Failed, Skipped
from accept.lab import Lab
from accept.processes import command_line, orphans
from accept.registry import step
from accept.transcript import HEADER

COMPLAINTS = re.compile(
    r"Unexpected JSON reply|Unknown JSON reply|missing event type|isn't an object|"
    r"unexpected type returned|reply was missing|missing return data|failed to parse json|"
    r"parser error|Unhandled|unknown status"
)
#: what a full run must have shown to a client that watches
EVENTS = (
    "Started Booted",
    "Suspended Paused",
    "Resumed Unpaused",
    "Stopped Destroyed",
    "Stopped Failed",
    "Stopped Saved",
    "Started Restored|Started Booted",
    "Stopped Migrated",
    "event 'reboot'",
    "event 'device-removed'",
    "event 'device-added'",
    "event 'block-job",
)


def ever_ran(lab: Lab) -> None:
    if not any("QEMU_MONITOR_RECV_EVENT" in daemon.log_since() for daemon in lab.daemons):
        raise Skipped("no domain ever ran")


@step("final.no-leftover-process")
def no_leftover_process(lab: Lab) -> None:
    """With all domains gone nothing that libvirtd started may be left."""
    ever_ran(lab)
    for daemon in lab.daemons:
        if daemon.alive:
            for name in daemon.virsh("list", "--name").split():
                daemon.ask("destroy", name)
    try:
        lab.until(lambda: not orphans(), 10, "")
    except Failed:
        raise Failed(f"left over: {[command_line(pid)[:100] for pid in orphans()]}") from None


@step("final.no-traceback")
def no_traceback(lab: Lab) -> None:
    """An emulator's stdout and stderr may not hold a Python traceback."""
    ever_ran(lab)
    for daemon in lab.daemons:
        for path in sorted(daemon.launch.emulator_logs.glob("*.log")):
            said = path.read_text(errors="replace")
            start = said.find("Traceback (most recent call last)")
            if start >= 0:
                raise Failed(f"{path.name}: {said[start : start + 1500][-400:]}")


@step("final.libvirtd-complaints")
def libvirtd_complaints(lab: Lab) -> None:
    """Libvirtd may not have complained about the shape of monitor messages."""
    ever_ran(lab)
    for daemon in lab.daemons:
        for line in daemon.log_since().splitlines():
            header = HEADER.match(line)
            if not header or header.group(3) not in ("error", "warning"):
                continue
            if COMPLAINTS.search(header.group(6)):
                raise Failed(f"libvirtd {daemon.name}: {header.group(6)[:300]}")


@step("events.summary")
def summary(lab: Lab) -> None:
    """A client must have seen every kind of event."""
    if lab.options.only or lab.options.flow:
        raise Skipped("only for a full run")
    said = lab.near.events()
    missing = [each for each in EVENTS if not re.search(each, said)]
    if missing:
        raise Failed("not seen: " + ", ".join(missing))
