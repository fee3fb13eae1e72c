"""Migration between two libvirtd over every kind of connection."""

from __future__ import annotations

from accept import domainxml
from accept.errors import Failed
from accept.flows.migrating import BASE, NAME, TCP, check_moved, clean_up, migrate, prepare
from accept.lab import Lab
from accept.registry import step


@step("migrate.p2p")
def p2p(lab: Lab) -> None:
    far = prepare(lab)
    here, there = lab.near.mark(), far.mark()
    migrate(lab)
    check_moved(lab.near, far)
    far.wait_event(rf"lifecycle.*{NAME}.*(Resumed|Started) Migrated", there)
    lab.near.wait_event(rf"lifecycle.*{NAME}.*Stopped Migrated", here)


@step("migrate.back")
def back(lab: Lab) -> None:
    far = lab.need_far()
    if not far.state(NAME).startswith("running"):
        raise Failed("no domain there to migrate back")
    far.virsh(*BASE, "--p2p", NAME, lab.near.uri, *TCP, timeout=90)
    check_moved(far, lab.near)


@step("migrate.direct")
def direct(lab: Lab) -> None:
    """Driven by the client."""
    far = prepare(lab)
    lab.near.virsh(*BASE, NAME, far.uri, *TCP, timeout=90)
    check_moved(lab.near, far)


@step("migrate.unix")
def unix(lab: Lab) -> None:
    far = prepare(lab)
    path = lab.sockets / "migration"
    path.unlink(missing_ok=True)
    words = ("--p2p", NAME, far.uri, "--migrateuri", f"unix://{path}")
    lab.near.virsh(*BASE, *words, timeout=90)
    check_moved(lab.near, far)


@step("migrate.tunnelled")
def tunnelled(lab: Lab) -> None:
    far = prepare(lab)
    lab.near.virsh(*BASE, "--p2p", "--tunnelled", NAME, far.uri, timeout=90)
    check_moved(lab.near, far)


@step("migrate.ping-pong")
def ping_pong(lab: Lab) -> None:
    far = prepare(lab)
    for _ in range(2):
        migrate(lab)
        check_moved(lab.near, far)
        far.virsh(*BASE, "--p2p", NAME, lab.near.uri, *TCP, timeout=90)
        check_moved(far, lab.near)


@step("migrate.after-hotplug")
def after_hotplug(lab: Lab) -> None:
    """A hot-plugged disk and NIC travel too: they are on the destination's command line."""
    far = prepare(lab)
    lab.attach(NAME, domainxml.disk(lab.image("mig-sdb.qcow2"), "sdb", "scsi"))
    lab.attach(NAME, domainxml.nic("52:54:00:aa:bb:cc"))
    migrate(lab)
    check_moved(lab.near, far)
    if far.dumpxml(NAME).find("devices/disk/target[@dev='sdb']") is None:
        raise Failed("the disk was lost")
    names = {each["name"] for each in far.qmp(NAME, "qom-list", {"path": "/machine/peripheral"})}
    if not {"scsi0-0-0-1", "net1"} <= names:
        raise Failed(f"the destination's emulator lacks the devices: {sorted(names)}")


@step("migrate.cleanup")
def cleanup(lab: Lab) -> None:
    clean_up(lab)
