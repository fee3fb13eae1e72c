"""A domain whose emulator has the migration parameter `local`, as proposed for TAP.

Libvirt knows nothing of it: the emulator's own arguments set it on both sides, where the
destination needs it before its TAP is made. A pipe takes no descriptors, so a domain is saved while
`local` is off: with it on QEMU refuses the pipe and keeps it open, and libvirt, which waits for its
helper at the other end, waits for ever.
"""

from __future__ import annotations

from typing import Any

from accept.errors import Failed, Skipped
from accept.flows.migrating import BASE
from accept.lab import Lab
from accept.registry import step

NAME = "acc-local"
MOVED = "acc-local-tap"
#: of machine types before 11.2 a TAP takes part only if it says so
TAP = (
    *("-incoming", "config:local=on"),
    *("-netdev", "tap,id=lt0,ifname=acclt0,script=no,local-migration-supported=on"),
)


def parameters(lab: Lab, domain: str = NAME) -> Any:
    shown = lab.near.qmp(domain, "query-migrate-parameters")
    if "local" not in shown:
        raise Skipped("the emulator has no migration parameter 'local'")
    return shown


def switch(lab: Lab, on: bool) -> None:
    lab.near.qmp(NAME, "migrate-set-parameters", {"local": on})
    if parameters(lab)["local"] is not on:
        raise Failed(f"local is not {on}")


@step("local.save")
def save(lab: Lab) -> None:
    lab.running(NAME)
    parameters(lab)
    switch(lab, True)
    switch(lab, False)
    lab.near.virsh("save", NAME, lab.images / "local.img", timeout=60)
    lab.near.wait_state(NAME, "shut off (saved)")


@step("local.restore")
def restore(lab: Lab) -> None:
    path = lab.images / "local.img"
    if not path.exists():
        raise Skipped("no image was saved")
    lab.near.virsh("restore", path, timeout=60)
    lab.near.wait_state(NAME, "running")
    switch(lab, True)


@step("local.migrate")
def migrate(lab: Lab) -> None:
    """Both sides have `local` on and one interface, which the destination must not open."""
    lab.running(NAME)
    parameters(lab)
    far = lab.need_far()
    for daemon in (lab.near, far):
        daemon.gone(MOVED)
    lab.running(MOVED, arguments=TAP)
    if parameters(lab, MOVED)["local"] is not True:
        raise Failed("local is not on at the source")
    path = lab.sockets / "local"
    path.unlink(missing_ok=True)
    words = ("--p2p", MOVED, far.uri, "--migrateuri", f"unix://{path}")
    lab.near.virsh(*BASE, *words, timeout=90)
    far.wait_state(MOVED, "running")
    if lab.near.state(MOVED) != "absent":
        raise Failed("the source still has the domain")
    if far.qmp(MOVED, "query-migrate-parameters")["local"] is not True:
        raise Failed("local is not on at the destination")
    again = {"type": "tap", "id": "lt1", "ifname": "acclt0", "script": "no"}
    try:
        far.qmp(MOVED, "netdev_add", again)
    except Failed as refused:
        if "Device or resource busy" not in str(refused):
            raise
    else:
        raise Failed("the destination does not have the interface")


@step("local.cleanup")
def cleanup(lab: Lab) -> None:
    for daemon in (lab.near, lab.far):
        if daemon.alive:
            for name in (NAME, MOVED):
                daemon.gone(name)
